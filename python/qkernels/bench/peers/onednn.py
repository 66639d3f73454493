# SPDX-License-Identifier: Apache-2.0
"""oneDNN, through a small C++ shim that is compiled against the prefix in ONEDNN_ROOT.

The package on PyPI has no OpenMP build, so oneDNN is built from its source once:

    cmake -S oneDNN -B build -DCMAKE_BUILD_TYPE=Release -DDNNL_CPU_RUNTIME=OMP \\
          -DDNNL_BUILD_TESTS=OFF -DDNNL_BUILD_EXAMPLES=OFF -DCMAKE_INSTALL_PREFIX=$ONEDNN_ROOT \\
          "-DONEDNN_ENABLE_PRIMITIVE=MATMUL;CONVOLUTION;REORDER"

Weights, and the images of convolutions, are in the layouts that the primitive asks for, brought
into them ahead; matrices stay as NumPy has them. The loop over calls is in C++. Dynamic
quantization is a vectorised pass before the product, whose scales a row come back in as a
post-operation.
"""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import machine
from qkernels.bench.case import Case, Data, aligned_empty
from qkernels.bench.contender import Run
from qkernels.bench.verdict import judge

from .base import Fetch, Peer, cache_folder, onednn_environment

LIBRARY = "oneDNN"

environment = onednn_environment

_SHIM = Path(__file__).with_name("onednn_shim.cc")
_FLAGS = [
    *("-O3", "-march=native", "-std=c++17", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"),
    *("-fPIC", "-shared"),
]


def discover() -> Sequence[Peer] | str:
    root = os.environ.get("ONEDNN_ROOT", "")
    if not root:
        return "oneDNN is not measured: ONEDNN_ROOT does not name a prefix that it is installed in."
    try:
        library = _load(Path(root))
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        return f"oneDNN is not measured: its shim cannot be built: {detail.strip()[-300:]}"
    numbers = (ctypes.c_int32 * 3)()
    library.qb_version(numbers)
    version = ".".join(map(str, numbers))
    dtypes = ["int8", "float32", *(["bfloat16"] if library.qb_has_bfloat16() else [])]
    return [OneDNN(library, version, dtype) for dtype in dtypes]


def _load(root: Path) -> ctypes.CDLL:
    """The shim, compiled when source, prefix and CPU are seen for the first time."""
    headers = root / "include" / "oneapi" / "dnnl" / "dnnl.hpp"
    folder = next((root / name for name in ("lib", "lib64") if (root / name).is_dir()), None)
    if not headers.is_file() or folder is None:
        raise OSError(f"ONEDNN_ROOT={str(root)!r} has no include/oneapi/dnnl/dnnl.hpp and lib")
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++"))), "")
    if not compiler:
        raise OSError("no C++ compiler is found: set CXX")
    command = [compiler, *_FLAGS, f"-I{root / 'include'}", str(_SHIM), f"-L{folder}", "-ldnnl"]
    command.append(f"-Wl,-rpath,{folder}")
    facts = (command, folder.stat().st_mtime_ns, machine.configuration()["cpu_features"])
    key = hashlib.sha256(repr(facts).encode() + _SHIM.read_bytes()).hexdigest()[:16]
    target = cache_folder() / f"onednn-{key}.so"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        # Several workers may come here at once: each builds its own and renames it into place.
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            built = Path(scratch) / "shim.so"
            subprocess.run([*command, "-o", str(built)], check=True, capture_output=True, text=True)
            built.replace(target)
    library = ctypes.CDLL(str(target))
    library.qb_error.restype = ctypes.c_char_p
    library.qb_create.restype = ctypes.c_void_p
    library.qb_create.argtypes = [ctypes.POINTER(_Spec)]
    library.qb_run.argtypes = [ctypes.c_void_p, ctypes.c_int64]
    library.qb_fetch.argtypes = [ctypes.c_void_p]
    library.qb_implementation.restype = ctypes.c_char_p
    library.qb_implementation.argtypes = [ctypes.c_void_p]
    library.qb_destroy.argtypes = [ctypes.c_void_p]
    library.qb_destroy.restype = None
    return library


_SIZES = (
    *("m", "k", "n"),
    *("batch", "height", "width", "channels", "out_height", "out_width", "out_channels"),
    *("kernel_h", "kernel_w", "stride_h", "stride_w", "dilation_h", "dilation_w"),
    *("pad_top", "pad_bottom", "pad_left", "pad_right", "groups"),
)
_CODES = (
    *("kind", "src_type", "compute_type", "dst_type", "dynamic", "relu"),
    *("src_zero_point", "dst_zero_point"),
)
_MATMUL, _CONVOLUTION, _REORDER = range(3)
_TYPES = {"float32": 0, "int8": 1, "uint8": 2, "int32": 3, "bfloat16": 4}


class _Spec(ctypes.Structure):
    """`Spec` of the shim."""

    _fields_ = [
        *((name, ctypes.c_int32) for name in _CODES),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_float) for name in ("src_scale", "dst_scale")),
        *((name, ctypes.c_void_p) for name in ("weight_scales", "bias", "src", "weights", "dst")),
    ]


class _Primitive:
    """A prepared primitive; calling it runs it once."""

    def __init__(self, library: ctypes.CDLL, arrays: dict[str, Any], numbers: dict[str, Any]):
        self._arrays = arrays  # the primitive points into them
        pointers = {name: array.ctypes.data for name, array in arrays.items()}
        spec = _Spec(**numbers, **pointers)
        self._library, self._run = library, library.qb_run
        self._handle = library.qb_create(ctypes.byref(spec))
        if not self._handle:
            raise RuntimeError(f"oneDNN: {library.qb_error().decode()}")

    def __call__(self) -> object:
        return self._run(self._handle, 1)

    def repeat(self, calls: int) -> object:
        if self._run(self._handle, calls):
            raise RuntimeError(f"oneDNN: {self._library.qb_error().decode()}")
        return None

    def seconds(self) -> float:
        """Of one call, the best of some: enough to choose between two ways of doing the same."""
        best, end = math.inf, time.perf_counter() + 0.02
        while math.isinf(best) or time.perf_counter() < end:
            start = time.perf_counter()
            self.repeat(1)
            best = min(best, time.perf_counter() - start)
        return best

    def fetch(self) -> NDArray[Any]:
        if self._library.qb_fetch(self._handle):
            raise RuntimeError(f"oneDNN: {self._library.qb_error().decode()}")
        result: NDArray[Any] = self._arrays["dst"]
        return result

    @property
    def implementation(self) -> str:
        return str(self._library.qb_implementation(self._handle).decode())

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.qb_destroy(self._handle)


class OneDNN(Peer):
    """The primitives matmul, convolution and reorder."""

    def __init__(self, library: ctypes.CDLL, version: str, dtype: str) -> None:
        super().__init__("oneDNN" if dtype == "int8" else f"oneDNN {dtype}", version, dtype)
        self._library = library

    def supports(self, case: Case) -> str | None:
        if self.dtype != "int8" and case.op not in ("linear", "dynamic", "conv"):
            return f"{case.op} is of integers"
        return super().supports(case)

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        self._library.qb_set_threads(threads)
        return super().prepare(case, data, threads)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        run, fetch = self._layer(case, data, kind=_MATMUL, m=case.m, k=case.k, n=case.n)
        # Where the cost of a call is asked for, each call comes from Python.
        return (partial(run) if case.suite == "overhead" else run), fetch

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        rows, columns = case.out_pixels
        return self._layer(
            case,
            data,
            kind=_CONVOLUTION,
            batch=case.batch,
            height=case.h,
            width=case.w,
            channels=case.c,
            out_height=rows,
            out_width=columns,
            out_channels=case.oc,
            kernel_h=case.kh,
            kernel_w=case.kw,
            stride_h=case.stride,
            stride_w=case.stride,
            dilation_h=case.dilation,
            dilation_w=case.dilation,
            pad_top=case.pad,
            pad_bottom=_end(case.h, case.kh, rows, case),
            pad_left=case.pad,
            pad_right=_end(case.w, case.kw, columns, case),
            groups=case.groups,
        )

    def _layer(self, case: Case, data: Data, **sizes: int) -> tuple[Run, Fetch]:
        """Codes in and out, with bias and relu; real numbers for float arithmetic."""
        shape = data.expected.shape
        if self.dtype != "int8":
            arrays = {
                "src": data.x_real,
                "weights": data.w_real,
                "bias": data.bias_real,
                "dst": aligned_empty(shape, np.float32),
            }
            return self._primitive(arrays, relu=1, **sizes)
        form = {
            "relu": 1,
            "src_scale": data.x_scale,
            "dst_scale": data.out_scale,
            "dst_zero_point": data.out_zero_point,
            **sizes,
        }
        arrays = {
            "weights": data.w,
            "weight_scales": data.w_scale,
            "bias": data.bias_real,
            "dst": aligned_empty(shape, np.uint8),
        }
        # The same codes, unsigned or signed without a zero point: which is faster depends on the
        # CPU and the layer, and where one of them saturates the other may not.
        unsigned = self._prepared(
            arrays | {"src": data.x}, src_zero_point=data.x_zero_point, **form
        )
        zero_point = data.x_zero_point - 128
        signed = self._prepared(arrays | {"src": data.x_int8}, src_zero_point=zero_point, **form)

        def preference(primitive: _Primitive) -> tuple[bool, float]:
            seconds = primitive.seconds()
            return judge(case, data, primitive.fetch()).status == "wrong", seconds

        return self._kept(min((unsigned, signed), key=preference))

    def _linear_s32(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        arrays = {
            "src": data.x,
            "weights": data.w,
            "dst": aligned_empty((case.m, case.n), np.int32),
        }
        return self._primitive(
            arrays,
            kind=_MATMUL,
            m=case.m,
            k=case.k,
            n=case.n,
            src_zero_point=data.x_zero_point,
        )

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        arrays = {
            "src": data.x,
            "weights": data.w if self.dtype == "int8" else data.w_real,
            "bias": data.bias_real,
            "dst": aligned_empty((case.m, case.n), np.float32),
        }
        if self.dtype == "int8":
            arrays["weight_scales"] = data.w_scale
        return self._primitive(arrays, kind=_MATMUL, m=case.m, k=case.k, n=case.n, dynamic=1)

    def _quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        return self._pass(case, data, dst_scale=data.out_scale, dst_zero_point=data.out_zero_point)

    def _dequantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        return self._pass(case, data, src_scale=data.x_scale, src_zero_point=data.x_zero_point)

    def _pass(self, case: Case, data: Data, **numbers: float) -> tuple[Run, Fetch]:
        dst = aligned_empty(data.expected.shape, data.expected.dtype)
        arrays = {"src": data.x, "dst": dst}
        return self._primitive(arrays, kind=_REORDER, m=case.rows, k=case.columns, **numbers)

    def _primitive(self, arrays: dict[str, Any], **numbers: float) -> tuple[Run, Fetch]:
        return self._kept(self._prepared(arrays, **numbers))

    def _prepared(self, arrays: dict[str, Any], **numbers: float) -> _Primitive:
        types = {
            "src_type": _TYPES[arrays["src"].dtype.name],
            "dst_type": _TYPES[arrays["dst"].dtype.name],
            "compute_type": _TYPES[self.dtype],
        }
        return _Primitive(self._library, arrays, types | numbers)

    def _kept(self, primitive: _Primitive) -> tuple[Run, Fetch]:
        self.implementation = primitive.implementation
        return primitive, primitive.fetch


def _end(size: int, kernel: int, out: int, case: Case) -> int:
    """The padding at the far end that makes the output `out` long, exactly."""
    return int((out - 1) * case.stride + case.dilation * (kernel - 1) + 1 - size - case.pad)
