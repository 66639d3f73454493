# SPDX-License-Identifier: Apache-2.0
"""The digits network as an ONNX model, in float32 and as ONNX Runtime's tools quantize it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from qkernels import nn
from qkernels.data import digits


def float_model(onnx: Any, batch: int) -> Any:
    """Images "image" (batch, 1, 8, 8) to scores "classifier" (batch, 10)."""
    helper, network = onnx.helper, digits.network()
    float32 = onnx.TensorProto.FLOAT
    nodes: list[Any] = []
    weights: list[Any] = []
    for node in network.nodes:
        constants = node.layer.parameters()
        names = [f"{node.name}.{name}" for name in constants]
        operator, attributes = _operator(node.layer)
        nodes.append(
            helper.make_node(
                operator, [*node.inputs, *names], [node.name], name=node.name, **attributes
            )
        )
        weights += map(onnx.numpy_helper.from_array, constants.values(), names)
    scores = len(network.layers["classifier"].parameters()["bias"])
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", float32, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("classifier", float32, [batch, scores])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def _operator(layer: nn.Layer) -> tuple[str, dict[str, Any]]:
    """ONNX's operator and its attributes for a layer of the digits network."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str), "no layer of it pads by name"
        pads = [low for low, _ in layer.padding] + [high for _, high in layer.padding]
        return "Conv", {"group": layer.groups, "pads": pads, "strides": list(layer.stride)}
    if isinstance(layer, nn.MaxPool2d):
        return "MaxPool", {"kernel_shape": list(layer.kernel), "strides": list(layer.stride)}
    if isinstance(layer, nn.Linear):
        return "Gemm", {"transB": 1}
    plain = {nn.ReLU: "Relu", nn.Add: "Add", nn.Flatten: "Flatten"}
    return plain[type(layer)], {}


def int8_model(onnx: Any, batch: int) -> Any:
    """Quantized with the calibration images: uint8 activations, int8 weights by the channel."""
    tools: Any = import_module("onnxruntime.quantization")
    images: Iterator[dict[str, Any]] = iter(
        {"image": np.resize(image, (batch, *image.shape))} for image in digits.calibration()
    )

    class Images(tools.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(images, None)

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(float_model(onnx, batch), source)
        tools.quantize_static(
            source,
            target,
            Images(),
            per_channel=True,
            activation_type=tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
        )
        return onnx.load(target)
