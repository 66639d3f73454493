# SPDX-License-Identifier: Apache-2.0
"""Layers given as NumPy arrays, and graphs of them: float32 models without a framework.

A graph is what `qkernels.quantize_model` quantizes and, called, its own float32 reference:

>>> import numpy as np
>>> from qkernels import nn
>>> graph = nn.Sequential(
...     nn.Conv2d(np.ones((4, 1, 3, 3), np.float32), padding=1), nn.ReLU(),
...     nn.GlobalAvgPool2d(), nn.Flatten(), nn.Linear(np.ones((2, 4), np.float32)),
... )
>>> graph(np.ones((5, 1, 8, 8), np.float32)).shape
(5, 2)

Feature maps have four axes: (batch, channels, height, width) in a graph with layout "NCHW" (the
default, as in PyTorch), (batch, height, width, channels) with "NHWC". The layout also decides the
order of elements after `Flatten`. Weights have one layout, that of PyTorch. Layers and graphs are
immutable, and safe to call from many threads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qkernels import arrays
from qkernels.checks import shown
from qkernels.errors import QKernelsError, QKernelsTypeError, QKernelsValueError
from qkernels.graph import float_ops
from qkernels.graph.geometry import check_addable, feature_map, padding_pairs, pair
from qkernels.graph.inputs import as_float32, by_name, single_name
from qkernels.graph.layouts import Layout, check_layout, to_layout

__all__ = [
    "Add",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Flatten",
    "FloatOutput",
    "GlobalAvgPool2d",
    "Graph",
    "Layer",
    "Linear",
    "MaxPool2d",
    "Node",
    "ReLU",
    "ReLU6",
    "Sequential",
    "Softmax",
]

Float = NDArray[np.float32]


def _parameter(argument: str, value: ArrayLike, shape: str) -> Float:
    """A read-only float32 copy of finite numbers with as many axes as `shape` names."""
    array = arrays.parameter(value, argument)
    if array.dtype.kind != "f":
        raise QKernelsTypeError(f"{argument} must have a floating dtype, not {array.dtype}")
    axes = 1 if shape.endswith(",)") else shape.count(",") + 1
    if array.ndim != axes:
        raise QKernelsValueError(f"{argument} must have shape {shape}, not {array.shape}")
    with np.errstate(over="ignore"):
        result = np.array(array, np.float32, order="C")
    if not np.isfinite(result).all():
        raise QKernelsValueError(f"{argument} must be finite in float32")
    result.flags.writeable = False
    return result


def _vector(argument: str, value: ArrayLike, length: int) -> Float:
    result = _parameter(argument, value, "(channels,)")
    if result.shape != (length,):
        raise QKernelsValueError(f"{argument} must have shape ({length},), not {result.shape}")
    return result


class Layer:
    """One operation on float32 arrays. `layer(x)` computes it; `op` is its name in tables."""

    op: ClassVar[str]
    arity: ClassVar[int] = 1

    def __call__(self, *inputs: NDArray[Any], layout: Layout = "NCHW") -> Float:
        """The layer's float32 output; 4-D inputs and outputs are in `layout`."""
        check_layout(layout)
        if len(inputs) != self.arity:
            raise QKernelsTypeError(f"{self.op} takes {self.arity} inputs, not {len(inputs)}")
        return self.forward(*(as_float32(x, "x") for x in inputs), layout=layout)

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        raise NotImplementedError

    def parameters(self) -> dict[str, Float]:
        """The layer's arrays by name."""
        return {}


class Conv2d(Layer):
    """Two-dimensional convolution (cross-correlation, as in every framework).

    weight: (out_channels, in_channels / groups, height, width); bias: (out_channels,) or None.
    stride, dilation: int or (height, width). padding with zeros: int, (height, width),
    ((top, bottom), (left, right)), or "same" (ceil(in / stride) outputs, the odd row or column
    of padding at the bottom / right). groups == in_channels is a depthwise convolution.
    """

    op = "conv2d"

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike | None = None,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[Any] | Literal["same"] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
    ) -> None:
        self.weight = _parameter("weight", weight, "(out_channels, in_channels / groups, kh, kw)")
        if 0 in self.weight.shape:
            raise QKernelsValueError(f"weight must have no empty axis, not {self.weight.shape}")
        self.bias = None if bias is None else _vector("bias", bias, self.weight.shape[0])
        self.stride = pair("stride", stride)
        self.padding = padding_pairs(padding)
        self.dilation = pair("dilation", dilation)
        self.groups = pair("groups", groups)[0]
        if self.weight.shape[0] % self.groups:
            raise QKernelsValueError(
                f"groups must divide the {self.weight.shape[0]} output channels, not be {groups}"
            )

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        x = to_layout(feature_map(inputs[0]), layout, "NHWC")
        channels = self.weight.shape[1] * self.groups
        if x.shape[3] != channels:
            raise QKernelsValueError(
                f"x must have {channels} channels for weight {self.weight.shape} in "
                f"{self.groups} groups, not {x.shape[3]} (shape {inputs[0].shape}, {layout})"
            )
        y = float_ops.conv2d(
            x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
        )
        return to_layout(y, "NHWC", layout)

    def parameters(self) -> dict[str, Float]:
        bias = {} if self.bias is None else {"bias": self.bias}
        return {"weight": self.weight, **bias}


class Linear(Layer):
    """y = x @ weight.T + bias on the last axis of x (batch, ..., in_features), at most 3 axes.

    weight: (out_features, in_features); bias: (out_features,) or None.
    """

    op = "linear"

    def __init__(self, weight: ArrayLike, bias: ArrayLike | None = None) -> None:
        self.weight = _parameter("weight", weight, "(out_features, in_features)")
        if 0 in self.weight.shape:
            raise QKernelsValueError(f"weight must have no empty axis, not {self.weight.shape}")
        self.bias = None if bias is None else _vector("bias", bias, self.weight.shape[0])

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        (x,) = inputs
        if not 1 < x.ndim < 4 or x.shape[-1] != self.weight.shape[1]:
            raise QKernelsValueError(
                f"x must have shape (batch, {self.weight.shape[1]}) or (batch, n, "
                f"{self.weight.shape[1]}), not {x.shape}"
            )
        y: Float = x @ self.weight.T
        return y if self.bias is None else y + self.bias

    def parameters(self) -> dict[str, Float]:
        bias = {} if self.bias is None else {"bias": self.bias}
        return {"weight": self.weight, **bias}


class ReLU(Layer):
    """max(x, 0)."""

    op = "relu"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        y: Float = np.maximum(inputs[0], np.float32(0))
        return y


class ReLU6(Layer):
    """min(max(x, 0), 6)."""

    op = "relu6"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        return np.clip(inputs[0], np.float32(0), np.float32(6))


class BatchNorm2d(Layer):
    """Batch normalization with running statistics: (x - mean) / sqrt(var + eps) * weight + bias.

    weight, bias, running_mean, running_var: (channels,), the names of PyTorch. Quantization folds
    it into the convolution before it, if nothing else reads that one's output, and makes it a
    depthwise convolution of size 1 otherwise.
    """

    op = "batch_norm2d"

    def __init__(
        self,
        weight: ArrayLike,
        bias: ArrayLike,
        running_mean: ArrayLike,
        running_var: ArrayLike,
        eps: float = 1e-5,
    ) -> None:
        self.weight = _parameter("weight", weight, "(channels,)")
        channels = self.weight.shape[0]
        self.bias = _vector("bias", bias, channels)
        self.running_mean = _vector("running_mean", running_mean, channels)
        self.running_var = _vector("running_var", running_var, channels)
        self.eps = float(eps)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            spread = np.sqrt(self.running_var.astype(np.float64) + self.eps)
            scale = (self.weight / spread).astype(np.float32)
            shift = (self.bias - self.running_mean * (self.weight / spread)).astype(np.float32)
        if not (np.isfinite(scale).all() and np.isfinite(shift).all()):
            raise QKernelsValueError("running_var + eps must be positive for every channel")
        self.scale, self.shift = scale, shift  # y = x * scale + shift

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        x = to_layout(feature_map(inputs[0]), layout, "NHWC")
        if x.shape[3] != self.scale.shape[0]:
            raise QKernelsValueError(
                f"x must have {self.scale.shape[0]} channels, not {x.shape[3]} (shape "
                f"{inputs[0].shape}, {layout})"
            )
        return to_layout(x * self.scale + self.shift, "NHWC", layout)

    def parameters(self) -> dict[str, Float]:
        names = ("weight", "bias", "running_mean", "running_var")
        return {name: getattr(self, name) for name in names}


class _Pool2d(Layer):
    def __init__(
        self,
        kernel: int | Sequence[int],
        stride: int | Sequence[int] | None = None,
        padding: int | Sequence[Any] = 0,
    ) -> None:
        self.kernel = pair("kernel", kernel)
        self.stride = self.kernel if stride is None else pair("stride", stride)
        pads = padding_pairs(padding)
        if pads != "same" and any(
            max(pads[axis]) >= self.kernel[axis] for axis in (0, 1) if max(pads[axis])
        ):
            raise QKernelsValueError(
                f"padding must be less than the kernel {self.kernel}, not {padding!r}"
            )
        self.padding = pads


class MaxPool2d(_Pool2d):
    """The maximum under a window of `kernel` (int or (height, width)); stride: that of the kernel
    by default. padding as in `Conv2d`, smaller than the kernel; it never wins.
    """

    op = "max_pool2d"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        x = to_layout(feature_map(inputs[0]), layout, "NHWC")
        y = float_ops.max_pool2d(x, self.kernel, self.stride, self.padding)
        return to_layout(y, "NHWC", layout)


class AvgPool2d(_Pool2d):
    """The mean under a window of `kernel`; arguments as in `MaxPool2d`. Padding is not counted
    (PyTorch's count_include_pad=False).
    """

    op = "avg_pool2d"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        x = to_layout(feature_map(inputs[0]), layout, "NHWC")
        y = float_ops.avg_pool2d(x, self.kernel, self.stride, self.padding)
        return to_layout(y, "NHWC", layout)


class GlobalAvgPool2d(Layer):
    """The mean over height and width; both axes stay, with size 1."""

    op = "global_avg_pool2d"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        axes = (2, 3) if layout == "NCHW" else (1, 2)
        x = feature_map(inputs[0])
        if 0 in (x.shape[axes[0]], x.shape[axes[1]]):
            raise QKernelsValueError(f"x must have at least one pixel, not shape {x.shape}")
        result: Float = x.mean(axes, keepdims=True)
        return result


class Flatten(Layer):
    """(batch, ...) to (batch, features), elements in the order of the graph's layout."""

    op = "flatten"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        (x,) = inputs
        return x.reshape(x.shape[0], int(np.prod(x.shape[1:])))


class Add(Layer):
    """The sum of two inputs with the same number of axes; axes of size 1 broadcast."""

    op = "add"
    arity = 2

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        a, b = inputs
        check_addable(a.shape, b.shape)
        return a + b


class Softmax(Layer):
    """exp(x) / sum(exp(x)) over the channels: the last axis, or that of a feature map."""

    op = "softmax"

    def forward(self, *inputs: Float, layout: Layout) -> Float:
        (x,) = inputs
        return float_ops.softmax(x, 1 if x.ndim == 4 and layout == "NCHW" else -1)


class Node(NamedTuple):
    """A layer in a graph: its unique name and the names of what it reads."""

    name: str
    layer: Layer
    inputs: tuple[str, ...]


class FloatOutput(NamedTuple):
    """One item of `Graph.float_trace`."""

    name: str
    op: str
    output: Float


def _names(value: Any, argument: str) -> tuple[str, ...]:
    """One name or several."""
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise QKernelsTypeError(
            f"{argument} must be a name or a sequence of names, not {shown(value)}"
        )
    return tuple(names)


class Graph:
    """A directed acyclic graph of layers, and its float32 execution.

    nodes: (name, layer, inputs) each, inputs a name or a sequence of names, every one a graph
    input or an earlier node. inputs: names of the graph's inputs. outputs: names of its results,
    by default the last node. layout: of all feature maps that go in and out, "NCHW" or "NHWC".

    `graph(x)` runs a graph with one input and one output, `graph.run({name: x})` any.
    """

    def __init__(
        self,
        nodes: Sequence[Node | tuple[str, Layer, str | Sequence[str]]],
        *,
        inputs: str | Sequence[str] = "input",
        outputs: str | Sequence[str] | None = None,
        layout: Layout = "NCHW",
    ) -> None:
        self.layout: Layout = check_layout(layout)
        self.inputs = _names(inputs, "inputs")
        if not isinstance(nodes, Sequence):
            raise QKernelsTypeError(
                f"nodes must be a sequence of (name, layer, inputs), not {shown(nodes)}"
            )
        if not self.inputs or not nodes:
            raise QKernelsValueError("nodes and inputs must not be empty")
        known = list(self.inputs)
        checked = []
        for item in nodes:
            node = _checked_node(item, known)
            checked.append(node)
            known.append(node.name)
        repeated = {name for name in known if known.count(name) > 1 or not name}
        if repeated:
            raise QKernelsValueError(f"names must be unique and not empty, not {sorted(repeated)}")
        self.nodes = tuple(checked)
        if outputs is None:
            outputs = self.nodes[-1].name
        self.outputs = _names(outputs, "outputs")
        unknown = [name for name in self.outputs if name not in known]
        if unknown or not self.outputs:
            raise QKernelsValueError(f"outputs must be names among {known}, not {unknown}")

    def __call__(self, x: Any) -> Float:
        """The float32 output for x, a float32 array with the batch first."""
        name = single_name("output", self.outputs)
        return self.run({single_name("input", self.inputs): x})[name]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Float]:
        """All outputs by name, from all inputs by name."""
        values = self._start(inputs)
        for _ in self._steps(values):
            pass
        return {name: values[name] for name in self.outputs}

    def float_trace(self, x: Any) -> Iterator[FloatOutput]:
        """(name, op, output) of each layer that the quantized model has, in the order and under
        the names of `Model.trace`: of a convolution with batch normalization and activation
        fused, the output after the activation. x: the input, or a dict of inputs by name.
        """
        from qkernels.graph.ir import fuse

        names = {layer.sources[-1]: (layer.name, layer.op) for layer in fuse(self)}
        values = self._start(x)
        produced = {name: values[name] for name in self._steps(values)}
        for source, (name, op) in names.items():
            yield FloatOutput(name, op, produced[source])

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers by node name, in order of execution."""
        return {node.name: node.layer for node in self.nodes}

    def __repr__(self) -> str:
        rows = "".join(f"\n  {n.name}: {n.layer.op}({', '.join(n.inputs)})" for n in self.nodes)
        return f"Graph({', '.join(self.inputs)} -> {', '.join(self.outputs)}; {self.layout}){rows}"

    def _start(self, inputs: Any) -> dict[str, Float]:
        named = by_name(self.inputs, inputs)
        return {name: as_float32(named[name], name) for name in self.inputs}

    def _steps(self, values: dict[str, Float]) -> Iterator[str]:
        """Adds the output of one node after the other to `values`; yields their names."""
        for name, layer, sources in self.nodes:
            try:
                values[name] = layer.forward(*(values[s] for s in sources), layout=self.layout)
            except QKernelsError as error:
                raise type(error)(f"layer {name!r}: {error}") from None
            yield name


class Sequential(Graph):
    """Layers in a row: `Sequential(layer, ...)` or `Sequential((name, layer), ...)`.

    Layers without a name get one from their op and a count: "conv2d1", "relu1", "conv2d2"...
    """

    def __init__(self, *layers: Layer | tuple[str, Layer], layout: Layout = "NCHW") -> None:
        counts: dict[str, int] = {}
        nodes: list[Node] = []
        source = "input"
        for item in layers:
            if isinstance(item, Layer):
                counts[item.op] = counts.get(item.op, 0) + 1
                item = (f"{item.op}{counts[item.op]}", item)  # noqa: PLW2901
            nodes.append(_checked_node((*item, source), [source]))
            source = nodes[-1].name
        super().__init__(nodes, layout=layout)


def _checked_node(item: Any, known: Sequence[str]) -> Node:
    """`item` as a Node whose inputs are in `known`."""
    if not isinstance(item, tuple | list) or len(item) != 3 or not isinstance(item[0], str):
        raise QKernelsTypeError(f"nodes must be (name, layer, inputs), not {shown(item)}")
    name, layer, inputs = item
    if not isinstance(layer, Layer):
        raise QKernelsTypeError(
            f"layer {name!r} must be a layer of qkernels.nn, not {shown(layer)}"
        )
    inputs = _names(inputs, f"inputs of layer {name!r}")
    if len(inputs) != layer.arity:
        raise QKernelsValueError(
            f"layer {name!r} ({layer.op}) takes {layer.arity} inputs, not {inputs}"
        )
    unknown = [source for source in inputs if source not in known]
    if unknown:
        raise QKernelsValueError(
            f"layer {name!r}: inputs {unknown} are neither graph inputs nor earlier nodes"
        )
    return Node(name, layer, inputs)
