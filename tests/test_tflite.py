# SPDX-License-Identifier: Apache-2.0
"""rounding="fixed_point" against TFLite's reference CONV_2D and DEPTHWISE_CONV_2D, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import qkernels as qk
from support import everywhere, integers, require, same, scales, zero_point

require("flatbuffers")
require("ai_edge_litert.interpreter")
tflite = require("tflite_builder")

CASES = [
    # (input NHWC, out channels, kernel), geometry, fused activation, depthwise
    (((1, 5, 5, 3), 4, (3, 3)), {}, None),
    (((2, 8, 9, 16), 17, (3, 3)), {"padding": "same"}, "relu"),
    (((1, 9, 8, 15), 33, (3, 2)), {"stride": (2, 1), "padding": "same"}, "relu6"),
    (((1, 11, 12, 8), 16, (3, 3)), {"dilation": (2, 3)}, None),
    (((1, 11, 12, 5), 6, (3, 3)), {"dilation": (2, 1), "padding": "same"}, "relu6"),
    (((1, 4, 4, 65), 31, (1, 1)), {}, "relu"),
    (((1, 10, 10, 3), 32, (5, 5)), {"stride": (2, 2), "padding": "same"}, None),
    (((1, 7, 7, 16), 16, (3, 3)), {"groups": 16, "padding": "same"}, "relu6"),
    (((2, 8, 9, 17), 17, (3, 3)), {"groups": 17, "stride": (2, 2), "padding": "same"}, None),
    (((1, 9, 9, 31), 31, (5, 3)), {"groups": 31, "dilation": (1, 2)}, "relu"),
    (((1, 6, 7, 9), 18, (3, 3)), {"groups": 9}, None),
]


def compare(rng, shapes, geometry, relu, span):
    shape, out, kernel = shapes
    groups = geometry.get("groups", 1)
    x = integers(rng, shape)
    # TFLite's int8 weights are symmetric: -128 does not occur.
    weight = rng.integers(-127, 128, (out, *kernel, shape[-1] // groups)).astype(np.int8)
    bias = rng.integers(-4000, 4000, out).astype(np.int32)
    case = {
        "x_scale": scales(rng),
        "x_zero_point": zero_point(rng, "int8"),
        "weight_scale": scales(rng, (out,)),
    }
    case |= geometry | {"weight_layout": "OHWI", "activation": relu}
    real = oracle.conv2d(x, weight, bias, **case, out_dtype="float32")
    case |= {
        "out_scale": float(np.float32(np.abs(real).max(initial=1.0) / span)),
        "rounding": "fixed_point",
    }
    case["out_zero_point"] = zero_point(rng, "int8")
    want = oracle.conv2d(x, weight, bias, **case)
    reference = tflite.run(
        tflite.Convolution(
            x_shape=shape,
            weight=np.ascontiguousarray(weight if groups == 1 else weight.transpose(3, 1, 2, 0)),
            bias=bias,
            x_scale=case["x_scale"],
            x_zero_point=case["x_zero_point"],
            weight_scale=case["weight_scale"],
            out_scale=case["out_scale"],
            out_zero_point=case["out_zero_point"],
            out_shape=want.shape,
            stride=geometry.get("stride", (1, 1)),
            dilation=geometry.get("dilation", (1, 1)),
            same="padding" in geometry,
            relu=relu,
            depthwise=groups > 1,
        ),
        x,
    )
    same(want, reference, "the oracle itself")
    same(everywhere(lambda: qk.conv2d_int8(x, weight, bias, **case), (1, 2)), reference)


@pytest.mark.parametrize("span", [100, 300])
@pytest.mark.parametrize(("shapes", "geometry", "relu"), CASES)
def test_reference_convolutions(rng, shapes, geometry, relu, span):
    for _ in range(3):
        compare(rng, shapes, geometry, relu, span)


@pytest.mark.parametrize("factor", [0.75, 1.0, 1.37, 5.5, 31.0])
def test_multipliers_around_and_above_one(factor):
    """A 1 x 1 convolution with weight 1: the left shift of the multiplier. Sums this small stay in
    int32 after it; where TFLite's own shift would overflow it has no defined answer."""
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
    weight, bias = np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int32)
    conv = tflite.Convolution(
        x.shape, weight, bias, factor, 0, np.ones(1, np.float32), 1.0, 3, x.shape
    )  # fmt: skip
    kw = {"x_scale": factor, "weight_scale": 1.0, "out_scale": 1.0, "out_zero_point": 3}
    kw |= {"rounding": "fixed_point", "weight_layout": "OHWI"}
    reference = tflite.run(conv, x)
    same(oracle.conv2d(x, weight, bias, **kw), reference, "the oracle itself")
    same(everywhere(lambda: qk.conv2d_int8(x, weight, bias, **kw), (1,)), reference)
