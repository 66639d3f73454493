# SPDX-License-Identifier: Apache-2.0
"""Layers in float32 with NumPy: the reference that quantized models are compared with.

Feature maps are (batch, height, width, channels). Nothing here touches the kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qkernels.graph.geometry import Padding, Pair, feature_map, output_size, resolve_padding

Float = NDArray[np.float32]

_COLUMNS_LIMIT = 1 << 24  # elements of the im2col matrix held at a time: 64 MB


def windows(
    x: NDArray[Any], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, fill: Any
) -> NDArray[Any]:
    """Views of x (B, H, W, C) padded with `fill`: (B, OH, OW, C, KH, KW)."""
    feature_map(x)
    edges = resolve_padding(padding, (x.shape[1], x.shape[2]), kernel, stride, dilation)
    output_size((x.shape[1], x.shape[2]), kernel, stride, edges, dilation)
    if any(map(any, edges)):
        x = np.pad(x, ((0, 0), *edges, (0, 0)), constant_values=fill)
    span = tuple(dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    view = sliding_window_view(x, span, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1], :, :: dilation[0], :: dilation[1]]


def conv2d(
    x: Float,
    weight: Float,
    bias: Float | None,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> Float:
    """x (B, H, W, C), weight (O, C / groups, KH, KW): im2col and one matrix product a group."""
    out_channels, in_channels, *kernel = weight.shape
    view = windows(x, (kernel[0], kernel[1]), stride, padding, dilation, np.float32(0))
    batch, rows, columns = view.shape[:3]
    depth = in_channels * kernel[0] * kernel[1]
    matrix = weight.reshape(groups, out_channels // groups, depth).transpose(0, 2, 1)
    out = np.empty((batch, rows, columns, out_channels), np.float32)
    step = max(1, _COLUMNS_LIMIT // (rows * columns * depth * groups))
    for start in range(0, batch, step):
        part = view[start : start + step]
        count = part.shape[0] * rows * columns
        unfolded = part.reshape(count, groups, depth).transpose(1, 0, 2)
        product = np.matmul(unfolded, matrix)
        out[start : start + step] = product.transpose(1, 0, 2).reshape(
            part.shape[0], rows, columns, out_channels
        )
    return out if bias is None else out + bias


def taps(
    x: NDArray[Any], kernel: Pair, stride: Pair, padding: Padding, fill: Any
) -> Iterator[NDArray[Any]]:
    """For each place in the window the values there, (B, OH, OW, C): views of padded x."""
    view = windows(x, kernel, stride, padding, (1, 1), fill)
    for row, column in product(range(kernel[0]), range(kernel[1])):
        yield view[..., row, column]


def covered(size: Pair, kernel: Pair, stride: Pair, padding: Padding) -> NDArray[np.int64]:
    """How many pixels of an image lie under each window: (OH, OW, 1)."""
    count: NDArray[np.int64] = sum(
        taps(np.ones((1, *size, 1), np.int64), kernel, stride, padding, 0), np.int64(0)
    )
    first: NDArray[np.int64] = count[0]
    return first


def max_pool2d(x: Float, kernel: Pair, stride: Pair, padding: Padding) -> Float:
    """The largest value under each window; padding never wins."""
    return reduce(np.maximum, taps(x, kernel, stride, padding, np.float32(-np.inf)))


def avg_pool2d(x: Float, kernel: Pair, stride: Pair, padding: Padding) -> Float:
    """The mean of the values under each window, padding not counted."""
    total: Float = reduce(np.add, taps(x, kernel, stride, padding, np.float32(0)))
    count = covered((x.shape[1], x.shape[2]), kernel, stride, padding)
    mean: Float = np.divide(total, count, dtype=np.float32)
    return mean


def softmax(x: Float, axis: int) -> Float:
    """exp(x - max) / sum over `axis`."""
    raised = np.exp(x - x.max(axis, keepdims=True))
    result: Float = raised / raised.sum(axis, keepdims=True)
    return result
