# SPDX-License-Identifier: Apache-2.0
"""What the test modules share: oracle packages, tiers and threads, data, and comparison."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import qkernels as qk

ROOT = Path(__file__).resolve().parent.parent
THREADS = (1, 2, 5)
# Each tile edge of every tier so far (16, 32, 48, 64), one less, one more, and primes between.
EDGES = (0, 1, 2, 7, 13, 15, 16, 17, 31, 32, 33, 47, 48, 53, 63, 64, 65, 97, 127)


def require(name: str, *, in_test_extra: bool = True) -> ModuleType:
    """Import an oracle package. Without it the module is skipped, but not on CI where [test]
    installs it: there a missing oracle is a failure."""
    try:
        return importlib.import_module(name)
    except ImportError:
        linux = platform.machine() == "x86_64" and sys.platform == "linux"
        if os.environ.get("CI") and linux and in_test_extra:
            raise
        pytest.skip(f"{name} is not installed", allow_module_level=True)


def everywhere(call: Callable[[], Any], threads: tuple[int, ...] = THREADS) -> Any:
    """The result of `call`, after running it on every tier of this CPU and at every thread count
    and finding the same bits each time."""
    first, first_name = None, None
    for isa in qk.available_isas():
        with qk.use_isa(isa):
            for count in threads:
                with qk.num_threads(count):
                    assert (qk.isa(), qk.get_num_threads()) == (isa, count)
                    result = call()
                if first_name is None:
                    first, first_name = result, f"{isa} at {count} threads"
                    first = (
                        tuple(map(np.copy, result)) if isinstance(result, tuple) else result.copy()
                    )
                else:
                    same(result, first, f"{isa} at {count} threads against {first_name}")
    return first


def same(got: Any, want: Any, what: str = "") -> None:
    """Equal dtype, shape and bits (any NaN equals any NaN, -0.0 equals 0.0)."""
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for one, other in zip(got, want, strict=True):
            same(one, other, what)
        return
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    np.testing.assert_array_equal(got, want, err_msg=what)


def integers(rng: np.random.Generator, shape: Any, dtype: str = "int8") -> np.ndarray:
    """Uniform over the whole range of the dtype."""
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max + 1, shape).astype(dtype)


def zero_point(rng: np.random.Generator, dtype: str, shape: Any = ()) -> Any:
    """A scalar (a Python int) or an int32 array within the dtype."""
    info = np.iinfo(dtype)
    values = rng.integers(info.min, info.max + 1, shape)
    return int(values) if shape == () else values.astype(np.int32)


def scales(rng: np.random.Generator, shape: Any = (), low: float = 1e-3, high: float = 2e-2) -> Any:
    """float32 scales; a scalar is a Python float that float32 holds exactly."""
    values = rng.uniform(low, high, shape)
    return float(np.float32(values)) if shape == () else values.astype(np.float32)


def attempt(call: Callable[[], Any], word: str) -> Any:
    """The result of `call`, or None when it is refused by an error that names `word`."""
    try:
        return call()
    except qk.QKernelsError as error:
        if word not in str(error):
            raise
        return None


def placements(array: np.ndarray) -> dict[str, np.ndarray]:
    """The same values in other memory: strided, reversed, transposed, unaligned, read-only."""
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1] + 1), array.dtype)
    wide[..., 1::2] = array
    backwards = np.ascontiguousarray(np.flip(array))
    raw = np.zeros(array.nbytes + 1, np.uint8)
    unaligned = raw[1:].view(array.dtype).reshape(array.shape)
    unaligned[...] = array
    frozen = array.copy()
    frozen.flags.writeable = False
    return {
        "strided columns": wide[..., 1::2],
        "strided rows": np.repeat(array, 3, axis=0)[::3],
        "negative strides": np.flip(backwards),
        "Fortran order": np.asfortranarray(array),
        "unaligned": unaligned,
        "read-only": frozen,
    }


def run_python(code: str, *flags: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter with the environment changed by `env` ("" unsets nothing)."""
    path = os.pathsep.join([str(Path(qk.__file__).parents[1]), str(ROOT / "tests")])
    base = {k: v for k, v in os.environ.items() if not k.startswith("QKERNELS_")}
    return subprocess.run(
        [sys.executable, *flags, "-c", code],
        env=base | {"PYTHONPATH": path} | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
