# SPDX-License-Identifier: Apache-2.0
"""qkernels itself: bound calls with `out=`, the way that its documentation advises for hot loops.

The worker's environment decides the tier, so that there is a contender for each tier asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import qkernels as qk
from qkernels.bench.case import Case, Data, aligned_empty
from qkernels.bench.contender import Run

from .base import Fetch, Peer

LIBRARY = "qkernels"


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    variables = {"QKERNELS_NUM_THREADS": str(threads)}
    return variables if isa is None else variables | {"QKERNELS_ISA": isa}


def discover() -> Sequence[Peer] | str:
    return [QKernels(LIBRARY, qk.__version__)]


class QKernels(Peer):
    """Linear and convolution through `packed.bind`, the rest through its functions."""

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        qk.set_num_threads(threads)
        return super().prepare(case, data, threads)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        packed = qk.pack_linear(data.w, data.bias, weight_scale=data.w_scale)
        form: dict[str, Any] = {
            "x_scale": data.x_scale,
            "x_zero_point": data.x_zero_point,
            "out_scale": data.out_scale,
            "out_zero_point": data.out_zero_point,
            "activation": "relu",
        }
        x, out = data.x, aligned_empty((case.m, case.n), np.uint8)
        if case.params.get("call") == "function":
            return lambda: qk.linear_int8(x, packed, out=out, **form), lambda: out
        bound = packed.bind(**form)
        return lambda: bound(x, out), lambda: out

    def _linear_s32(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        bound = qk.pack_linear(data.w).bind(x_zero_point=data.x_zero_point, out_dtype="int32")
        x, out = data.x, aligned_empty((case.m, case.n), np.int32)
        return lambda: bound(x, out), lambda: out

    def _dynamic(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        bound = qk.pack_linear(data.w, data.bias_real, weight_scale=data.w_scale).bind()
        x, out = data.x, aligned_empty((case.m, case.n), np.float32)
        return lambda: bound(x, out), lambda: out

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        packed = qk.pack_conv2d(
            data.w,
            data.bias,
            weight_scale=data.w_scale,
            weight_layout="OHWI",
            stride=case.stride,
            padding=case.pad,
            dilation=case.dilation,
            groups=case.groups,
        )
        bound = packed.bind(
            x_scale=data.x_scale,
            x_zero_point=data.x_zero_point,
            out_scale=data.out_scale,
            out_zero_point=data.out_zero_point,
            activation="relu",
        )
        x, out = data.x, aligned_empty(data.expected.shape, np.uint8)
        return lambda: bound(x, out), lambda: out

    def _quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        x, out = data.x, aligned_empty(data.expected.shape, np.uint8)
        scale, zero = data.out_scale, data.out_zero_point
        return lambda: qk.quantize(x, scale, zero, dtype="uint8", out=out), lambda: out

    def _dequantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        x, out = data.x, aligned_empty(data.expected.shape, np.float32)
        scale, zero = data.x_scale, data.x_zero_point
        return lambda: qk.dequantize(x, scale, zero, out=out), lambda: out

    def _requantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        x, out = data.x, aligned_empty(data.expected.shape, np.uint8)
        scale, zero = data.w_scale, data.out_zero_point
        return lambda: qk.requantize(x, scale, zero, axis=1, dtype="uint8", out=out), lambda: out

    def _dynamic_quantize(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        x, last = data.x, [np.empty(0, np.int8)]

        def run() -> None:
            last[0] = qk.dynamic_quantize(x)[0]

        return run, lambda: last[0]

    def _digits(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        from qkernels.data import digits

        network = digits.network()
        model = qk.quantize_model(network, digits.calibration(), progress=False)
        x, last = data.x, [np.empty(0, np.float32)]

        def run() -> None:
            last[0] = model(x)

        return run, lambda: last[0]
