# SPDX-License-Identifier: Apache-2.0
"""Checks of arguments that are not activations: scales, zero points, axes, names, counts.

Each returns the normalised value or raises an error that names the argument, what came and what
was expected. Arrays that come back are read-only copies, so that nothing shared changes later.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import arrays
from qkernels.errors import QKernelsTypeError, QKernelsValueError

Scale = NDArray[np.float32]
ZeroPoint = NDArray[np.int32]

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
_SAFE_SCALE = (1e-30, 1e30)  # inside the range of float32: no need to look closer
ROUNDINGS = ("nearest_even", "fixed_point", "fixed_point_single")

# Smallest and largest code of every quantized dtype; codes below eight bits take a byte each.
CODE_RANGES: dict[str, tuple[int, int]] = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in range(8, 1, -1)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in range(8, 1, -1)},
}


def shown(value: Any) -> str:
    """A value in an error message: arrays by dtype and shape, the rest by a short repr."""
    if arrays.is_array(value):
        return f"{arrays.dtype_of(value)} array of shape {tuple(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def choice(value: Any, allowed: Sequence[str], name: str) -> str:
    """`value` when it is one of the allowed strings."""
    if isinstance(value, str) and value in allowed:
        return value
    kind = QKernelsValueError if isinstance(value, str) else QKernelsTypeError
    raise kind(f"{name} must be one of {', '.join(map(repr, allowed))}, not {shown(value)}")


def dtype_name(value: Any, allowed: Sequence[str], name: str) -> str:
    """The name of a dtype given as a string, a NumPy dtype or scalar type, or a torch dtype."""
    if not isinstance(value, str):
        if type(value).__module__ == "torch":
            value = str(value).removeprefix("torch.")
        else:
            try:
                value = np.dtype(value).name
            except TypeError:
                raise QKernelsTypeError(
                    f"{name} must be a dtype among {', '.join(allowed)}, not {shown(value)}"
                ) from None
    return choice(value, allowed, name)


def integer(value: Any, name: str, low: int, high: int = INT32_MAX) -> int:
    """A Python int in [low, high]; anything with __index__ but bool."""
    if isinstance(value, bool | np.bool_):
        raise QKernelsTypeError(f"{name} must be an integer, not {shown(value)}")
    try:
        number = operator.index(value)
    except TypeError:
        raise QKernelsTypeError(f"{name} must be an integer, not {shown(value)}") from None
    if not low <= number <= high:
        bounds = f"at least {low}" if number < low and high == INT32_MAX else f"in [{low}, {high}]"
        raise QKernelsValueError(f"{name} must be {bounds}, not {number}")
    return number


def normal_axis(axis: Any, ndim: int, name: str = "axis") -> int:
    """`axis` of an array with `ndim` dimensions, counted from the front."""
    if ndim == 0:
        raise QKernelsValueError(f"{name} is {shown(axis)}, but the array has no dimensions")
    return integer(axis, name, -ndim, ndim - 1) % ndim


def scale(value: Any, name: str) -> Scale:
    """float32, 0-D or 1-D, every element finite and positive."""
    if type(value) is float and _SAFE_SCALE[0] < value < _SAFE_SCALE[1]:
        return np.asarray(value, np.float32)
    array = arrays.parameter(value, name)
    if array.dtype.kind not in "fiu":
        raise QKernelsTypeError(f"{name} must hold real numbers, not {shown(value)}")
    with np.errstate(over="ignore", under="ignore"):
        result = np.array(array, dtype=np.float32)
    if result.ndim > 1:
        raise QKernelsValueError(f"{name} must be a scalar or 1-D, not of shape {result.shape}")
    if not (np.isfinite(result) & (result > 0)).all():
        raise QKernelsValueError(
            f"{name} must be finite and positive in float32, not {_worst(array, result)}"
        )
    result.flags.writeable = False
    return result


def _worst(array: NDArray[Any], scale32: Scale) -> str:
    """The first element of a scale that is not finite and positive, and its place."""
    bad = ~(np.isfinite(scale32) & (scale32 > 0))
    if array.ndim == 0:
        return str(array[()])
    index = int(np.flatnonzero(bad)[0])
    return f"{array[index]} at index {index}"


def scalar_scale(value: Any, name: str) -> float:
    """A scalar scale as the Python float of its float32 value."""
    if type(value) is np.float32 and 0 < value < math.inf:
        return float(value)
    result = scale(value, name)
    if result.ndim:
        raise QKernelsValueError(f"{name} must be a scalar, not of shape {result.shape}")
    return float(result)


def zero_point(value: Any, name: str, low: int, high: int, dtype: str) -> ZeroPoint:
    """int32, 0-D or 1-D, every element in [low, high], the range of `dtype`."""
    if type(value) is int and low <= value <= high:
        return np.asarray(value, np.int32)
    array = arrays.parameter(value, name)
    if array.dtype.kind not in "iu" and array.size:
        raise QKernelsTypeError(f"{name} must hold integers, not {shown(value)}")
    if array.ndim > 1:
        raise QKernelsValueError(f"{name} must be a scalar or 1-D, not of shape {array.shape}")
    if array.size and not (array.min() >= low and array.max() <= high):
        bad = array.min() if array.min() < low else array.max()
        raise QKernelsValueError(f"{name} must be in [{low}, {high}] for {dtype}, not {bad}")
    result = np.array(array, dtype=np.int32)
    result.flags.writeable = False
    return result


def scalar_zero_point(value: Any, name: str, dtype: str) -> int:
    """A scalar zero point in the range of `dtype`."""
    low, high = CODE_RANGES[dtype]
    if type(value) is int and low <= value <= high:
        return value
    result = zero_point(value, name, low, high, dtype)
    if result.ndim:
        raise QKernelsValueError(f"{name} must be a scalar, not of shape {result.shape}")
    return int(result)


def per_channel(array: NDArray[Any], channels: int, name: str, along: str) -> None:
    """A 1-D parameter must have one element a channel."""
    if array.ndim and array.shape != (channels,):
        raise QKernelsValueError(
            f"{name} must be a scalar or of shape ({channels},), one element for each of {along}, "
            f"not of shape {array.shape}"
        )


def bias(value: Any, channels: int, name: str = "bias") -> NDArray[Any] | None:
    """A bias of shape (channels,): float32 (from any float dtype) or int32 (from any integer)."""
    if value is None:
        return None
    array = arrays.parameter(value, name)
    if array.shape != (channels,):
        raise QKernelsValueError(f"{name} must have shape ({channels},), not {array.shape}")
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):
            result: NDArray[Any] = np.array(array, dtype=np.float32)
        if not np.isfinite(result).all():
            raise QKernelsValueError(f"{name} must be finite in float32")
    else:
        result = int32_bias(array, name)
    result.flags.writeable = False
    return result


def int32_bias(value: Any, name: str = "bias") -> NDArray[np.int32]:
    """Integers of any dtype that fit int32."""
    array = arrays.parameter(value, name)
    if array.dtype.kind not in "iu":
        raise QKernelsTypeError(f"{name} must hold integers, not {shown(value)}")
    if array.size and not (array.min() >= INT32_MIN and array.max() <= INT32_MAX):
        raise QKernelsValueError(f"{name} must fit int32: it spans {array.min()}..{array.max()}")
    return np.array(array, dtype=np.int32)


def bounds(value: Any, name: str = "activation") -> tuple[float, float]:
    """A pair (lo, hi) of real numbers, lo <= hi; infinities leave a side open."""
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            raise TypeError
        low, high = (float(np.float32(end)) for end in value)
    except (TypeError, ValueError):
        raise QKernelsTypeError(
            f"{name} must be None, a name or a pair (lo, hi) of real numbers, not {shown(value)}"
        ) from None
    if math.isnan(low) or math.isnan(high) or low > high:
        raise QKernelsValueError(f"{name}=(lo, hi) needs lo <= hi, not ({low}, {high})")
    if low == math.inf or high == -math.inf:
        raise QKernelsValueError(f"{name}=({low}, {high}) leaves no finite value")
    return low, high
