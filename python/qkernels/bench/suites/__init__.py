# SPDX-License-Identifier: Apache-2.0
"""The suites: a module each, with `ABOUT`, a line of help, and `cases(quick)`, what it measures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

from qkernels.bench.case import Case
from qkernels.errors import QKernelsValueError

from . import conv, depthwise, dynamic, elementwise, gemm, gemm_s32, gemv, model, overhead
from .shapes import Shape

SUITES: dict[str, ModuleType] = {
    "gemm": gemm,
    "gemm_s32": gemm_s32,
    "gemv": gemv,
    "dynamic": dynamic,
    "conv": conv,
    "depthwise": depthwise,
    "elementwise": elementwise,
    "model": model,
    "overhead": overhead,
}
DEFAULT = ("gemm", "gemv", "dynamic", "overhead")


def cases(
    names: Iterable[str], *, quick: bool = False, shapes: Sequence[Shape] | None = None
) -> list[Case]:
    """The cases of the named suites, in the order of the names.

    `shapes`, (M, K, N) each, replace those of the suites of matrix products; suites of anything
    else are refused beside them. Raises QKernelsError for an unknown suite, none, or one given
    twice.
    """
    names = list(names)
    if not names or len(set(names)) != len(names):
        raise QKernelsValueError(f"suite must name suites, each once, not {','.join(names)!r}")
    found: list[Case] = []
    for name in names:
        if name not in SUITES:
            raise QKernelsValueError(f"suite must be among {', '.join(SUITES)}, not {name!r}")
        module = SUITES[name]
        if shapes is None:
            found += module.cases(quick)
        elif hasattr(module, "case"):
            found += [module.case(*shape) for shape in shapes]
        else:
            raise QKernelsValueError(f"shapes are of matrix products, which suite {name!r} has not")
    return found
