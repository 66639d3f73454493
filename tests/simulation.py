# SPDX-License-Identifier: Apache-2.0
"""A quantized model run with NumPy integers, apart from the library's own steps.

Weights come from the float graph, scales and zero points from the model; everything between is
computed with tests/oracle.py and loops.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import oracle
from qkernels import nn
from qkernels.graph.ir import fuse


def simulate(model: Any, graph: Any, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every layer's output, feature maps NHWC, for quantized inputs."""
    values, qparams = dict(inputs), {i.name: i.qparams for i in model.inputs}
    floats = {fused.name: fused for fused in fuse(graph)}
    for layer in model.layers:
        args = [values[name] for name in layer.inputs]
        given = [qparams[name] for name in layer.inputs]
        values[layer.name] = _STEPS[layer.op](layer, floats[layer.name], graph.layout, given, *args)
        qparams[layer.name] = layer.qparams
    return values


def public(x: np.ndarray, layout: str) -> np.ndarray:
    """NHWC to the layout of the graph."""
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 and layout == "NCHW" else x


def _weighted(op: Any, layer: Any, given: Any, x: np.ndarray, **geometry: Any) -> np.ndarray:
    return op(
        x,
        x_scale=given.scale,
        x_zero_point=given.zero_point,
        out_scale=layer.qparams.scale,
        out_zero_point=layer.qparams.zero_point,
        out_dtype=layer.qparams.dtype,
        activation=layer.activation,
        rounding=layer.rounding,
        **geometry,
    )


def _conv2d(layer, fused, layout, given, x):
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    geometry = {name: getattr(fused.layer, name) for name in names}
    return _weighted(oracle.conv2d, layer, given[0], x, **geometry)


def _linear(layer, fused, layout, given, x):
    if fused.flatten:
        x = public(x, layout).reshape(len(x), -1)
    weight, bias = fused.layer.weight, fused.layer.bias
    return _weighted(oracle.linear, layer, given[0], x, weight=weight, bias=bias)


def _clip(q, activation, out):
    limits = oracle.bounds(activation, out.scale, out.zero_point, out.dtype)
    return np.clip(q.astype(np.int64), *limits).astype(q.dtype)


def _add(layer, fused, layout, given, a, b):
    real = oracle.dequantize(a, given[0].scale, given[0].zero_point)
    real = real + oracle.dequantize(b, given[1].scale, given[1].zero_point)
    out = layer.qparams
    q = oracle.quantize(real, out.scale, out.zero_point, dtype=out.dtype)
    return _clip(q, layer.activation, out)


def _pool(reduce):
    def pool(layer, fused, layout, given, x):
        kernel, stride = fused.layer.kernel, fused.layer.stride
        (top, bottom), (left, right) = oracle.pads(
            fused.layer.padding, x.shape[1:3], kernel, stride, (1, 1)
        )
        rows = (x.shape[1] + top + bottom - kernel[0]) // stride[0] + 1
        columns = (x.shape[2] + left + right - kernel[1]) // stride[1] + 1
        y = np.empty((len(x), rows, columns, x.shape[3]), x.dtype)
        for i in range(rows):
            for j in range(columns):
                r, c = i * stride[0] - top, j * stride[1] - left
                part = x[:, max(r, 0) : r + kernel[0], max(c, 0) : c + kernel[1]]
                y[:, i, j] = np.rint(reduce(part.astype(np.float64), axis=(1, 2)))
        return y

    return pool


def _global_avg_pool2d(layer, fused, layout, given, x):
    return np.rint(x.astype(np.float64).mean((1, 2), keepdims=True)).astype(x.dtype)


def _flatten(layer, fused, layout, given, x):
    return public(x, layout).reshape(len(x), -1)


def _relu(layer, fused, layout, given, x):
    return _clip(x, layer.op, layer.qparams)


def _softmax(layer, fused, layout, given, x):
    return nn.Softmax()(oracle.dequantize(x, given[0].scale, given[0].zero_point))


_STEPS = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "max_pool2d": _pool(np.max),
    "avg_pool2d": _pool(np.mean),
    "global_avg_pool2d": _global_avg_pool2d,
    "flatten": _flatten,
    "relu": _relu,
    "relu6": _relu,
    "softmax": _softmax,
}
