# SPDX-License-Identifier: Apache-2.0
"""From a float model and calibration data to a quantized model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import arrays, nn
from qkernels.checks import shown
from qkernels.conv import pack_conv2d
from qkernels.errors import QKernelsError, QKernelsTypeError, QKernelsValueError
from qkernels.graph.config import QuantConfig
from qkernels.graph.inputs import as_float32, by_name
from qkernels.graph.ir import FusedLayer, fuse
from qkernels.graph.layouts import to_layout
from qkernels.graph.model import Model
from qkernels.graph.spec import PRESERVING, ModelInput, QuantizedLayer, Shape
from qkernels.linear import pack_linear
from qkernels.progress import Progress
from qkernels.quantization.histogram import Histogram
from qkernels.quantization.qparams import QParams

Float = NDArray[np.float32]

_BATCH = 64  # samples run at a time when calibration data is one array


def quantize_model(
    model: nn.Graph,
    calibration_data: Any,
    *,
    config: QuantConfig | None = None,
    progress: bool = True,
) -> Model:
    """Quantize a float model after training: int8 weights, calibrated 8-bit activations.

    model: a `qkernels.nn` graph. calibration_data: float32 input as the model takes it, an array
    or any iterable of batches, read once; for a model with several inputs a dict of arrays, or an
    iterable of dicts. A few hundred representative samples are enough; memory does not grow with
    their number. config: see `QuantConfig`. progress: count batches on stderr when that is a
    terminal and their number is known.

    Batch normalization is folded, activations are fused, and the range after them is calibrated;
    weights get a scale for each output channel. Pools, `Flatten` and lone activations keep the
    scale of their input; `Softmax` runs in float.

    Returns a `Model`. Raises QKernelsError for another kind of model, for calibration data that is
    empty, not finite or of the wrong shape, and for names in config that the model has not.

    >>> import numpy as np, qkernels as qk
    >>> from qkernels import nn
    >>> weight = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
    >>> data = np.array([[0.0, 1.0], [1.0, -1.0]], np.float32)
    >>> model = qk.quantize_model(nn.Sequential(nn.Linear(weight), nn.ReLU()), data)
    >>> bool(np.abs(model(data) - np.maximum(data @ weight.T, 0)).max() < 0.05)
    True
    """
    graph = _as_graph(model)
    config = QuantConfig() if config is None else config
    if not isinstance(config, QuantConfig):
        raise QKernelsTypeError(f"config must be a qkernels.QuantConfig, not {shown(config)}")
    layers = fuse(graph)
    config.check_names([layer.name for layer in layers], graph.inputs)
    plan = _plan(graph, layers, config)
    _calibrate(graph, layers, plan, calibration_data, progress)
    qparams = plan.choose(config)
    shapes = {name: _nhwc_shape(graph, shape) for name, shape in plan.shapes.items()}
    quantized: list[QuantizedLayer] = []
    for layer in layers:
        in_float = layer.name in plan.floats
        if layer.op in PRESERVING and not in_float:
            qparams[layer.name] = qparams[layer.inputs[0]]
        quantized.append(
            QuantizedLayer(
                name=layer.name,
                op=layer.op,
                inputs=layer.inputs,
                input_qparams=tuple(None if in_float else qparams[i] for i in layer.inputs),
                qparams=None if in_float else qparams[layer.name],
                output_shape=shapes[layer.name],
                activation=layer.activation,
                rounding=config.of(layer.name).rounding,
                attributes=MappingProxyType(_attributes(layer)),
                **_weights(layer, graph, plan.shapes, in_float),
            )
        )
    inputs = [
        ModelInput(name, qparams[name], name not in plan.floats, shapes[name])
        for name in graph.inputs
    ]
    produced = {name: name for name in graph.inputs}
    produced.update({source: layer.name for layer in layers for source in layer.sources})
    outputs = {name: produced[name] for name in graph.outputs}
    float_nbytes = sum(p.nbytes for layer in layers for p in layer.layer.parameters().values())
    return Model(quantized, inputs, outputs, graph.layout, float_nbytes)


def _as_graph(model: Any) -> nn.Graph:
    """The front end: from the kinds of model that are accepted to a graph."""
    if isinstance(model, nn.Graph):
        return model
    raise QKernelsTypeError(
        f"model must be a qkernels.nn.Graph or qkernels.nn.Sequential, not {type(model).__module__}"
        f".{type(model).__qualname__}"
    )


@dataclass
class _Plan:
    """What calibration has to find out, and what it found."""

    floats: set[str]  # values in float32: of layers that run in float, and inputs that they read
    histograms: dict[str, Histogram]
    shapes: dict[str, tuple[int, ...]]  # of the first batch, in the graph's layout

    def choose(self, config: QuantConfig) -> dict[str, QParams]:
        chosen = {}
        for name, histogram in self.histograms.items():
            own = config.of(name)
            chosen[name] = histogram.choose(
                own.method,
                own.activation_scheme,
                own.activation_dtype,
                percentile=own.percentile,
            )
        return chosen


def _plan(graph: nn.Graph, layers: Sequence[FusedLayer], config: QuantConfig) -> _Plan:
    lone = {layer.name for layer in layers if layer.op == "softmax"} | set(config.skip)
    floats = {i for layer in layers if layer.name in lone for i in layer.inputs}
    floats = lone | floats.intersection(graph.inputs)
    observed = set(graph.inputs)
    for layer in layers:
        if layer.op in PRESERVING and layer.inputs[0] in floats:
            floats.add(layer.name)
        if layer.name not in floats:
            observed.update(floats.intersection(layer.inputs))
            if layer.op not in PRESERVING:
                observed.add(layer.name)
    return _Plan(floats, {name: Histogram() for name in sorted(observed)}, {})


def _calibrate(
    graph: nn.Graph, layers: Sequence[FusedLayer], plan: _Plan, data: Any, progress: bool
) -> None:
    """Runs the float layers batch by batch and counts the values that need a range."""
    samples = 0
    count = _batch_count(data)
    with Progress("calibrating", count or 0, shown=progress and count is not None) as bar:
        for batch in _batches(graph.inputs, data):
            samples += _calibrate_batch(graph, layers, plan, batch)
            bar.advance()
    if samples == 0:
        raise QKernelsValueError("calibration_data must hold at least one sample, not none")


def _calibrate_batch(
    graph: nn.Graph, layers: Sequence[FusedLayer], plan: _Plan, batch: Mapping[str, Any]
) -> int:
    values: dict[str, Float] = {}
    for name in graph.inputs:
        values[name] = as_float32(batch[name], f"calibration_data: {name}")
        if values[name].ndim < 2:
            raise QKernelsValueError(
                f"calibration_data must have the batch first, not shape {values[name].shape}"
            )
        _observe(plan, name, values[name])
    for layer in layers:
        try:
            inputs = (values[name] for name in layer.inputs)
            values[layer.name] = layer.forward(*inputs, layout=graph.layout)
        except QKernelsError as error:
            raise type(error)(f"layer {layer.name!r}: {error}") from None
        _observe(plan, layer.name, values[layer.name])
    return len(values[graph.inputs[0]])


def _observe(plan: _Plan, name: str, value: Float) -> None:
    plan.shapes.setdefault(name, value.shape)
    if name in plan.histograms and value.size:
        try:
            plan.histograms[name].update(value)
        except QKernelsError as error:
            raise type(error)(f"calibration_data: value {name!r}: {error}") from None


def _batches(names: Sequence[str], data: Any) -> Iterator[Mapping[str, Any]]:
    """Batches by input name from an array, a dict of arrays, or an iterable of either."""
    if arrays.is_array(data) or isinstance(data, Mapping):
        named = by_name(names, data)
        for value in named.values():
            if not arrays.is_array(value) or len(value.shape) < 2:
                raise QKernelsValueError(
                    f"calibration_data must be an array with the batch first, not {shown(value)}"
                )
        lengths = {len(value) for value in named.values()}
        if len(lengths) != 1:
            raise QKernelsValueError(f"calibration_data must have equal lengths, not {lengths}")
        for start in range(0, lengths.pop(), _BATCH):
            yield {name: value[start : start + _BATCH] for name, value in named.items()}
        return
    try:
        batches = iter(data)
    except TypeError:
        raise QKernelsTypeError(
            f"calibration_data must be an array or an iterable of batches, not {shown(data)}"
        ) from None
    for batch in batches:
        yield by_name(names, batch)


def _batch_count(data: Any) -> int | None:
    """How many batches `_batches` will give, where that is known."""
    if isinstance(data, Mapping):
        data = next(iter(data.values()), ())
    try:
        return -(-len(data) // _BATCH) if arrays.is_array(data) else len(data)
    except TypeError:
        return None


def _nhwc_shape(graph: nn.Graph, shape: tuple[int, ...]) -> Shape:
    if len(shape) == 4 and graph.layout == "NCHW":
        shape = (shape[0], shape[2], shape[3], shape[1])
    return (None, *shape[1:])


def _attributes(layer: FusedLayer) -> dict[str, Any]:
    """The geometry of a layer by the names of its constructor."""
    float_layer = layer.layer
    if isinstance(float_layer, nn.Conv2d):
        names: tuple[str, ...] = ("stride", "padding", "dilation", "groups")
    elif isinstance(float_layer, nn.MaxPool2d | nn.AvgPool2d):
        names = ("kernel", "stride", "padding")
    else:
        return {"flatten": True} if layer.flatten else {}
    return {name: getattr(float_layer, name) for name in names}


def _weights(
    layer: FusedLayer, graph: nn.Graph, shapes: Mapping[str, tuple[int, ...]], in_float: bool
) -> dict[str, Any]:
    """weight and bias of the quantized layer: packed, or as they are in one that runs in float."""
    float_layer = layer.layer
    if not isinstance(float_layer, nn.Conv2d | nn.Linear):
        return {}
    weight, bias = float_layer.weight, float_layer.bias
    if in_float:
        return {"weight": weight, "bias": bias}
    if isinstance(float_layer, nn.Conv2d):
        packed = pack_conv2d(weight, bias, **_attributes(layer))
        return {"weight": packed, "bias": bias}
    shape = shapes[layer.inputs[0]]
    if layer.flatten and graph.layout == "NCHW" and len(shape) == 4:
        # The columns were learned for (C, H, W) order, and the integers will come in (H, W, C).
        columns = np.arange(weight.shape[1]).reshape(1, *shape[1:])
        weight = weight[:, to_layout(columns, "NCHW", "NHWC").ravel()]
    return {"weight": pack_linear(weight, bias), "bias": bias}
