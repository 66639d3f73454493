# SPDX-License-Identifier: Apache-2.0
"""ncnn: a net of one int8 layer.

Its int8 is symmetric, without zero points and without -128, which its kernels multiply wrongly and
its own quantization never gives: codes enter as int8 from -127 on, a convolution's output is
requantized to codes of the scale that calibration would give it, and answers are compared as real
numbers. A matrix product of several rows is a convolution with a 1x1 kernel there, which is faster
than its InnerProduct. Channels come first and are packed by eight, as its layers hand them on.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from qkernels.bench.case import Array, Case, Data
from qkernels.bench.contender import Run

from .base import Fetch, Peer

LIBRARY = "ncnn"

_INT8_WEIGHTS = np.uint32(0x000D4B38)  # the tag in a model's file
_RELU = 1
_PACK = 8


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    return {"OMP_NUM_THREADS": str(threads)} if isa is None else None


def discover() -> Sequence[Peer] | str:
    try:
        ncnn: Any = import_module("ncnn")
    except ImportError:
        return "ncnn is not measured: the package ncnn is not installed."
    return [Ncnn(ncnn, "ncnn", metadata.version("ncnn"))]


class Ncnn(Peer):
    """One layer a net."""

    def __init__(self, ncnn: Any, name: str, version: str) -> None:
        super().__init__(name, version)
        self._ncnn = ncnn

    def supports(self, case: Case) -> str | None:
        if case.op == "conv" and case.batch > 1:
            return "a net takes one image"
        if case.op == "conv" and 1 < case.groups < case.oc:
            return "it has one scale a group, not one a channel"
        return super().supports(case)

    def _linear(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        if case.m == 1:
            settings = {0: case.n, 1: 1, 2: data.w.size, 8: 1, 9: _RELU}
            weights = _weights(data, data.w)
            x = self._mat(_input(data)[0])
            run, result = self._net("InnerProduct", settings, weights, x, threads)
            return run, lambda: np.array(result()).reshape(1, -1)
        settings = {0: case.n, 1: 1, 2: 1, 3: 1, 4: 0, 5: 1, 6: data.w.size, 8: 101, 9: _RELU}
        image = np.ascontiguousarray(_input(data).T[:, None])
        return self._codes("Convolution", settings, data, data.w, image, threads)

    def _conv(self, case: Case, data: Data, threads: int) -> tuple[Run, Fetch]:
        w = np.ascontiguousarray(data.w.transpose(0, 3, 1, 2))
        settings = {
            **{0: case.oc, 1: case.kw, 11: case.kh, 2: case.dilation, 3: case.stride},
            **{4: case.pad, 5: 1, 6: w.size, 8: 101, 9: _RELU},
        }
        name = "Convolution"
        if case.groups > 1:
            name, settings = "ConvolutionDepthWise", settings | {7: case.groups}
        image = np.ascontiguousarray(_input(data)[0].transpose(2, 0, 1))
        run, fetch = self._codes(name, settings, data, w, image, threads)
        return run, lambda: fetch().reshape(data.expected.shape)

    def _codes(
        self,
        name: str,
        settings: dict[int, int],
        data: Data,
        w: Array,
        image: Array,
        threads: int,
    ) -> tuple[Run, Fetch]:
        """A layer with codes out: image (c, h, w) to real numbers (pixels, channels)."""
        ncnn = self._ncnn
        scale = np.float32(data.real.max()) / np.float32(127)
        weights = _weights(data, w) + _floats(1 / scale)
        x = self._mat(image)
        if image.shape[0] % _PACK == 0:
            x = ncnn.convert_packing(x, _PACK)
        run, result = self._net(name, settings, weights, x, threads)

        def fetch() -> Array:
            codes = np.array(ncnn.convert_packing(result(), 1))
            real: Array = codes.reshape(codes.shape[0], -1).T.astype(np.float32) * scale
            return real

        return run, fetch

    def _mat(self, array: Array) -> Any:
        """A copy: a Mat made from an array points into it without keeping it alive."""
        return self._ncnn.Mat(array).clone()

    def _net(
        self, name: str, settings: dict[int, int], weights: bytes, x: Any, threads: int
    ) -> tuple[Run, Fetch]:
        net = self._ncnn.Net()
        net.opt.num_threads = threads
        numbers = " ".join(f"{key}={value}" for key, value in settings.items())
        net.load_param_mem(f"7767517\n2 2\nInput x 0 1 x\n{name} y 1 1 x y {numbers}\n")
        # Not from memory: the net would point into a copy that the binding has freed.
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "weights.bin")
            path.write_bytes(weights)
            net.load_model(str(path))
        last: list[Any] = [None]

        def run() -> None:
            extractor = net.create_extractor()
            extractor.input("x", x)
            _, last[0] = extractor.extract("y")

        return run, lambda: last[0]


def _input(data: Data) -> Array:
    codes: Array = np.maximum(data.x_int8, np.int8(-127))
    return codes


def _weights(data: Data, w: Array) -> bytes:
    """Codes, bias, and the scales of weights and input, which ncnn multiplies by."""
    codes = w.tobytes()
    tagged: bytes = _INT8_WEIGHTS.tobytes() + codes + b"\0" * (-len(codes) % 4)
    return tagged + _floats(data.bias_real, 1 / data.w_scale, 1 / np.float32(data.x_scale))


def _floats(*values: Any) -> bytes:
    return b"".join(np.asarray(value, np.float32).tobytes() for value in values)
