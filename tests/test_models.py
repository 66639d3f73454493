# SPDX-License-Identifier: Apache-2.0
"""quantize_model and Model: against an integer simulation bit for bit, and against float."""

from __future__ import annotations

import io
import sys
import threading

import numpy as np
import oracle
import pytest
from support import everywhere, same
from test_nn import f32, nhwc, residual

import qkernels as qk
from qkernels import nn
from qkernels.graph import reference_ops
from qkernels.graph.ir import fuse

RNG_SEED = 7


def images(rng, count=24, layout="NCHW"):
    x = f32(rng, count, 3, 4, 4)
    return x if layout == "NCHW" else nhwc(x)


def clamp(q, layer):
    limits = oracle.bounds(layer.activation, layer.qparams.scale, layer.qparams.zero_point, layer.qparams.dtype)
    return np.clip(q.astype(np.int64), *limits).astype(layer.qparams.dtype)


def simulate(model, graph, inputs):
    """Every layer's integers, NHWC, from the float graph's weights and the model's qparams alone."""
    values = dict(inputs)
    floats = {layer.name: layer.layer for layer in fuse(graph)}
    for layer in model.layers:
        args = [values[name] for name in layer.inputs]
        f, out = floats[layer.name], layer.qparams
        if layer.op in ("conv2d", "linear"):
            given = layer.input_qparams[0]
            common = {
                "x_scale": given.scale,
                "x_zero_point": given.zero_point,
                "out_scale": out.scale,
                "out_zero_point": out.zero_point,
                "out_dtype": out.dtype,
                "activation": layer.activation,
                "rounding": layer.rounding,
            }
        if layer.op == "conv2d":
            geometry = {"stride": f.stride, "padding": f.padding, "dilation": f.dilation}
            y = oracle.conv2d(args[0], f.weight, f.bias, groups=f.groups, **geometry, **common)
        elif layer.op == "linear":
            x = args[0]
            if layer.attributes.get("flatten"):
                x = x.transpose(0, 3, 1, 2) if x.ndim == 4 and graph.layout == "NCHW" else x
                x = x.reshape(len(x), -1)
            y = oracle.linear(x, f.weight, f.bias, **common)
        elif layer.op == "add":
            reals = (
                oracle.dequantize(q, p.scale, p.zero_point)
                for q, p in zip(args, layer.input_qparams, strict=True)
            )
            y = oracle.quantize(sum(reals), out.scale, out.zero_point, dtype=out.dtype)
            y = clamp(y, layer)
        elif layer.op in ("max_pool2d", "avg_pool2d"):
            pad = np.full((2, *np.add(args[0].shape, (0, 9, 9, 0))), 0, np.int64)
            y = simulate_pool(args[0], f, np.max if layer.op == "max_pool2d" else np.mean, pad)
        elif layer.op == "global_avg_pool2d":
            y = np.rint(args[0].astype(np.float64).mean((1, 2), keepdims=True)).astype(out.dtype)
        elif layer.op == "flatten":
            y = args[0].transpose(0, 3, 1, 2) if graph.layout == "NCHW" else args[0]
            y = y.reshape(len(y), -1)
        elif layer.op == "softmax":
            given = model.layers[[m.name for m in model.layers].index(layer.inputs[0])].qparams
            y = nn.Softmax()(oracle.dequantize(args[0], given.scale, given.zero_point))
        else:
            limits = oracle.bounds(layer.op, out.scale, out.zero_point, out.dtype)
            y = np.clip(args[0], *limits)
        values[layer.name] = y
    return values
