# SPDX-License-Identifier: Apache-2.0
"""A case: one piece of work, the same for every contender, and the arrays that it works on.

Operations and their parameters:

- linear (m, k, n, optional call): x uint8 (m, k), w int8 (n, k), bias, clamp at code 0 (relu),
  uint8 out. `call` is "function" or "bound", which of qkernels' two ways in is meant.
- linear_s32 (m, k, n): the raw sums, int32 out.
- dynamic (m, k, n): float32 x (m, k), quantized on the fly, bias, float32 out.
- conv (batch, h, w, c, oc, kh, kw, stride, pad, dilation, groups): x uint8 (batch, h, w, c),
  w int8 (oc, kh, kw, c / groups), bias, clamp at code 0, uint8 out (batch, oh, ow, oc).
- quantize, dequantize, requantize, dynamic_quantize (rows, columns): a pass over a matrix.
- digits (batch): the network of `qkernels.data.digits`, float32 images in, float32 scores out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels.errors import QKernelsValueError

Array = NDArray[Any]
Param = int | float | str | list[Any]

ALIGNMENT = 64
# Bytes an element goes in and comes out with, for the passes over a matrix.
_PASS_BYTES = {"quantize": 4 + 1, "dequantize": 1 + 4, "requantize": 4 + 1, "dynamic_quantize": 5}
_LINEAR = ("linear", "linear_s32", "dynamic")
OPS = (*_LINEAR, "conv", *_PASS_BYTES, "digits")


@dataclass(frozen=True)
class Case:
    """One piece of work of a suite. Pure data: it goes through JSON and back unchanged."""

    suite: str
    name: str
    op: str
    params: Mapping[str, Param]

    def __getattr__(self, name: str) -> Any:
        """A parameter by its name: `case.m` is `case.params["m"]`."""
        try:
            return self.__dict__["params"][name]
        except KeyError:
            raise AttributeError(f"a case has no attribute or parameter {name!r}") from None

    @property
    def out_pixels(self) -> tuple[int, int]:
        """(rows, columns) of the output of a convolution."""

        def out(size: int, kernel: int) -> int:
            reach = self.dilation * (kernel - 1) + 1
            return int((size + 2 * self.pad - reach) // self.stride + 1)

        return out(self.h, self.kh), out(self.w, self.kw)

    @cached_property
    def macs(self) -> float:
        """Multiply-accumulates of one call; 0 where nothing is multiplied and summed."""
        if self.op in _LINEAR:
            return float(self.m * self.k * self.n)
        if self.op == "conv":
            rows, columns = self.out_pixels
            depth = self.kh * self.kw * self.c // self.groups
            return float(self.batch * rows * columns * self.oc * depth)
        if self.op == "digits":
            return float(_digits_size()[0] * self.batch)
        return 0.0

    @cached_property
    def bytes(self) -> float:
        """Bytes of int8 work that must move: weights, input and output, once each."""
        if self.op in _LINEAR:
            a, c = {"linear": (1, 1), "linear_s32": (1, 4), "dynamic": (4, 4)}[self.op]
            return float(a * self.m * self.k + self.k * self.n + c * self.m * self.n)
        if self.op == "conv":
            rows, columns = self.out_pixels
            weights = self.oc * self.kh * self.kw * self.c // self.groups
            pixels = self.h * self.w * self.c + rows * columns * self.oc
            return float(self.batch * pixels + weights)
        if self.op == "digits":
            _, weights, activations = _digits_size()
            return float(weights + activations * self.batch)
        return float(_PASS_BYTES[self.op] * self.rows * self.columns)

    def to_json(self) -> dict[str, Any]:
        return {
            "suite": self.suite,
            "name": self.name,
            "op": self.op,
            "params": dict(self.params),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Case:
        if value["op"] not in OPS:
            raise QKernelsValueError(f"op must be one of {', '.join(OPS)}, not {value['op']!r}")
        return cls(value["suite"], value["name"], value["op"], dict(value["params"]))


def _digits_size() -> tuple[float, float, float]:
    """(MACs of an image, weights, activations of an image) of the digits network."""
    from qkernels.data import digits

    network = digits.network()
    image = digits.held_out().images[:1]
    macs, weights, activations = 0.0, 0.0, float(image.size)
    for step in network.float_trace(image):
        weight = network.layers[step.name].parameters().get("weight")
        activations += step.output.size
        if weight is not None:
            weights += weight.size
            macs += step.output.size * weight.size / weight.shape[0]
    return macs, weights, activations


def aligned(array: Array) -> Array:
    """A writable copy in C order whose first byte sits on a multiple of 64."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def aligned_empty(shape: int | tuple[int, ...], dtype: Any) -> Array:
    """As np.empty, with the first byte on a multiple of 64."""
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    array: Array = raw[start : start + size].view(dtype).reshape(shape)
    return array


@dataclass(frozen=True)
class Data:
    """The arrays of a case, 64-byte aligned and writable, and the answer of the definition.

    Attributes:
        x: uint8 codes, zero point `x_zero_point`; float32 for dynamic, quantize, dynamic_quantize
            and digits; int32 accumulators for requantize.
        w: int8 weights, (n, k) or (oc, kh, kw, c / groups); empty where there are none.
        w_scale: float32, one for each output channel; for requantize the multiplier of each column.
        bias: int32, one for each output channel, in units of x_scale * w_scale.
        expected: the exact output; for dynamic and digits the result in float32 arithmetic.
        real: float32, the output before it is rounded to codes, which float contenders compute;
            empty where `expected` is not of codes.
    """

    x: Array
    w: Array
    w_scale: NDArray[np.float32]
    bias: NDArray[np.int32]
    expected: Array
    real: NDArray[np.float32]
    x_scale: float
    x_zero_point: int
    out_scale: float
    out_zero_point: int

    @property
    def x_int8(self) -> NDArray[np.int8]:
        """The codes as int8, for which the zero point is `x_zero_point - 128`."""
        return aligned((self.x ^ np.uint8(0x80)).view(np.int8))

    @property
    def x_real(self) -> NDArray[np.float32]:
        """x in real units: (x - zero point) * scale."""
        if self.x.dtype == np.float32:
            return self.x
        codes = self.x.astype(np.float32) - np.float32(self.x_zero_point)
        return aligned(codes * np.float32(self.x_scale))

    @property
    def w_real(self) -> NDArray[np.float32]:
        """w in real units, in the shape of w."""
        scale = self.w_scale.reshape(-1, *(1,) * (self.w.ndim - 1))
        return aligned(self.w.astype(np.float32) * scale)

    @property
    def bias_real(self) -> NDArray[np.float32]:
        """bias in real units."""
        return aligned(self.bias.astype(np.float32) * (np.float32(self.x_scale) * self.w_scale))

    def save(self, folder: Path) -> None:
        """One .npy file an array, one for the scalars."""
        for name in _ARRAYS:
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        scalars = [float(getattr(self, name)) for name in _SCALARS]
        np.save(folder / "scalars.npy", np.asarray(scalars), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> Data:
        """What `save` wrote. Inputs are copied into aligned memory of this process; the answers,
        which are read once, stay in the file."""
        arrays: dict[str, Any] = {}
        for name in _ARRAYS:
            path = folder / f"{name}.npy"
            if name in ("expected", "real") and path.stat().st_size > 2**20:
                arrays[name] = np.load(path, mmap_mode="r", allow_pickle=False)
            else:
                arrays[name] = aligned(np.load(path, allow_pickle=False))
        x_scale, x_zero_point, out_scale, out_zero_point = np.load(folder / "scalars.npy").tolist()
        return cls(
            **arrays,
            x_scale=x_scale,
            x_zero_point=int(x_zero_point),
            out_scale=out_scale,
            out_zero_point=int(out_zero_point),
        )


_ARRAYS = ("x", "w", "w_scale", "bias", "expected", "real")
_SCALARS = ("x_scale", "x_zero_point", "out_scale", "out_zero_point")
