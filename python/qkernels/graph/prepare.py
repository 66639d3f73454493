# SPDX-License-Identifier: Apache-2.0
"""From a quantized layer as data to a function of its integer inputs, bound to the kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qkernels import nn
from qkernels.conv import PackedConv2d
from qkernels.errors import QKernelsValueError
from qkernels.graph import reference_ops
from qkernels.graph.ir import FusedLayer
from qkernels.graph.layouts import Layout, to_layout
from qkernels.graph.spec import QuantizedLayer
from qkernels.linear import PackedLinear
from qkernels.quantization.qparams import QParams

Array = NDArray[Any]
Step = Callable[..., Array]  # arrays in (feature maps NHWC), an array out


def prepare(layer: QuantizedLayer, layout: Layout) -> Step:
    """The function that computes `layer` on arrays quantized as its `input_qparams` say.

    `layout` is that of the float graph: the order in which feature maps are flattened.
    """
    if not layer.quantized:
        return partial(_run_float, float_layer(layer), layout)
    return _PREPARE[layer.op](layer, layout)


def float_layer(layer: QuantizedLayer) -> FusedLayer:
    """The float form of a layer that runs in float."""
    kind = FLOAT_LAYERS[layer.op]
    attributes = dict(layer.attributes)
    flatten = attributes.pop("flatten", False)
    if layer.weight is not None:
        attributes.update(weight=layer.weight, bias=layer.bias)
    return FusedLayer(layer.name, kind(**attributes), layer.inputs, (), layer.activation, flatten)


FLOAT_LAYERS: dict[str, type[nn.Layer]] = {
    kind.op: kind
    for kind in (
        nn.Conv2d,
        nn.Linear,
        nn.Add,
        nn.MaxPool2d,
        nn.AvgPool2d,
        nn.GlobalAvgPool2d,
        nn.Flatten,
        nn.ReLU,
        nn.ReLU6,
        nn.Softmax,
    )
}


def _run_float(layer: FusedLayer, layout: Layout, *inputs: Array) -> Array:
    y = layer.forward(*(to_layout(x, "NHWC", layout) for x in inputs), layout=layout)
    return np.ascontiguousarray(to_layout(y, layout, "NHWC"))


def _bind(layer: QuantizedLayer, empty: tuple[int, ...]) -> Step:
    """The packed weights' callable. An `empty` batch goes through it at once: what cannot run is
    found now, and nothing is left to be settled by the first of several threads."""
    (x,) = cast(tuple[QParams], layer.input_qparams)
    out = cast(QParams, layer.qparams)
    bound: Step = cast(PackedLinear | PackedConv2d, layer.weight).bind(
        x_scale=x.scale,
        x_zero_point=x.zero_point,
        out_scale=out.scale,
        out_zero_point=out.zero_point,
        out_dtype=out.dtype,
        activation=layer.activation,
        rounding=layer.rounding,
    )
    try:
        bound(np.empty(empty, x.dtype))
    except ValueError as error:
        raise QKernelsValueError(str(error)) from None
    return bound


def _conv2d(layer: QuantizedLayer, layout: Layout) -> Step:
    _, channels, *kernel = cast(PackedConv2d, layer.weight).shape
    dilation, groups = layer.attributes["dilation"], layer.attributes["groups"]
    height, width = (dilation[axis] * (kernel[axis] - 1) + 1 for axis in (0, 1))
    return _bind(layer, (0, height, width, channels * groups))


def _linear(layer: QuantizedLayer, layout: Layout) -> Step:
    bound = _bind(layer, (0, cast(PackedLinear, layer.weight).shape[1]))
    return partial(_run_flattened, bound) if layer.attributes.get("flatten") else bound


def _run_flattened(bound: Step, x: Array) -> Array:
    # In NHWC order: the weight's columns were put into it when they were packed.
    return bound(x.reshape(x.shape[0], int(np.prod(x.shape[1:]))))


def _add(layer: QuantizedLayer, layout: Layout) -> Step:
    a, b = cast(tuple[QParams, QParams], layer.input_qparams)
    out = cast(QParams, layer.qparams)
    return partial(_run_add, a, b, out, layer.activation)


def _run_add(
    a_qparams: QParams, b_qparams: QParams, out: QParams, activation: str | None, a: Array, b: Array
) -> Array:
    return reference_ops.add(a, a_qparams, b, b_qparams, out, activation)


def _pool(pool: Callable[..., Array], layer: QuantizedLayer, layout: Layout) -> Step:
    geometry = nn.MaxPool2d(**layer.attributes)
    return partial(pool, kernel=geometry.kernel, stride=geometry.stride, padding=geometry.padding)


def _global_avg_pool2d(layer: QuantizedLayer, layout: Layout) -> Step:
    return reference_ops.global_avg_pool2d


def _clip(layer: QuantizedLayer, layout: Layout) -> Step:
    return partial(reference_ops.clip, qparams=cast(QParams, layer.qparams), activation=layer.op)


def _flatten(layer: QuantizedLayer, layout: Layout) -> Step:
    return partial(_run_flatten, layout)


def _run_flatten(layout: Layout, x: Array) -> Array:
    x = to_layout(x, "NHWC", layout)
    return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


_PREPARE: dict[str, Callable[[QuantizedLayer, Layout], Step]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "add": _add,
    "max_pool2d": partial(_pool, reference_ops.max_pool2d),
    "avg_pool2d": partial(_pool, reference_ops.avg_pool2d),
    "global_avg_pool2d": _global_avg_pool2d,
    "flatten": _flatten,
    "relu": _clip,
    "relu6": _clip,
}
