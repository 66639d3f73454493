# SPDX-License-Identifier: Apache-2.0
"""The machine: instruction-set tiers, threads, configuration."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any

import numpy as np

from qkernels import _core, checks
from qkernels.errors import QKernelsError, QKernelsValueError

# Every tier of the project, so that a name unknown to this build can be told from a typing error.
ISA_NAMES = (
    "scalar",
    "avx2",
    "avxvnni",
    "avx512vnni",
    "amx",
    "neon",
    "neon_dotprod",
    "neon_i8mm",
)


def isa() -> str:
    """The active instruction-set tier, by name: the best of `available_isas()` unless changed by
    `use_isa` or the environment variable QKERNELS_ISA.

    >>> import qkernels as qk
    >>> qk.isa() in qk.available_isas()
    True
    """
    return _core.isa()


def available_isas() -> list[str]:
    """The tiers that are built into this wheel and run on this CPU, worst first.

    >>> import qkernels as qk
    >>> qk.available_isas()[0]
    'scalar'
    """
    return [tier["name"] for tier in _core.isas() if tier["available"]]


class use_isa:  # noqa: N801 - called like a function
    """Make a tier the active one, for the whole process; every tier gives the same bits.

    Takes effect at once; as a context manager it restores the previous tier at the end of the
    block. The environment variable QKERNELS_ISA does the same when qkernels is imported.

    Raises QKernelsError (ValueError) for a tier that is unknown, not built into this wheel, or not
    supported by this CPU; the message lists those that are available.

    >>> import qkernels as qk
    >>> with qk.use_isa("scalar"):
    ...     qk.isa()
    'scalar'
    """

    def __init__(self, name: str) -> None:
        self._previous = _core.isa()
        self._name = _usable_isa(name)
        _core.use_isa(self._name)

    def __enter__(self) -> str:
        _core.use_isa(self._name)
        return self._name

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _core.use_isa(self._previous)

    def __repr__(self) -> str:
        return f"use_isa({self._name!r})"


def _usable_isa(name: Any) -> str:
    available = ", ".join(available_isas())
    checks.choice(name, ISA_NAMES, "isa")
    for tier in _core.isas():
        if tier["name"] == name:
            if tier["available"]:
                return str(name)
            raise QKernelsValueError(
                f"isa {name!r} is not supported by this CPU, which lacks {tier['missing']}; "
                f"available: {available}"
            )
    raise QKernelsValueError(f"isa {name!r} is not built into this wheel; available: {available}")


def set_num_threads(n: int) -> None:
    """Set how many threads a call may use, for the whole process: at least 1, and more than the
    CPU count if you wish. The initial value is the environment variable QKERNELS_NUM_THREADS, or
    else the number of CPUs that the affinity mask and the cgroup quota leave.

    >>> import qkernels as qk
    >>> before = qk.get_num_threads()
    >>> qk.set_num_threads(3)
    >>> qk.get_num_threads()
    3
    >>> qk.set_num_threads(before)
    """
    _core.set_num_threads(checks.integer(n, "n", 1))


def get_num_threads() -> int:
    """How many threads a call from this thread may use: what `num_threads` set for the calling
    thread, otherwise what `set_num_threads` set for the process, otherwise the CPUs to be had."""
    return _core.get_num_threads()


class num_threads:  # noqa: N801 - called like a function
    """Context manager: the number of threads for calls from the calling thread alone.

    >>> import qkernels as qk
    >>> with qk.num_threads(1):
    ...     qk.get_num_threads()
    1
    """

    def __init__(self, n: int) -> None:
        self._n = checks.integer(n, "n", 1)
        self._previous: list[int] = []

    def __enter__(self) -> int:
        self._previous.append(_core.get_local_threads())
        _core.set_local_threads(self._n)
        return self._n

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _core.set_local_threads(self._previous.pop())

    def __repr__(self) -> str:
        return f"num_threads({self._n})"


def get_include() -> str:
    """The folder of the C headers: the ``-I`` for ``#include "qkernels/qkernels.h"``.

    >>> import pathlib, qkernels as qk
    >>> (pathlib.Path(qk.get_include()) / "qkernels" / "qkernels.h").is_file()
    True
    """
    from pathlib import Path

    package = Path(__file__).resolve().parent
    installed = package / "include"
    return str(installed if installed.is_dir() else package.parents[1] / "csrc" / "include")


def configuration() -> dict[str, Any]:
    """What `show_config` shows, as a dictionary ready for JSON."""
    import platform  # slow to import, like pathlib above

    tiers = _core.isas()
    return {
        "version": _core.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
        "isa": {
            "active": _core.isa(),
            "available": available_isas(),
            "built": [tier["name"] for tier in tiers],
            "missing": {t["name"]: t["missing"] for t in tiers if not t["available"]},
        },
        "cpu_features": _core.cpu_features(),
        "threads": {
            "calling_thread": _core.get_num_threads(),
            "process": _core.get_process_threads(),
            "cpus": _core.cpu_count(),
        },
        "kernels": len(_core.kernels()),
        "include": get_include(),
    }


def show_config(mode: str = "stdout") -> dict[str, Any] | None:
    """Print the version, tiers, CPU features and threads; mode="dicts" returns them instead.

    >>> import qkernels as qk
    >>> qk.show_config(mode="dicts")["isa"]["active"] == qk.isa()
    True
    """
    checks.choice(mode, ("stdout", "dicts"), "mode")
    facts = configuration()
    if mode == "dicts":
        return facts
    missing = [f"{name} (lacks {what})" for name, what in facts["isa"]["missing"].items()]
    lines = {
        "qkernels": facts["version"],
        "python": f"{facts['python']}, numpy {facts['numpy']}",
        "platform": facts["platform"],
        "isa": facts["isa"]["active"],
        "available": ", ".join(facts["isa"]["available"]),
        "not on this CPU": "; ".join(missing) or "-",
        "cpu features": " ".join(facts["cpu_features"]) or "-",
        "threads": f"{facts['threads']['calling_thread']} of {facts['threads']['cpus']} CPUs",
        "kernels": facts["kernels"],
        "include": facts["include"],
    }
    sys.stdout.write("".join(f"{name:<16} {value}\n" for name, value in lines.items()))
    return None


def apply_environment() -> None:
    """Honour QKERNELS_ISA and QKERNELS_NUM_THREADS; empty counts as unset.

    Raises ImportError, naming the variable, for a value that cannot be honoured.
    """
    name = os.environ.get("QKERNELS_ISA", "").strip()
    threads = os.environ.get("QKERNELS_NUM_THREADS", "").strip()
    try:
        if name:
            _core.use_isa(_usable_isa(name))
    except QKernelsError as error:
        raise ImportError(f"environment variable QKERNELS_ISA={name!r}: {error}") from None
    try:
        if threads:
            if not (threads.isascii() and threads.isdecimal()):  # int() takes more, as "1_0"
                raise ValueError(threads)
            set_num_threads(int(threads))
    except ValueError:
        raise ImportError(
            f"environment variable QKERNELS_NUM_THREADS={threads!r} must be an integer >= 1"
            f" and at most {checks.INT32_MAX}"
        ) from None
