# SPDX-License-Identifier: Apache-2.0
"""PyTorch: the operators that its quantized models are lowered to, which call oneDNN; and those of
its older quantized tensors, which call FBGEMM."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from qkernels.bench.case import Array, Case, Data
from qkernels.bench.contender import Run

from .base import Fetch, Peer, onednn_environment

LIBRARY = "PyTorch"

environment = onednn_environment


def discover() -> Sequence[Peer] | str:
    try:
        torch: Any = import_module("torch")
    except ImportError:
        return "PyTorch is not measured: the package torch is not installed."
    if not hasattr(torch.ops.onednn, "qlinear_pointwise"):
        return f"PyTorch is not measured: torch {torch.__version__} lacks onednn.qlinear_pointwise."
    torch.set_grad_enabled(False)
    version = str(torch.__version__)
    found: list[Peer] = [PyTorch(torch, "PyTorch", version)]
    if "fbgemm" in torch.backends.quantized.supported_engines:
        found.append(PyTorchFbgemm(torch, "PyTorch FBGEMM", version))
    return found


class PyTorch(Peer):
    """Operators on plain tensors, without gradients, by oneDNN."""

    def __init__(self, torch: Any, name: str, version: str) -> None:
        super().__init__(name, version)
        self._torch = torch

    def supports(self, case: Case) -> str | None:
        if case.op == "linear_s32" and case.m <= 16:
            return "_int_mm needs more than 16 rows"
        return super().supports(case)

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        self._torch.set_num_threads(threads)
        return super().prepare(case, data, threads)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        torch = self._torch
        packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(data.w), [case.m, case.k])
        arguments: tuple[Any, ...] = (
            *(torch.from_numpy(data.x), data.x_scale, data.x_zero_point),
            *(packed, torch.from_numpy(data.w_scale), torch.zeros(case.n, dtype=torch.int64)),
            *(torch.from_numpy(data.bias_real), data.out_scale, data.out_zero_point),
            *(torch.uint8, "relu", [], ""),
        )
        return _kept(torch.ops.onednn.qlinear_pointwise.default, arguments, torch.Tensor.numpy)

    def _linear_s32(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        torch = self._torch
        x, w = torch.from_numpy(data.x_int8), torch.from_numpy(data.w).t()
        out = torch.empty(case.m, case.n, dtype=torch.int32)
        multiply = torch._int_mm
        return lambda: multiply(x, w, out=out), out.numpy

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        return _dynamic(self._torch, "onednn", data)

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        torch = self._torch
        geometry = ([case.stride] * 2, [case.pad] * 2, [case.dilation] * 2, case.groups)
        # Shapes say NCHW, memory is NHWC, as torch's channels_last.
        x = torch.from_numpy(data.x).permute(0, 3, 1, 2)
        w = torch.from_numpy(np.ascontiguousarray(data.w.transpose(0, 3, 1, 2)))
        scale = torch.from_numpy(data.w_scale)
        packed = torch.ops.onednn.qconv_prepack(
            w, scale, data.x_scale, data.x_zero_point, *geometry, list(x.shape)
        )
        arguments: tuple[Any, ...] = (
            *(x, data.x_scale, data.x_zero_point),
            *(packed, scale, torch.zeros(case.oc, dtype=torch.int64)),
            *(torch.from_numpy(data.bias_real), *geometry),
            *(data.out_scale, data.out_zero_point, torch.uint8, "relu", [], ""),
        )
        operator = torch.ops.onednn.qconv_pointwise.default
        return _kept(operator, arguments, lambda y: y.permute(0, 2, 3, 1).numpy())

    def _quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        torch = self._torch
        arguments = (torch.from_numpy(data.x), data.out_scale, data.out_zero_point, torch.quint8)
        operator = torch.quantize_per_tensor
        run, fetch = _kept(operator, arguments, lambda y: y.int_repr().numpy())
        with _old_dtypes():
            run()
        return run, fetch

    def _dequantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        torch = self._torch
        with _old_dtypes():
            x = torch._make_per_tensor_quantized_tensor(
                torch.from_numpy(data.x), data.x_scale, data.x_zero_point
            )
        return _kept(x.dequantize, (), torch.Tensor.numpy)


class PyTorchFbgemm(Peer):
    """The older operators on quantized tensors, by FBGEMM."""

    def __init__(self, torch: Any, name: str, version: str) -> None:
        super().__init__(name, version)
        self._torch = torch

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        self._torch.set_num_threads(threads)
        self._torch.backends.quantized.engine = "fbgemm"
        return super().prepare(case, data, threads)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        operators = self._torch.ops.quantized
        weight = _quantized_weight(self._torch, data, data.w)
        packed = operators.linear_prepack(weight, self._torch.from_numpy(data.bias_real))
        x = self._quantized_x(data)
        arguments = (x, packed, data.out_scale, data.out_zero_point)
        return _kept(operators.linear_relu.default, arguments, lambda y: y.int_repr().numpy())

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        return _dynamic(self._torch, "fbgemm", data)

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        operators = self._torch.ops.quantized
        w = np.ascontiguousarray(data.w.transpose(0, 3, 1, 2))
        packed = operators.conv2d_prepack(
            _quantized_weight(self._torch, data, w),
            self._torch.from_numpy(data.bias_real),
            *([case.stride] * 2, [case.pad] * 2, [case.dilation] * 2, case.groups),
        )
        x = self._quantized_x(data).permute(0, 3, 1, 2)
        arguments = (x, packed, data.out_scale, data.out_zero_point)
        operator = operators.conv2d_relu.new
        return _kept(operator, arguments, lambda y: y.int_repr().permute(0, 2, 3, 1).numpy())

    def _quantized_x(self, data: Data) -> Any:
        with _old_dtypes():
            return self._torch._make_per_tensor_quantized_tensor(
                self._torch.from_numpy(data.x), data.x_scale, data.x_zero_point
            )


def _quantized_weight(torch: Any, data: Data, w: Array) -> Any:
    """Codes with a scale for each output channel, as one of torch's quantized tensors."""
    with _old_dtypes():
        return torch._make_per_channel_quantized_tensor(
            torch.from_numpy(w),
            torch.from_numpy(data.w_scale).double(),
            torch.zeros(len(w), dtype=torch.int64),
            0,
        )


def _dynamic(torch: Any, engine: str, data: Data) -> tuple[Run, Fetch]:
    """torch's dynamic quantization has one scale for all of x."""
    torch.backends.quantized.engine = engine
    operators = torch.ops.quantized
    weight = _quantized_weight(torch, data, data.w)
    packed = operators.linear_prepack(weight, torch.from_numpy(data.bias_real))
    return _kept(
        operators.linear_dynamic.default, (torch.from_numpy(data.x), packed), torch.Tensor.numpy
    )


def _kept(
    operator: Callable[..., Any], arguments: Sequence[Any], to_numpy: Callable[[Any], Array]
) -> tuple[Run, Fetch]:
    """The call, whose result is a new tensor, as in any model, and the last result as an array."""
    last: list[Any] = [None]

    def run() -> None:
        last[0] = operator(*arguments)

    return run, lambda: to_numpy(last[0])


@contextmanager
def _old_dtypes() -> Iterator[None]:
    """torch warns that its quantized dtypes will go; the operators on them have no other way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
