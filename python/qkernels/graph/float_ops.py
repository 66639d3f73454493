# SPDX-License-Identifier: Apache-2.0
"""Layers in float32 with NumPy: the reference that quantized models are compared with.

Feature maps are (batch, height, width, channels). Nothing here touches the kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qkernels.graph.geometry import Padding, Pair, output_size, resolve_padding

Float = NDArray[np.float32]

_COLUMNS_LIMIT = 1 << 24  # elements of the im2col matrix held at a time: 64 MB


def windows(
    x: NDArray[Any], kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, fill: Any
) -> NDArray[Any]:
    """Views of x (B, H, W, C) padded with `fill`: (B, OH, OW, C, KH, KW)."""
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


def max_pool2d(x: Float, kernel: Pair, stride: Pair, padding: Padding) -> Float:
    """The largest value under each window; padding never wins."""
    result: Float = windows(x, kernel, stride, padding, (1, 1), np.float32(-np.inf)).max((-2, -1))
    return result


def avg_pool2d(x: Float, kernel: Pair, stride: Pair, padding: Padding) -> Float:
    """The mean of the values under each window, padding not counted."""
    total = windows(x, kernel, stride, padding, (1, 1), np.float32(0)).sum((-2, -1))
    ones = np.ones((1, *x.shape[1:3], 1), np.float32)
    result: Float = total / windows(ones, kernel, stride, padding, (1, 1), 0).sum((-2, -1))
    return result


def softmax(x: Float, axis: int) -> Float:
    """exp(x - max) / sum over `axis`."""
    raised = np.exp(x - x.max(axis, keepdims=True))
    result: Float = raised / raised.sum(axis, keepdims=True)
    return result
