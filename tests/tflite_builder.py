# SPDX-License-Identifier: Apache-2.0
"""One int8 convolution as a .tflite flatbuffer, and TFLite's reference kernels to run it.

The schema's object API ships with ai-edge-litert, so TensorFlow is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import interpreter as litert
from ai_edge_litert import schema_py_generated as schema


@dataclass(frozen=True)
class Convolution:
    """weight is OHWI for CONV_2D, and (1, KH, KW, O) for DEPTHWISE_CONV_2D, as TFLite has them."""

    x_shape: tuple[int, ...]
    weight: np.ndarray
    bias: np.ndarray
    x_scale: float
    x_zero_point: int
    weight_scale: np.ndarray
    out_scale: float
    out_zero_point: int
    out_shape: tuple[int, ...]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    same: bool = False
    relu: str | None = None
    depthwise: bool = False


def tensor(
    name: str, shape: Any, kind: int, buffer: int, scale: Any, zero_point: Any, axis: int = 0
):
    quantization = schema.QuantizationParametersT()
    quantization.scale = [float(v) for v in np.ravel(scale)]
    quantization.zeroPoint = [int(v) for v in np.ravel(zero_point)]
    quantization.quantizedDimension = axis
    result = schema.TensorT()
    result.name, result.shape, result.type = name, list(shape), kind
    result.buffer, result.quantization = buffer, quantization
    return result


def data(array: np.ndarray | None = None):
    result = schema.BufferT()
    if array is not None:
        result.data = np.frombuffer(array.tobytes(), np.uint8)
    return result


def operator(conv: Convolution):
    options: Any
    if conv.depthwise:
        options, kind = (
            schema.DepthwiseConv2DOptionsT(),
            schema.BuiltinOptions.DepthwiseConv2DOptions,
        )
        options.depthMultiplier = conv.weight.shape[-1] // conv.x_shape[-1]
    else:
        options, kind = schema.Conv2DOptionsT(), schema.BuiltinOptions.Conv2DOptions
    options.padding = schema.Padding.SAME if conv.same else schema.Padding.VALID
    options.strideH, options.strideW = conv.stride
    options.dilationHFactor, options.dilationWFactor = conv.dilation
    activation = schema.ActivationFunctionType
    options.fusedActivationFunction = {
        None: activation.NONE,
        "relu": activation.RELU,
        "relu6": activation.RELU6,
    }[conv.relu]
    result = schema.OperatorT()
    result.opcodeIndex, result.inputs, result.outputs = 0, [0, 1, 2], [3]
    result.builtinOptionsType, result.builtinOptions = kind, options
    return result


def build(conv: Convolution) -> bytes:
    code = schema.OperatorCodeT()
    name = "DEPTHWISE_CONV_2D" if conv.depthwise else "CONV_2D"
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 3
    zeros = np.zeros(conv.weight_scale.size, np.int64)
    int8, int32 = schema.TensorType.INT8, schema.TensorType.INT32
    # The product of the float32 scales as TFLite's converter stores it: checked to 2 % when loaded.
    bias_scale = np.float32(conv.x_scale) * np.asarray(conv.weight_scale, np.float32)
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("x", conv.x_shape, int8, 1, conv.x_scale, conv.x_zero_point),
        tensor(
            "weight",
            conv.weight.shape,
            int8,
            2,
            conv.weight_scale,
            zeros,
            3 if conv.depthwise else 0,
        ),
        tensor("bias", conv.bias.shape, int32, 3, bias_scale, zeros),
        tensor("y", conv.out_shape, int8, 4, conv.out_scale, conv.out_zero_point),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator(conv)]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [data(), data(), data(conv.weight), data(conv.bias), data()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def run(conv: Convolution, x: np.ndarray) -> np.ndarray:
    """The output of the reference kernel."""
    interpreter = litert.Interpreter(
        model_content=build(conv),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
        num_threads=1,
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
