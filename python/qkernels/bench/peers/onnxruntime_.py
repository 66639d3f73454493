# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime: models of one operator, inputs and outputs bound ahead.

Its own operators (com.microsoft) are used where they are faster than ONNX's: QGemm, which has a
bias, and QLinearConv with channels last.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from qkernels.bench.case import Array, Case, Data, aligned_empty
from qkernels.bench.contender import Run

from . import digits_onnx
from .base import Fetch, Peer

LIBRARY = "ONNX Runtime"

_MICROSOFT = "com.microsoft"


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    return {} if isa is None else None


def discover() -> Sequence[Peer] | str:
    try:
        runtime: Any = import_module("onnxruntime")
        onnx: Any = import_module("onnx")
    except ImportError as error:
        return f"ONNX Runtime is not measured: the package {error.name} is not installed."
    return [
        OnnxRuntime(runtime, onnx, "ONNX Runtime", "int8"),
        OnnxRuntime(runtime, onnx, "ONNX Runtime float32", "float32"),
    ]


class OnnxRuntime(Peer):
    """One operator a session."""

    def __init__(self, runtime: Any, onnx: Any, name: str, dtype: str) -> None:
        super().__init__(name, runtime.__version__, dtype)
        self._runtime, self._onnx = runtime, onnx
        runtime.set_default_logger_severity(3)

    def supports(self, case: Case) -> str | None:
        if self.dtype != "int8" and case.op not in ("linear", "dynamic", "conv", "digits"):
            return f"{case.op} is of integers"
        return super().supports(case)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        if self.dtype == "float32":
            activation = {"domain": _MICROSOFT, "activation": "Relu"}
            return self._float_linear("FusedGemm", data, data.x_real, threads, **activation)
        constants = {
            "x_scale": np.float32(data.x_scale),
            "x_zero_point": np.uint8(data.x_zero_point),
            "w": np.ascontiguousarray(data.w.T),
            "w_scale": data.w_scale,
            "w_zero_point": np.zeros(case.n, np.int8),
            "bias": data.bias,
            "y_scale": np.float32(data.out_scale),
            "y_zero_point": np.uint8(data.out_zero_point),
        }
        return self._session("QGemm", constants, data.x, data, threads, domain=_MICROSOFT)

    def _linear_s32(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        constants = {
            "w": np.ascontiguousarray(data.w.T),
            "x_zero_point": np.uint8(data.x_zero_point),
        }
        return self._session("MatMulInteger", constants, data.x, data, threads)

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        """Its dynamic quantization has one scale for all of x."""
        if self.dtype == "float32":
            return self._float_linear("Gemm", data, data.x, threads)
        constants = {
            "w": np.ascontiguousarray(data.w.T),
            "w_scale": data.w_scale,
            "w_zero_point": np.zeros(case.n, np.int8),
            "bias": data.bias_real,
        }
        return self._session(
            "DynamicQuantizeMatMul", constants, data.x, data, threads, domain=_MICROSOFT
        )

    def _float_linear(
        self, operator: str, data: Data, x: Array, threads: int, **attributes: Any
    ) -> tuple[Run, Fetch]:
        constants = {"w": np.ascontiguousarray(data.w_real.T), "bias": data.bias_real}
        return self._session(operator, constants, x, data, threads, np.float32, **attributes)

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        geometry = {
            "strides": [case.stride] * 2,
            "pads": [case.pad] * 4,
            "dilations": [case.dilation] * 2,
            "group": case.groups,
            "kernel_shape": [case.kh, case.kw],
        }
        if self.dtype == "float32":
            # Its float kernels are made for channels first: so is the data, bound ahead.
            constants = {
                "w": np.ascontiguousarray(data.w_real.transpose(0, 3, 1, 2)),
                "bias": data.bias_real,
            }
            x = np.ascontiguousarray(data.x_real.transpose(0, 3, 1, 2))
            shape = tuple(data.expected.shape[axis] for axis in (0, 3, 1, 2))
            run, fetch = self._session(
                "FusedConv",
                constants,
                x,
                data,
                threads,
                np.float32,
                shape=shape,
                domain=_MICROSOFT,
                activation="Relu",
                **geometry,
            )
            return run, lambda: fetch().transpose(0, 2, 3, 1)
        constants = {
            "x_scale": np.float32(data.x_scale),
            "x_zero_point": np.uint8(data.x_zero_point),
            "w": np.ascontiguousarray(data.w.transpose(0, 3, 1, 2)),
            "w_scale": data.w_scale,
            "w_zero_point": np.zeros(case.oc, np.int8),
            "y_scale": np.float32(data.out_scale),
            "y_zero_point": np.uint8(data.out_zero_point),
            "bias": data.bias,
        }
        return self._session(
            "QLinearConv",
            constants,
            data.x,
            data,
            threads,
            domain=_MICROSOFT,
            channels_last=1,
            **geometry,
        )

    def _quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        constants = {
            "scale": np.float32(data.out_scale),
            "zero_point": np.uint8(data.out_zero_point),
        }
        return self._session("QuantizeLinear", constants, data.x, data, threads)

    def _dequantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        constants = {
            "scale": np.float32(data.x_scale),
            "zero_point": np.uint8(data.x_zero_point),
        }
        return self._session("DequantizeLinear", constants, data.x, data, threads)

    def _digits(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        make = digits_onnx.float_model if self.dtype == "float32" else digits_onnx.int8_model
        out = aligned_empty(data.expected.shape, np.float32)
        return self._bound(make(self._onnx, case.batch), data.x, out, threads)

    def _session(
        self,
        operator: str,
        constants: dict[str, Any],
        x: Array,
        data: Data,
        threads: int,
        out_dtype: Any = None,
        *,
        domain: str = "",
        shape: tuple[int, ...] | None = None,
        **attributes: Any,
    ) -> tuple[Run, Fetch]:
        """A session of one operator with x first and the constants after it, in their order."""
        onnx, helper = self._onnx, self._onnx.helper
        out = aligned_empty(shape or data.expected.shape, out_dtype or data.expected.dtype)

        def info(name: str, array: Array) -> Any:
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            return helper.make_tensor_value_info(name, kind, array.shape)

        node = helper.make_node(operator, ["x", *constants], ["y"], domain=domain, **attributes)
        weights = [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in constants.items()
        ]
        graph = helper.make_graph([node], "bench", [info("x", x)], [info("y", out)], weights)
        imports = [helper.make_opsetid("", 19), helper.make_opsetid(_MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=9)
        return self._bound(model, x, out, threads)

    def _bound(self, model: Any, x: Array, out: Array, threads: int) -> tuple[Run, Fetch]:
        """A session of a model with one input and one output, bound to x and out."""
        runtime = self._runtime
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        binding = session.io_binding()
        binding.bind_ortvalue_input(
            session.get_inputs()[0].name, runtime.OrtValue.ortvalue_from_numpy(x)
        )
        binding.bind_ortvalue_output(
            session.get_outputs()[0].name, runtime.OrtValue.ortvalue_from_numpy(out)
        )
        run = session.run_with_iobinding

        def fetch() -> Array:
            _ = x  # the binding points into it
            return out

        return lambda: run(binding), fetch
