# SPDX-License-Identifier: Apache-2.0
"""A quantized model: integer layers in the order they run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkernels import arrays
from qkernels.checks import shown
from qkernels.errors import QKernelsError, QKernelsTypeError, QKernelsValueError
from qkernels.graph.inputs import as_float32, by_name, single_name
from qkernels.graph.layouts import Layout, check_layout, to_layout
from qkernels.graph.prepare import Step, prepare
from qkernels.graph.spec import PRESERVING, ModelInput, QuantizedLayer
from qkernels.quantization.functional import dequantize, quantize
from qkernels.quantization.qparams import QParams

Array = NDArray[Any]


class LayerOutput(NamedTuple):
    """One item of `Model.trace`: `output` has the integers, or float32 where qparams is None."""

    name: str
    op: str
    output: Array
    qparams: QParams | None


class Model:
    """A quantized model, made by `qkernels.quantize_model` or `qkernels.load`. Immutable.

    `model(x)` takes float32 in the layout of the graph it was made from, quantizes it with the
    input's calibrated scale and zero point, runs the layers on integers, and returns float32.
    Integers of the input's dtype are taken as quantized already. Inside, feature maps are
    (batch, height, width, channels). Any number of threads may call one model.

    Attributes:
        layers: the `QuantizedLayer`s in order.
        inputs: the `ModelInput`s; outputs: names of the results.
        layout: "NCHW" or "NHWC", of the feature maps that go in and out.
        nbytes: bytes of packed weights, scales and biases in memory.
        float_nbytes: bytes of the same parameters in float32.
    """

    def __init__(
        self,
        layers: Sequence[QuantizedLayer],
        inputs: Sequence[ModelInput],
        outputs: Mapping[str, str],
        layout: Layout,
        float_nbytes: int,
    ) -> None:
        """outputs: the layer (or input) whose value is returned under each name."""
        self._layers = tuple(layers)
        self._inputs = tuple(inputs)
        self._values = MappingProxyType(dict(outputs))
        self._layout: Layout = check_layout(layout)
        self._float_nbytes = int(float_nbytes)
        self._qparams = _flow(self._layers, self._inputs, self._values)
        self._index = {layer.name: index for index, layer in enumerate(self._layers)}
        self._steps = tuple(_prepared(layer, self._layout) for layer in self._layers)
        self._unused = _unused_after(self._layers, set(self._values.values()))

        self._frozen = True

    def __setattr__(self, name: str, value: Any) -> None:
        if getattr(self, "_frozen", False):
            raise AttributeError(f"a Model is immutable: {name!r} cannot be set")
        super().__setattr__(name, value)

    def __call__(self, x: Any) -> Any:
        """The float32 output for one batch x; an array of x's kind.

        Raises QKernelsError when x has another dtype or shape than the first layer takes, or NaN.
        """
        name = single_name("output", self.outputs)
        return self.run({single_name("input", [i.name for i in self._inputs]): x})[name]

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All outputs by name, float32, from all inputs by name."""
        values, wrap = self._start(inputs)
        for index, _ in self._execute(values):
            for name in self._unused[index]:
                del values[name]
        results = {}
        for name, source in self._values.items():
            y = _convert(values[source], self._qparams[source], None)
            results[name] = wrap(np.ascontiguousarray(to_layout(y, "NHWC", self._layout)))
        return results

    def trace(self, x: Any, layout: Layout = "NHWC") -> Iterator[LayerOutput]:
        """(name, op, output, qparams) of layer after layer, for one batch.

        x: the input as in `model(x)`, or a dict of inputs by name. layout: of the feature maps
        that come out, by default as they are inside. Layers that run in float (those skipped in
        the configuration, and softmax) give float32 and qparams None.
        """
        check_layout(layout)
        values, _ = self._start(x)
        for index, output in self._execute(values):
            layer = self._layers[index]
            shown_output = to_layout(output, "NHWC", layout)
            yield LayerOutput(layer.name, layer.op, shown_output, layer.qparams)

    def step(self, name: str) -> Step:
        """The layer alone: a function of its inputs as NumPy arrays, feature maps NHWC.

        Each input is integers with the layer's `input_qparams`, or float32 where that is None.
        """
        return self._steps[self._layer_index(name)]

    def layer_inputs(
        self, name: str, inputs: Any, layout: Layout | None = None
    ) -> tuple[Array, ...]:
        """Float inputs of one layer as `step(name)` takes them: quantized, feature maps NHWC.

        inputs: an array, or a sequence of arrays for a layer with two inputs. layout: of the
        feature maps among them, by default the model's.
        """
        layer = self._layers[self._layer_index(name)]
        layout = self._layout if layout is None else check_layout(layout)
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        if len(given) != len(layer.inputs):
            raise QKernelsValueError(
                f"inputs of layer {name!r} must be {len(layer.inputs)}, not {len(given)}"
            )
        floats = (as_float32(x, "inputs") for x in given)
        return tuple(
            _nhwc(_convert(x, None, qparams), layout)
            for x, qparams in zip(floats, layer.input_qparams, strict=True)
        )

    def run_layer(self, name: str, inputs: Any, layout: Layout | None = None) -> Array:
        """The integer output of one layer for float inputs; arguments as in `layer_inputs`."""
        layout = self._layout if layout is None else check_layout(layout)
        output = self._run_step(self._layer_index(name), self.layer_inputs(name, inputs, layout))
        return to_layout(output, "NHWC", layout)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model into one safetensors file, replacing `path` only when it is complete.

        `qkernels.load` reads it. Raises OSError when the file cannot be written.
        """
        from qkernels.graph.serialize import save

        save(self, path)

    def summary(self) -> str:
        """A table with a row a layer."""
        from qkernels.graph.summary import summarize

        return summarize(self)

    @property
    def layers(self) -> tuple[QuantizedLayer, ...]:
        return self._layers

    @property
    def inputs(self) -> tuple[ModelInput, ...]:
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(self._values)

    @property
    def output_values(self) -> Mapping[str, str]:
        """The layer (or input) that each output is the value of."""
        return self._values

    @property
    def layout(self) -> Layout:
        return self._layout

    @property
    def nbytes(self) -> int:
        return sum(layer.nbytes for layer in self._layers)

    @property
    def float_nbytes(self) -> int:
        return self._float_nbytes

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from qkernels.graph.serialize import dumps, loads

        return loads, (dumps(self),)

    def __repr__(self) -> str:
        names = ", ".join(i.name for i in self._inputs)
        return (
            f"Model({names} -> {', '.join(self.outputs)}; {len(self._layers)} layers, "
            f"{self._layout}, {self.nbytes} bytes)"
        )

    def _layer_index(self, name: str) -> int:
        if name not in self._index:
            raise QKernelsValueError(f"name must be one of {list(self._index)}, not {shown(name)}")
        return self._index[name]

    def _start(self, inputs: Any) -> tuple[dict[str, Array], arrays.Wrap]:
        """The inputs as the layers read them, and the way back to their kind of array."""
        named = by_name([i.name for i in self._inputs], inputs)
        wrap = arrays.operand(named[self._inputs[0].name], self._inputs[0].name).wrap
        return {i.name: _enter(i, named[i.name], self._layout) for i in self._inputs}, wrap

    def _execute(self, values: dict[str, Array]) -> Iterator[tuple[int, Array]]:
        """Runs layer after layer, adding each output to `values`."""
        for index, layer in enumerate(self._layers):
            args = [
                _convert(values[source], self._qparams[source], want)
                for source, want in zip(layer.inputs, layer.input_qparams, strict=True)
            ]
            values[layer.name] = self._run_step(index, args)
            yield index, values[layer.name]

    def _run_step(self, index: int, args: Sequence[Array]) -> Array:
        try:
            return self._steps[index](*args)
        except QKernelsError as error:
            raise type(error)(f"layer {self._layers[index].name!r}: {error}") from None


def _prepared(layer: QuantizedLayer, layout: Layout) -> Step:
    try:
        return prepare(layer, layout)
    except QKernelsError as error:
        raise type(error)(f"layer {layer.name!r}: {error}") from None


def _flow(
    layers: Sequence[QuantizedLayer], inputs: Sequence[ModelInput], outputs: Mapping[str, str]
) -> dict[str, QParams | None]:
    """How each value is quantized (None: float32), checked from producer to readers."""
    flow = {i.name: i.qparams if i.quantized else None for i in inputs}
    if len(flow) != len(inputs) or not flow or not outputs:
        raise QKernelsValueError("inputs and outputs must have unique names and not be empty")
    for layer in layers:
        if layer.name in flow:
            raise QKernelsValueError(f"layer {layer.name!r} must have a name of its own")
        if len(layer.inputs) != len(layer.input_qparams):
            raise QKernelsValueError(f"layer {layer.name!r} must have qparams for each input")
        for source, want in zip(layer.inputs, layer.input_qparams, strict=True):
            if source not in flow:
                raise QKernelsValueError(f"layer {layer.name!r} reads {source!r}, which is unknown")
            have = flow[source]
            if have is not None and want is not None and have != want:
                raise QKernelsValueError(
                    f"layer {layer.name!r} reads {source!r} as {want}, but it is {have}"
                )
            if (want is None) == layer.quantized:
                raise QKernelsValueError(
                    f"layer {layer.name!r} must be quantized on both sides or on neither"
                )
        if layer.op in PRESERVING and layer.qparams != layer.input_qparams[0]:
            raise QKernelsValueError(f"layer {layer.name!r} ({layer.op}) must keep its qparams")
        flow[layer.name] = layer.qparams
    unknown = [source for source in outputs.values() if source not in flow]
    if unknown:
        raise QKernelsValueError(f"outputs must be values of the model, not {unknown}")
    return flow


def _unused_after(layers: Sequence[QuantizedLayer], kept: set[str]) -> list[list[str]]:
    """For each layer the values that nothing reads after it."""
    last: dict[str, int] = {}
    for index, layer in enumerate(layers):
        last[layer.name] = index
        last.update(dict.fromkeys(layer.inputs, index))
    unused: list[list[str]] = [[] for _ in layers]
    for name, index in last.items():
        if name not in kept:
            unused[index].append(name)
    return unused


def _enter(declared: ModelInput, x: Any, layout: Layout) -> Array:
    """One input, from what the caller passed to what the layers read."""
    source = arrays.operand(x, declared.name)
    want = declared.qparams if declared.quantized else None
    if source.dtype in arrays.REALS:
        value: Array = arrays.widened(source)
        have = None
    elif source.dtype == declared.qparams.dtype:
        value, have = source.data, declared.qparams
    else:
        raise QKernelsTypeError(
            f"input {declared.name!r} must be {', '.join(arrays.REALS)}, or already quantized "
            f"{declared.qparams.dtype}, not {source.dtype}"
        )
    if value.ndim != len(declared.shape):
        raise QKernelsValueError(
            f"input {declared.name!r} must have {len(declared.shape)} axes with the batch first, "
            f"not shape {value.shape}"
        )
    return _nhwc(_convert(value, have, want), layout)


def _nhwc(x: Array, layout: Layout) -> Array:
    return np.ascontiguousarray(to_layout(x, layout, "NHWC"))


def _convert(x: Array, have: QParams | None, want: QParams | None) -> Array:
    """Between float32 (None) and integers; from integers to others never happens."""
    if have is not None and want is None:
        result: Array = dequantize(x, have.scale, have.zero_point)
        return result
    if have is None and want is not None:
        quantized: Array = quantize(x, want.scale, want.zero_point, dtype=want.dtype)
        return quantized
    return x
