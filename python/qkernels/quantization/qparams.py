# SPDX-License-Identifier: Apache-2.0
"""Scale, zero point, axis and dtype, held together: x is about (q - zero_point) * scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qkernels import checks
from qkernels.errors import QKernelsValueError


@dataclass(frozen=True, eq=False)
class QParams:
    """Parameters of an affine quantization, x ~ (q - zero_point) * scale. Immutable, hashable.

    scale: float32 scalar, or 1-D with one element a channel along `axis`; finite and positive.
    zero_point: int, or int32 1-D likewise; in the range of `dtype`.
    axis: the channel axis; needed when one of the two is 1-D.
    dtype: "int8", "uint8", or "int2".."int7", "uint2".."uint7", which take a byte a value.

    Raises QKernelsError (ValueError or TypeError) when one of them cannot be.

    >>> import qkernels as qk
    >>> qk.QParams(0.5, 3)
    QParams(scale=0.5, zero_point=3, axis=None, dtype='int8')
    >>> qk.QParams([0.5, 0.25], 0, axis=0).scale
    array([0.5 , 0.25], dtype=float32)
    """

    scale: Any
    zero_point: Any
    axis: int | None = None
    dtype: str = "int8"

    def __post_init__(self) -> None:
        dtype = checks.dtype_name(self.dtype, tuple(checks.CODE_RANGES), "dtype")
        scale = checks.scale(self.scale, "scale")
        zero_point = checks.zero_point(
            self.zero_point, "zero_point", *checks.CODE_RANGES[dtype], dtype
        )
        if self.axis is None and (scale.ndim or zero_point.ndim):
            raise QKernelsValueError("axis is needed with a 1-D scale or zero_point")
        if scale.ndim and zero_point.ndim and scale.shape != zero_point.shape:
            raise QKernelsValueError(
                f"scale and zero_point must have one length, not {scale.size} and {zero_point.size}"
            )
        axis = self.axis
        if axis is not None:
            axis = checks.integer(axis, "axis", checks.INT32_MIN)
        for name, value in (
            ("scale", scale if scale.ndim else np.float32(scale)),
            ("zero_point", zero_point if zero_point.ndim else int(zero_point)),
            ("axis", axis),
            ("dtype", dtype),
        ):
            object.__setattr__(self, name, value)

    def _key(self) -> tuple[Any, ...]:
        scale, zero_point = np.asarray(self.scale), np.asarray(self.zero_point)
        return (scale.shape, scale.tobytes(), zero_point.tolist(), self.axis, self.dtype)

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, QParams) else NotImplemented

    def __hash__(self) -> int:
        shape, scale, _, axis, dtype = self._key()
        return hash((shape, scale, axis, dtype))

    def __repr__(self) -> str:
        scale, zero_point = (
            value.tolist() if isinstance(value, np.ndarray) else value
            for value in (self.scale, self.zero_point)
        )
        return (
            f"QParams(scale={scale!s}, zero_point={zero_point!s}, axis={self.axis!r}, "
            f"dtype={self.dtype!r})"
        )
