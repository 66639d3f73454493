# SPDX-License-Identifier: Apache-2.0
"""OpenVINO: a model of one layer with the quantization around it that its CPU plugin fuses.

Codes enter as int8 with zero point 0, so that nothing has to be compensated. A model that the
plugin did not run in int8 is refused: its execution graph says in what precision each layer runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import numpy as np

from qkernels.bench.case import Array, Case, Data, aligned_empty
from qkernels.bench.contender import Run

from .base import AMX, ISA_VARIABLE, Fetch, Peer, onednn_environment, refuse_float

LIBRARY = "OpenVINO"

# Its CPU plugin carries oneDNN, which honours the same variable.
environment = onednn_environment

_LAYERS = ("FullyConnected", "MatMul", "Convolution", "GroupConvolution")


def discover() -> Sequence[Peer] | str:
    try:
        openvino: Any = import_module("openvino")
    except ImportError:
        return "OpenVINO is not measured: the package openvino is not installed."
    version = metadata.version("openvino")
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # knows no cap
    bfloat16 = "BF16" in able and os.environ.get(ISA_VARIABLE, AMX) == AMX
    dtypes = ["int8", "float32", *(["bfloat16"] if bfloat16 else [])]
    return [OpenVINO(openvino, version, dtype) for dtype in dtypes]


class OpenVINO(Peer):
    """Models of one layer, the request bound to aligned tensors."""

    def __init__(self, openvino: Any, version: str, dtype: str) -> None:
        super().__init__("OpenVINO" if dtype == "int8" else f"OpenVINO {dtype}", version, dtype)
        self._openvino = openvino
        self._op: Any = import_module("openvino.opset13")

    def supports(self, case: Case) -> str | None:
        if self.dtype != "int8" and case.op not in ("dynamic", "conv"):
            return "its float arithmetic is timed where the input is float, and in convolutions"
        return super().supports(case)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        op = self._op
        x = op.parameter([case.m, case.k], np.int8)
        product = op.matmul(self._real(x, data.x_scale), self._weights(data), False, True)
        biased = op.relu(op.add(product, op.constant(data.bias_real[None])))
        return self._compiled(x, self._codes(biased, data), data.x_int8, data, threads)

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        op = self._op
        x = op.parameter([case.m, case.k], np.float32)
        int8 = self.dtype == "int8"
        weights = self._weights(data) if int8 else op.constant(data.w_real)
        product = op.matmul(x, weights, False, True)
        biased = op.add(product, op.constant(data.bias_real[None]))
        run, fetch = self._compiled(x, biased, data.x, data, threads, group=case.k)
        if int8:
            run()
            refuse_float(fetch(), data)
        return run, fetch

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        op, int8 = self._op, self.dtype == "int8"
        x = op.parameter([case.batch, case.h, case.w, case.c], np.int8 if int8 else np.float32)
        # The plugin computes in NHWC: these transpositions cost nothing.
        image = op.transpose(self._real(x, data.x_scale) if int8 else x, [0, 3, 1, 2])
        shape = [case.oc, case.c // case.groups, case.kh, case.kw]
        codes = np.ascontiguousarray((data.w if int8 else data.w_real).transpose(0, 3, 1, 2))
        scale = data.w_scale.reshape(-1, 1, 1, 1)
        if case.groups > 1:
            shape = [case.groups, case.oc // case.groups, *shape[1:]]
            codes, scale = codes.reshape(shape), scale.reshape(*shape[:2], 1, 1, 1)
        weights = op.constant(codes)
        if int8:
            weights = op.multiply(op.convert(weights, "f32"), op.constant(scale))
        convolution = op.group_convolution if case.groups > 1 else op.convolution
        strides, pads, dilations = [case.stride] * 2, [case.pad] * 2, [case.dilation] * 2
        product = convolution(image, weights, strides, pads, pads, dilations)
        biased = op.relu(op.add(product, op.constant(data.bias_real.reshape(1, -1, 1, 1))))
        result = self._codes(biased, data) if int8 else biased
        result = op.transpose(result, [0, 2, 3, 1])
        source = data.x_int8 if int8 else data.x_real
        return self._compiled(x, result, source, data, threads, None if int8 else np.float32)

    def _real(self, codes: Any, scale: float) -> Any:
        op = self._op
        return op.multiply(op.convert(codes, "f32"), op.constant(np.float32(scale)))

    def _weights(self, data: Data) -> Any:
        op = self._op
        return op.multiply(
            op.convert(op.constant(data.w), "f32"), op.constant(data.w_scale[:, None])
        )

    def _codes(self, real: Any, data: Data) -> Any:
        op = self._op
        low, high = (
            np.float32(code - data.out_zero_point) * np.float32(data.out_scale) for code in (0, 255)
        )
        ends = (low, high, np.float32(0), np.float32(255))
        return op.convert(op.fake_quantize(real, *map(op.constant, ends), 256), "u8")

    def _compiled(
        self,
        x: Any,
        result: Any,
        source: Array,
        data: Data,
        threads: int,
        out_dtype: Any = None,
        *,
        group: int = 0,
    ) -> tuple[Run, Fetch]:
        openvino = self._openvino
        model = openvino.Model([self._op.result(result)], [x])
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "bf16" if self.dtype == "bfloat16" else "f32",
            # Elements of a row that share a scale in dynamic quantization: all of them.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        self._check(compiled, source.dtype)
        out = aligned_empty(data.expected.shape, out_dtype or data.expected.dtype)
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(source, shared_memory=True))
        request.set_output_tensor(openvino.Tensor(out, shared_memory=True))
        infer = request.infer

        def fetch() -> Array:
            _ = source, compiled  # the request points into them
            return out

        return lambda: infer(share_outputs=True), fetch

    def _check(self, compiled: Any, source: np.dtype[Any]) -> None:
        """The layer must run in the arithmetic that this contender stands for."""
        layers = []
        for node in compiled.get_runtime_model().get_ordered_ops():
            facts = node.get_rt_info()
            if facts["layerType"].value in _LAYERS:
                layers.append((facts["primitiveType"].value, facts["runtimePrecision"].value))
        self.implementation = ", ".join(primitive for primitive, _ in layers)
        if self.dtype == "int8" and source != np.float32:
            wrong = [name for name, _ in layers if not name.lower().endswith(("_i8", "_u8"))]
            if wrong or not layers:
                raise RuntimeError(f"the layer runs as {', '.join(wrong) or 'another'}, not int8")
