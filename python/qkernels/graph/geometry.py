# SPDX-License-Identifier: Apache-2.0
"""Kernel sizes, strides and padding of two-dimensional windows: normalised and resolved."""

from __future__ import annotations

from typing import Any, Literal

from numpy.typing import NDArray

from qkernels.checks import integer, shown
from qkernels.errors import QKernelsValueError

Pair = tuple[int, int]
Padding = tuple[Pair, Pair] | Literal["same"]

_LARGEST = 2**24  # of a size, stride or padding: as in qkernels.conv


def _size(value: Any, argument: str, minimum: int) -> int:
    return integer(value, argument, minimum, _LARGEST)


def pair(argument: str, value: Any, minimum: int = 1) -> Pair:
    """`value` (an int or a pair of ints) as a pair (height, width)."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise QKernelsValueError(f"{argument} must be an int or 2 ints, not {shown(value)}")
        return _size(value[0], argument, minimum), _size(value[1], argument, minimum)
    single = _size(value, argument, minimum)
    return single, single


def padding_pairs(value: Any) -> Padding:
    """An int, (h, w), two pairs or "same", as ((top, bottom), (left, right)) or "same"."""
    if isinstance(value, str):
        if value != "same":
            raise QKernelsValueError(
                f'padding must be an int, (h, w), ((top, bottom), (left, right)) or "same", '
                f"not {shown(value)}"
            )
        return "same"
    if isinstance(value, tuple | list) and len(value) == 2:
        return pair("padding", value[0], 0), pair("padding", value[1], 0)
    single = _size(value, "padding", 0)
    return (single, single), (single, single)


def _resolve(size: int, kernel: int, stride: int, dilation: int) -> Pair:
    """Padding before and after that gives ceil(size / stride) outputs, the odd one after."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def resolve_padding(
    padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """((top, bottom), (left, right)) for an input of `size` (height, width)."""
    if padding != "same":
        return padding
    top_bottom, left_right = (
        _resolve(size[axis], kernel[axis], stride[axis], dilation[axis]) for axis in (0, 1)
    )
    return top_bottom, left_right


def output_size(
    size: Pair, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
) -> Pair:
    """Rows and columns of windows that fit; an error when there is none."""
    span = [dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1)]
    rows, columns = (
        (size[axis] + sum(padding[axis]) - span[axis]) // stride[axis] + 1 for axis in (0, 1)
    )
    if rows < 1 or columns < 1:
        raise QKernelsValueError(
            f"x is {size[0]} x {size[1]} with padding {padding}: no place for a "
            f"{kernel[0]} x {kernel[1]} window (dilation {dilation})"
        )
    return rows, columns


def feature_map(x: NDArray[Any]) -> NDArray[Any]:
    """x, which must have the four axes of a feature map."""
    if x.ndim != 4:
        raise QKernelsValueError(
            f"x must be a feature map with 4 axes (batch, channels, height and width in the order "
            f"of the layout), not of shape {x.shape}"
        )
    return x


def check_addable(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Shapes of equal rank that broadcast."""
    if len(a) != len(b) or not all(n == m or 1 in (n, m) for n, m in zip(a, b, strict=True)):
        raise QKernelsValueError(f"inputs must have equal shapes, not {a} and {b}")
