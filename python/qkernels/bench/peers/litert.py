# SPDX-License-Identifier: Apache-2.0
"""LiteRT (TensorFlow Lite) with XNNPACK: a model of one operator, written without TensorFlow.

Codes are int8 with zero point 0, which is what its quantization scheme is made for. Padding is
SAME or VALID there: where a layer pads more at the top and left than SAME would, image, kernel and
result are turned by 180 degrees, which is the same work.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import numpy as np

from qkernels.bench.case import Array, Case, Data, aligned
from qkernels.bench.contender import Run

from .base import Fetch, Peer, refuse_float

LIBRARY = "LiteRT"


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    return {} if isa is None else None


def discover() -> Sequence[Peer] | str:
    try:
        interpreter: Any = import_module("ai_edge_litert.interpreter")
    except ImportError:
        return "LiteRT is not measured: the package ai-edge-litert is not installed."
    try:
        schema: Any = import_module("ai_edge_litert.schema_py_generated")
        flatbuffers: Any = import_module("flatbuffers")
    except ImportError:
        return "LiteRT is not measured: its package lacks the schema of models, or flatbuffers."
    version = metadata.version("ai-edge-litert")
    return [LiteRT(interpreter, schema, flatbuffers, "LiteRT", version)]


def padding(case: Case) -> tuple[str, bool] | None:
    """("SAME" or "VALID", whether turned by 180 degrees), or None when neither fits."""
    if case.pad == 0:
        return "VALID", False
    turns = set()
    for size, kernel, out in zip(
        (case.h, case.w), (case.kh, case.kw), case.out_pixels, strict=True
    ):
        reach = case.dilation * (kernel - 1) + 1
        total = max(0, (out - 1) * case.stride + reach - size)
        if out != -(-size // case.stride) or case.pad not in (total // 2, total - total // 2):
            return None
        if total % 2:
            turns.add(case.pad != total // 2)
    return None if len(turns) > 1 else ("SAME", turns == {True})


class LiteRT(Peer):
    """One operator an interpreter, its input tensor filled ahead."""

    def __init__(
        self, interpreter: Any, schema: Any, flatbuffers: Any, name: str, version: str
    ) -> None:
        super().__init__(name, version)
        self._interpreter, self._schema, self._flatbuffers = interpreter, schema, flatbuffers

    def supports(self, case: Case) -> str | None:
        if case.op == "conv" and padding(case) is None:
            return "this padding is neither SAME nor VALID"
        return super().supports(case)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        model = _Model(self._schema)
        inputs = [
            model.tensor(data.x_int8.shape, "INT8", scale=data.x_scale),
            model.tensor(data.w.shape, "INT8", data.w, data.w_scale),
            model.tensor(data.bias.shape, "INT32", data.bias, _bias_scale(data)),
        ]
        output = model.tensor((case.m, case.n), "INT8", scale=data.out_scale, zero_point=-128)
        options = self._schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = self._schema.ActivationFunctionType.RELU
        model.operator("FULLY_CONNECTED", inputs, output, "FullyConnectedOptions", options)
        return self._run(model, data.x_int8, threads)

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        model = _Model(self._schema)
        inputs = [
            model.tensor(data.x.shape, "FLOAT32"),
            model.tensor(data.w.shape, "INT8", data.w, data.w_scale),
            model.tensor(data.bias.shape, "FLOAT32", data.bias_real),
        ]
        output = model.tensor((case.m, case.n), "FLOAT32")
        options = self._schema.FullyConnectedOptionsT()
        options.asymmetricQuantizeInputs = True
        model.operator("FULLY_CONNECTED", inputs, output, "FullyConnectedOptions", options)
        run, fetch = self._run(model, data.x, threads)
        run()
        refuse_float(fetch(), data)
        return run, fetch

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        schema, model = self._schema, _Model(self._schema)
        kind, turned = padding(case) or ("VALID", False)
        x, w = data.x_int8, data.w
        if turned:
            x, w = aligned(x[:, ::-1, ::-1]), np.ascontiguousarray(w[:, ::-1, ::-1])
        depthwise = case.groups == case.c > 1
        name, prefix, axis = "CONV_2D", "", 0
        if depthwise:
            name, prefix, axis = "DEPTHWISE_CONV_2D", "Depthwise", 3
            w = np.ascontiguousarray(w.transpose(3, 1, 2, 0))  # (1, kh, kw, oc)
        options = getattr(schema, f"{prefix}Conv2DOptionsT")()
        if depthwise:
            options.depthMultiplier = case.oc // case.c
        options.padding = getattr(schema.Padding, kind)
        options.strideH = options.strideW = case.stride
        options.dilationHFactor = options.dilationWFactor = case.dilation
        options.fusedActivationFunction = schema.ActivationFunctionType.RELU
        inputs = [
            model.tensor(x.shape, "INT8", scale=data.x_scale),
            model.tensor(w.shape, "INT8", w, data.w_scale, axis=axis),
            model.tensor(data.bias.shape, "INT32", data.bias, _bias_scale(data)),
        ]
        shape = data.expected.shape
        output = model.tensor(shape, "INT8", scale=data.out_scale, zero_point=-128)
        model.operator(name, inputs, output, f"{prefix}Conv2DOptions", options)
        run, fetch = self._run(model, x, threads)
        return run, lambda: fetch()[:, ::-1, ::-1] if turned else fetch()

    def _quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        model = _Model(self._schema)
        source = model.tensor(data.x.shape, "FLOAT32")
        zero = data.out_zero_point - 128
        output = model.tensor(data.x.shape, "INT8", scale=data.out_scale, zero_point=zero)
        options = self._schema.QuantizeOptionsT()
        model.operator("QUANTIZE", [source], output, "QuantizeOptions", options)
        return self._run(model, data.x, threads)

    def _dequantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        model = _Model(self._schema)
        zero = data.x_zero_point - 128
        source = model.tensor(data.x.shape, "INT8", scale=data.x_scale, zero_point=zero)
        output = model.tensor(data.x.shape, "FLOAT32")
        options = self._schema.DequantizeOptionsT()
        model.operator("DEQUANTIZE", [source], output, "DequantizeOptions", options)
        return self._run(model, data.x_int8, threads)

    def _run(self, model: _Model, x: Array, threads: int) -> tuple[Run, Fetch]:
        interpreter = self._interpreter.Interpreter(
            model_content=model.serialized(self._flatbuffers), num_threads=threads
        )
        interpreter.allocate_tensors()
        (source,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(source["index"], x)
        return interpreter.invoke, lambda: interpreter.get_tensor(result["index"])


def _bias_scale(data: Data) -> Array:
    scales: Array = np.float32(data.x_scale) * data.w_scale
    return scales


class _Model:
    """A model of one operator, built from its tensors."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers = [schema.BufferT()]  # the empty one, of tensors without data
        self._graph = schema.SubGraphT()
        self._graph.tensors = []

    def tensor(
        self,
        shape: Sequence[int],
        dtype: str,
        values: Array | None = None,
        scale: Any = None,
        *,
        zero_point: int = 0,
        axis: int = 0,
    ) -> int:
        """Adds a tensor, of constants when values are given; returns its index."""
        schema, tensor = self._schema, self._schema.TensorT()
        tensor.name = f"t{len(self._graph.tensors)}".encode()
        tensor.shape = np.asarray(shape, np.int32)
        tensor.type = getattr(schema.TensorType, dtype)
        tensor.buffer = 0
        if values is not None:
            buffer = schema.BufferT()
            buffer.data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
            self._model.buffers.append(buffer)
            tensor.buffer = len(self._model.buffers) - 1
        if scale is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            size = tensor.quantization.scale.size
            tensor.quantization.zeroPoint = np.full(size, zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], output: int, kind: str, options: Any
    ) -> None:
        """The operator; its first input is the model's, its output too."""
        schema, operator = self._schema, self._schema.OperatorT()
        operator.opcodeIndex = 0
        operator.inputs = np.asarray(inputs, np.int32)
        operator.outputs = np.asarray([output], np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        operator.builtinOptions = options
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = code.builtinCode
        code.version = 1
        self._model.operatorCodes = [code]
        self._graph.operators = [operator]
        self._graph.inputs = np.asarray(inputs[:1], np.int32)
        self._graph.outputs = np.asarray([output], np.int32)
        self._model.subgraphs = [self._graph]

    def serialized(self, flatbuffers: Any) -> bytes:
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
