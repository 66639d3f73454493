# SPDX-License-Identifier: Apache-2.0
"""The float32 layers and graphs of qkernels.nn, against loops over single elements."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import qkernels as qk
from qkernels import nn
from qkernels.graph.ir import fuse

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def f32(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def edges(padding, size, kernel, stride, dilation):
    """((top, bottom), (left, right)), written apart from the library."""
    if padding == "same":
        pads = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((int(np.ceil(n / s)) - 1) * s + d * (k - 1) + 1 - n, 0)
            pads.append((total // 2, total - total // 2))
        return pads
    if isinstance(padding, int):
        return [(padding, padding)] * 2
    return [(p, p) if isinstance(p, int) else p for p in padding]


def window_loop(x, kernel, stride, padding, dilation, function):
    """y[b, i, j] = function(values (taps, C), is_real (taps,)) over NHWC x."""
    size = x.shape[1:3]
    pads = edges(padding, size, kernel, stride, dilation)
    rows, columns = (
        (size[a] + sum(pads[a]) - dilation[a] * (kernel[a] - 1) - 1) // stride[a] + 1
        for a in (0, 1)
    )
    out = None
    for b, i, j in itertools.product(range(len(x)), range(rows), range(columns)):
        values, real = [], []
        for u, v in itertools.product(range(kernel[0]), range(kernel[1])):
            r = i * stride[0] - pads[0][0] + u * dilation[0]
            c = j * stride[1] - pads[1][0] + v * dilation[1]
            inside = 0 <= r < size[0] and 0 <= c < size[1]
            values.append(x[b, r, c] if inside else np.zeros_like(x[0, 0, 0]))
            real.append(inside)
        y = function(np.array(values, np.float64), np.array(real))
        if out is None:
            out = np.empty((len(x), rows, columns, len(y)))
        out[b, i, j] = y
    return out


def nhwc(x):
    return x.transpose(0, 2, 3, 1)


GEOMETRIES = [
    {"stride": 1, "padding": 0, "dilation": 1},
    {"stride": 2, "padding": 1, "dilation": 1},
    {"stride": (1, 3), "padding": ((0, 2), (3, 1)), "dilation": (2, 1)},
    {"stride": (2, 1), "padding": "same", "dilation": 1},
    {"stride": 3, "padding": (2, 0), "dilation": (1, 2)},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("channels", "groups", "outputs"), [(3, 1, 4), (4, 2, 6), (4, 4, 8)])
def test_conv2d(rng, geometry, channels, groups, outputs):
    x = f32(rng, 2, channels, 7, 8)
    weight, bias = f32(rng, outputs, channels // groups, 3, 2), f32(rng, outputs)
    layer = nn.Conv2d(weight, bias, groups=groups, **geometry)
    each = outputs // groups

    def element(values, real):
        parts = np.split(values, groups, axis=1)
        return bias + np.concatenate(
            [
                np.einsum("tc,oct->o", part, weight[g * each : (g + 1) * each].reshape(each, -1, 6))
                for g, part in enumerate(parts)
            ]
        )

    stride, dilation = (
        (v, v) if isinstance(v, int) else v for v in (geometry["stride"], geometry["dilation"])
    )
    want = window_loop(nhwc(x), (3, 2), stride, geometry["padding"], dilation, element)
    np.testing.assert_allclose(nhwc(layer(x)), want, **TOLERANCE)
    np.testing.assert_allclose(layer(nhwc(x), layout="NHWC"), want, **TOLERANCE)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [(2, None, 0), (3, 2, 1), ((2, 3), (1, 2), ((1, 0), (0, 2))), (3, 2, "same")],
)
def test_pools(rng, kernel, stride, padding):
    x = f32(rng, 2, 3, 7, 8)
    pair = (kernel, kernel) if isinstance(kernel, int) else kernel
    steps = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    for layer, reduce in ((nn.MaxPool2d, np.max), (nn.AvgPool2d, np.mean)):
        got = layer(kernel, stride, padding)(x)
        want = window_loop(
            nhwc(x), pair, steps, padding, (1, 1), lambda v, real, f=reduce: f(v[real], axis=0)
        )
        np.testing.assert_allclose(nhwc(got), want, **TOLERANCE)


def test_small_layers(rng):
    x = f32(rng, 2, 3, 4, 5)
    np.testing.assert_array_equal(nn.ReLU()(x), np.where(x > 0, x, 0))
    np.testing.assert_array_equal(nn.ReLU6()(9 * x), np.minimum(np.where(x > 0, 9 * x, 0), 6))
    np.testing.assert_array_equal(nn.Add()(x, x), 2 * x)
    np.testing.assert_array_equal(nn.Flatten()(x), x.reshape(2, 60))
    got = nn.GlobalAvgPool2d()(x)
    np.testing.assert_allclose(got, x.mean((2, 3))[:, :, None, None], **TOLERANCE)
    got = nn.GlobalAvgPool2d()(nhwc(x), layout="NHWC")
    np.testing.assert_allclose(got, x.mean((2, 3))[:, None, None, :], **TOLERANCE)
    weight, bias = f32(rng, 3, 5), f32(rng, 3)
    y = f32(rng, 4, 6, 5)
    np.testing.assert_allclose(nn.Linear(weight, bias)(y), y @ weight.T + bias, **TOLERANCE)
    raised = np.exp(x.astype(np.float64))
    np.testing.assert_allclose(nn.Softmax()(x), raised / raised.sum(1, keepdims=True), **TOLERANCE)
    got = nn.Softmax()(nhwc(x), layout="NHWC")
    np.testing.assert_allclose(got, nhwc(raised / raised.sum(1, keepdims=True)), **TOLERANCE)


def batch_norm(rng, channels):
    return nn.BatchNorm2d(
        f32(rng, channels), f32(rng, channels), f32(rng, channels), rng.random(channels) + 0.1
    )


def test_batch_norm(rng):
    x, norm = f32(rng, 2, 3, 4, 5), batch_norm(rng, 3)
    column = (slice(None), None, None)
    want = (x - norm.running_mean[column]) / np.sqrt(norm.running_var[column] + 1e-5)
    want = want * norm.weight[column] + norm.bias[column]
    np.testing.assert_allclose(norm(x), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm(nhwc(x), layout="NHWC"), nhwc(want), rtol=1e-4, atol=1e-5)


def residual(rng, layout="NCHW"):
    """Convolutions with batch normalization, a residual addition, two branches that flatten."""
    return nn.Graph(
        [
            ("conv1", nn.Conv2d(f32(rng, 6, 3, 3, 3), f32(rng, 6), padding=1), "image"),
            ("norm1", batch_norm(rng, 6), "conv1"),
            ("relu1", nn.ReLU(), "norm1"),
            ("conv2", nn.Conv2d(f32(rng, 6, 1, 3, 3), padding="same", groups=6), "relu1"),
            ("norm2", batch_norm(rng, 6), "conv2"),
            ("sum", nn.Add(), ["norm2", "relu1"]),
            ("relu2", nn.ReLU6(), "sum"),
            ("pool", nn.MaxPool2d(2), "relu2"),
            ("flat", nn.Flatten(), "pool"),
            ("left", nn.Linear(f32(rng, 4, 24), f32(rng, 4)), "flat"),
            ("right", nn.Linear(f32(rng, 4, 24)), "flat"),
            ("relu3", nn.ReLU(), "right"),
            ("both", nn.Add(), ("left", "relu3")),
            ("softmax", nn.Softmax(), "both"),
        ],
        inputs="image",
        outputs=["softmax", "relu2"],
        layout=layout,
    )


def test_fuse(rng):
    layers = {layer.name: layer for layer in fuse(residual(rng))}
    assert list(layers) == ["conv1", "conv2", "sum", "pool", "left", "right", "both", "softmax"]
    assert layers["conv1"].sources == ("conv1", "norm1", "relu1")
    assert layers["conv1"].activation == "relu"
    assert layers["conv2"].sources == ("conv2", "norm2")
    assert layers["sum"].activation == "relu6"
    assert layers["sum"].inputs == ("conv2", "conv1")
    assert layers["left"].flatten
    assert layers["left"].inputs == ("pool",)
    assert layers["right"].activation == "relu"
    assert layers["both"].inputs == ("left", "right")


def test_fuse_keeps_what_others_read(rng):
    conv = nn.Conv2d(f32(rng, 3, 3, 1, 1))
    graph = nn.Graph(
        [
            ("conv", conv, "input"),
            ("relu", nn.ReLU(), "conv"),
            ("norm", batch_norm(rng, 3), "relu"),
            ("add", nn.Add(), ["norm", "conv"]),
            ("flat", nn.Flatten(), "add"),
        ]
    )
    assert [(layer.name, layer.op) for layer in fuse(graph)] == [
        ("conv", "conv2d"),
        ("relu", "relu"),
        ("norm", "conv2d"),
        ("add", "add"),
        ("flat", "flatten"),
    ]
    shown = nn.Graph(graph.nodes[:2], outputs=["conv", "relu"])
    assert [layer.name for layer in fuse(shown)] == ["conv", "relu"]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_fused_layers_compute_the_graph(rng, layout):
    graph = residual(rng, layout)
    x = f32(rng, 2, 3, 4, 4) if layout == "NCHW" else f32(rng, 2, 4, 4, 3)
    values = {"image": x}
    for layer in fuse(graph):
        values[layer.name] = layer.forward(*(values[i] for i in layer.inputs), layout=layout)
    trace = list(graph.float_trace(x))
    assert [name for name, _, _ in trace] == [layer.name for layer in fuse(graph)]
    for name, op, output in trace:
        np.testing.assert_allclose(values[name], output, rtol=1e-4, atol=1e-4, err_msg=op)
    outputs = graph.run({"image": x})
    assert list(outputs) == ["softmax", "relu2"]
    by_name = {item.name: item.output for item in trace}
    np.testing.assert_array_equal(outputs["softmax"], by_name["softmax"])
    np.testing.assert_array_equal(outputs["relu2"], by_name["sum"])


def test_layouts_agree(rng):
    """The same weights in both layouts; a linear layer sees its features in another order."""
    x, conv, weight = f32(rng, 2, 3, 4, 5), nn.Conv2d(f32(rng, 4, 3, 1, 1)), f32(rng, 6, 80)
    permuted = weight.reshape(6, 4, 4, 5).transpose(0, 2, 3, 1).reshape(6, 80)
    want = nn.Sequential(conv, nn.Flatten(), nn.Linear(weight))(x)
    graph = nn.Sequential(conv, nn.Flatten(), nn.Linear(permuted), layout="NHWC")
    np.testing.assert_allclose(graph(nhwc(x)), want, **TOLERANCE)


def test_sequential_names():
    layer = nn.Linear(np.eye(2, dtype=np.float32))
    graph = nn.Sequential(layer, nn.ReLU(), ("head", layer), nn.ReLU())
    assert list(graph.layers) == ["linear1", "relu1", "head", "relu2"]
    assert graph.outputs == ("relu2",)
    assert "head: linear(relu1)" in repr(graph)


def test_parameters_are_copies():
    weight = np.ones((2, 2), np.float32)
    layer = nn.Linear(weight)
    weight[:] = 7
    assert layer.weight.max() == 1
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[0, 0] = 3


def test_half_precision_input(rng):
    graph = nn.Sequential(nn.ReLU())
    x = f32(rng, 2, 3).astype(np.float16)
    np.testing.assert_array_equal(graph(x), np.maximum(x, 0).astype(np.float32))


F = np.float32
CONV = np.ones((2, 3, 3, 3), F)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.Conv2d(np.ones((2, 3, 3), F)), ValueError, "weight"),
        (lambda: nn.Conv2d(np.ones((2, 3, 3, 3), np.int8)), TypeError, "int8"),
        (lambda: nn.Conv2d(np.full((2, 3, 3, 3), np.nan, F)), ValueError, "finite"),
        (lambda: nn.Conv2d(np.ones((0, 3, 3, 3), F)), ValueError, "empty"),
        (lambda: nn.Conv2d(CONV, np.ones(3, F)), ValueError, r"\(2,\)"),
        (lambda: nn.Conv2d(CONV, stride=0), ValueError, "stride"),
        (lambda: nn.Conv2d(CONV, stride=1.5), TypeError, "stride"),
        (lambda: nn.Conv2d(CONV, dilation=(1, 2, 3)), ValueError, "dilation"),
        (lambda: nn.Conv2d(CONV, padding=-1), ValueError, "padding"),
        (lambda: nn.Conv2d(CONV, padding="valid"), ValueError, "same"),
        (lambda: nn.Conv2d(CONV, groups=3), ValueError, "groups"),
        (lambda: nn.Conv2d(CONV)(np.ones((1, 4, 5, 5), F)), ValueError, "3 channels"),
        (lambda: nn.Conv2d(CONV)(np.ones((1, 3, 2, 5), F)), ValueError, "no place"),
        (lambda: nn.Conv2d(CONV)(np.ones((1, 3, 5), F)), ValueError, "4 axes"),
        (lambda: nn.Conv2d(CONV)(np.ones((1, 3, 5, 5))), TypeError, "float64"),
        (lambda: nn.ReLU()(np.ones(3, F), layout="CHW"), ValueError, "layout"),
        (lambda: nn.MaxPool2d(2, padding=2), ValueError, "padding"),
        (lambda: nn.Add()(np.ones((2, 3), F), np.ones((2, 4), F)), ValueError, "equal shapes"),
        (lambda: nn.Add()(np.ones((2, 3), F)), TypeError, "2 inputs"),
        (lambda: nn.Linear(np.ones((2, 3), F))(np.ones((1, 2), F)), ValueError, r"\(batch, 3\)"),
        (lambda: nn.GlobalAvgPool2d()(np.ones((1, 2, 0, 3), F)), ValueError, "pixel"),
        (lambda: nn.BatchNorm2d([1.0], [0.0], [0.0], [-1.0]), ValueError, "running_var"),
        (lambda: nn.Graph([]), ValueError, "empty"),
        (nn.Sequential, ValueError, "empty"),
        (lambda: nn.Graph([("a", nn.ReLU(), "x")]), ValueError, "neither"),
        (lambda: nn.Graph([("a", nn.ReLU, "input")]), TypeError, "qkernels.nn"),
        (lambda: nn.Graph([("a", nn.Add(), "input")]), ValueError, "2 inputs"),
        (lambda: nn.Graph([("input", nn.ReLU(), "input")]), ValueError, "unique"),
        (lambda: nn.Graph([("a", nn.ReLU())]), TypeError, "name, layer, inputs"),
        (lambda: nn.Graph([("a", nn.ReLU(), "input")], outputs="b"), ValueError, "outputs"),
        (lambda: nn.Graph([("a", nn.ReLU(), "input")], layout="HWC"), ValueError, "layout"),
        (lambda: nn.Sequential(nn.ReLU()).run({"x": np.ones(2, F)}), ValueError, "input"),
        (lambda: nn.Sequential(("c", nn.Conv2d(CONV)))(np.ones((1, 3), F)), ValueError, "'c'"),
        (
            lambda: fuse(nn.Sequential(nn.Conv2d(CONV), nn.BatchNorm2d(*np.ones((4, 5), F)))),
            ValueError,
            "2 channels",
        ),
        (
            lambda: nn.Graph([("a", nn.Add(), ["x", "y"])], inputs=["x", "y"])(np.ones((1, 2), F)),
            ValueError,
            "run",
        ),
    ],
)
def test_errors(make, error, message):
    with pytest.raises(error, match=message) as caught:
        make()
    assert isinstance(caught.value, qk.QKernelsError)
