# SPDX-License-Identifier: Apache-2.0
"""Cases that make every kernel of the registry work, at its tile's edges and with every epilogue.

A case is a name and a call of the public functions; a tier is proven when each of its results has
the bits of the scalar tier. Shapes come from the descriptors of the kernels built in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import qkernels as qk
from qkernels import _core

from .data import ROUNDINGS, Array, bits, integers, reals

CODES = ("int8", "uint8")
CURVES = ("gelu", "silu", "tanh", "sigmoid", "hardswish")


class Case(NamedTuple):
    """`call` gives an array, or several; `name` says of what. `exact` is the same by NumPy."""

    name: str
    call: Callable[[], Any]
    exact: Callable[[], Array] | None = None


def cases() -> Iterator[Case]:
    """All cases."""
    kernels = _core.kernels()
    gemm = [kernel for kernel in kernels if kernel["op"] == "gemm"]
    depthwise = [kernel for kernel in kernels if kernel["op"] == "depthwise"]
    yield from _gemm(gemm)
    yield from _epilogues(gemm)
    yield from _dynamic_linear()
    yield from _convolutions(gemm)
    yield from _depthwise(depthwise)
    yield from _elementwise()
    yield from _threaded()


def _edges(sizes: Sequence[int]) -> list[int]:
    """1, and each size of a tile less one, itself, more one, and twice more one."""
    return sorted({1, *(n for s in sizes for n in (s - 1, s, s + 1, 2 * s + 1) if n > 0)})


def _gemm(kernels: Sequence[dict[str, Any]]) -> Iterator[Case]:
    """Every number of rows up to the tallest tile and beyond, with every tail of columns and depth:
    sums of uint8 and int8, with zero points."""
    columns = _edges(sorted({kernel["nr"] for kernel in kernels}))
    depths = _edges(sorted({kernel["kr"] for kernel in kernels}))
    right = {
        (k, n): integers((k, n), 100 * k + n, CODES[(k + n) % 2]) for k in depths for n in columns
    }
    for m in range(1, 2 * max(kernel["mr"] for kernel in kernels) + 2):
        for index, ((k, n), b) in enumerate(right.items()):
            a = integers((m, k), m, CODES[(m + index) % 2])
            az, bz = (7 * m) % 128, (5 * n) % 128
            yield Case(
                f"gemm {a.dtype} x {b.dtype}, {m}x{k}x{n}",
                partial(qk.gemm_int8, a, b, a_zero_point=az, b_zero_point=bz),
                partial(_product, a, b, az, bz),
            )


def _product(a: Array, b: Array, az: int, bz: int) -> Array:
    """The definition; integers below 2^53 are exact in float64."""
    return ((a.astype(np.float64) - az) @ (b.astype(np.float64) - bz)).astype(np.int32)


def _forms() -> Iterator[dict[str, Any]]:
    """Keyword arguments of every epilogue and activation, with each kind of bias."""
    yield {"bias": None}
    yield {"bias": "int32"}
    for activation in (None, "relu", "relu6", (-1.5, 2.5), *CURVES):
        yield {"bias": "float32", "x_scale": 0.0037, "activation": activation}
    yield {"bias": None, "x_scale": 0.0037}
    for rounding in ROUNDINGS:
        for dtype, zero_point in (("int8", -11), ("uint8", 131)):
            for activation, bias in ((None, None), ("relu", "float32"), ((-1.0, 2.0), "int32")):
                yield {
                    "bias": bias,
                    "x_scale": 0.037,
                    "out_scale": 0.31,
                    "out_zero_point": zero_point,
                    "out_dtype": dtype,
                    "rounding": rounding,
                    "activation": activation,
                }


def _epilogues(kernels: Sequence[dict[str, Any]]) -> Iterator[Case]:
    """Every form, with rows and columns beyond each tile."""
    depth = 67
    rows = sorted({1, *(kernel["mr"] + 1 for kernel in kernels)})
    widths = sorted({1, 47, *(kernel["nr"] + 1 for kernel in kernels)})
    biases: dict[str | None, Callable[[int], Array | None]] = {
        None: lambda n: None,
        "float32": lambda n: reals((n,), 31),
        "int32": lambda n: bits((n,), 32).view(np.int32) >> 12,
    }
    for n in widths:
        weight = reals((n, depth), n)
        for form in _forms():
            packed = qk.pack_linear(weight, biases[form["bias"]](n))
            given = {name: value for name, value in form.items() if name != "bias"}
            told = ", ".join(f"{name}={value}" for name, value in form.items())
            for index, m in enumerate(rows):
                x = integers((m, depth), m, CODES[(index + n) % 2])
                zero_point = 101 if x.dtype == np.uint8 else -9
                yield Case(
                    f"linear {x.dtype}, {m}x{depth}x{n}, {told}",
                    partial(qk.linear_int8, x, packed, x_zero_point=zero_point, **given),
                )


def _dynamic_linear() -> Iterator[Case]:
    for k in (1, 15, 64, 131):
        packed = qk.pack_linear(reals((37, k), k), reals((37,), 41))
        for m in (1, 5, 33):
            for dtype in ("float32", "float16"):
                x = reals((m, k), m + k, dtype)
                yield Case(
                    f"linear dynamic {dtype}, {m}x{k}x37",
                    partial(qk.linear_int8, x, packed, activation="relu"),
                )


def _convolutions(kernels: Sequence[dict[str, Any]]) -> Iterator[Case]:
    widths = sorted({3, *(kernel["mr"] + 1 for kernel in kernels)})
    for width in widths:
        for channels, groups in ((1, 1), (3, 1), (4, 1), (16, 1), (64, 1), (67, 1), (24, 3)):
            for size, stride, dilation in ((1, 1, 1), (3, 1, 1), (3, 2, 1), (2, 1, 2)):
                dtype = CODES[(width + channels + size) % 2]
                x = integers((2, 5, width, channels), width + channels, dtype)
                outputs = 33 if groups == 1 else 2 * groups
                packed = qk.pack_conv2d(
                    integers((outputs, channels // groups, size, size), channels),
                    weight_scale=0.01,
                    weight_zero_point=3 if groups == 1 else 0,
                    stride=stride,
                    dilation=dilation,
                    padding=1,
                    groups=groups,
                )
                yield _convolution(x, packed, f"{size}x{size} stride {stride} dilation {dilation}")


def _depthwise(kernels: Sequence[dict[str, Any]]) -> Iterator[Case]:
    for width in _edges(sorted({kernel["mr"] for kernel in kernels})):
        for channels in _edges(sorted({kernel["nr"] for kernel in kernels}))[1:]:
            for size in ((1, 1), (1, 2), (3, 3), (5, 5)):
                dtype = CODES[(width + channels) % 2]
                x = integers((1, 3, width, channels), width * channels, dtype)
                packed = qk.pack_conv2d(
                    integers((channels, 1, *size), channels),
                    weight_scale=0.01,
                    weight_zero_point=integers((channels,), 51).astype(np.int32),
                    padding="same",
                    groups=channels,
                )
                yield _convolution(x, packed, f"depthwise {size[0]}x{size[1]}")


def _convolution(x: Array, packed: qk.PackedConv2d, what: str) -> Case:
    zero_point = 101 if x.dtype == np.uint8 else -9

    def call() -> tuple[Array, Array]:
        return (
            qk.conv2d_int8(x, packed, x_scale=0.02, x_zero_point=zero_point, out_scale=0.9),
            qk.conv2d_int8(x, packed, x_zero_point=zero_point, out_dtype="int32"),
        )

    return Case(f"conv2d {x.dtype} {x.shape}, {what}", call)


def _elementwise() -> Iterator[Case]:
    """Every length up to several vectors, and long ones."""
    for n in (*range(1, 70), 333, 4096):
        x, scale = reals((3, n), n), np.abs(reals((n,), n + 1)) / 64 + np.float32(0.001)
        codes, acc = integers((3, n), n), bits((3, n), n).view(np.int32)
        yield Case(f"quantize, 3x{n}", partial(_quantize, x, scale))
        yield Case(f"dequantize, 3x{n}", partial(_dequantize, codes, acc, scale))
        yield Case(f"dynamic_quantize, 3x{n}", partial(_dynamic_quantize, x))
        yield Case(f"requantize, 3x{n}", partial(_requantize, acc, scale * np.float32(1e-6)))


def _quantize(x: Array, scale: Array) -> tuple[Array, ...]:
    return (
        qk.quantize(x, 0.031, -3),
        qk.quantize(x, 0.031, 131, dtype="uint8"),
        qk.quantize(x, 0.31, dtype="int4"),
        qk.quantize(x.astype(np.float16), 0.031, -3),
        qk.quantize(x, scale, axis=1),
        qk.quantize(x, scale[:1].repeat(3), axis=0),
    )


def _dequantize(codes: Array, acc: Array, scale: Array) -> tuple[Array, ...]:
    return (
        qk.dequantize(codes, 0.031, -3),
        qk.dequantize(codes.view(np.uint8), scale, 131, axis=1),
        qk.dequantize(acc, 0.031, 17),
    )


def _dynamic_quantize(x: Array) -> tuple[Array, ...]:
    parts: list[Array] = []
    for source in (x, x.astype(np.float16)):
        parts += qk.dynamic_quantize(source)
        parts += qk.dynamic_quantize(source, scheme="asymmetric")
        parts += qk.dynamic_quantize(source, granularity="per_tensor")
        parts += qk.dynamic_quantize(source, granularity="per_tensor", scheme="asymmetric")
    return tuple(parts)


def _requantize(acc: Array, multiplier: Array) -> tuple[Array, ...]:
    parts: list[Array] = []
    for rounding in ROUNDINGS:
        parts += [
            qk.requantize(acc, multiplier, -3, axis=1, rounding=rounding),
            qk.requantize(acc, multiplier, 7, axis=1, rounding=rounding, dtype="uint8"),
            qk.requantize(acc, multiplier, -3, axis=1, rounding=rounding, activation="relu"),
        ]
    return tuple(parts)


def _threaded() -> Iterator[Case]:
    """Work large enough to be split, at several numbers of threads."""
    a, b = integers((150, 257), 61, "uint8"), integers((257, 333), 62)
    packed = qk.pack_linear(reals((333, 257), 63))
    x = reals((150, 257), 64)
    image = integers((2, 28, 28, 48), 65, "uint8")
    weight = integers((64, 48, 3, 3), 66)

    def call(threads: int) -> tuple[Array, ...]:
        with qk.num_threads(threads):
            return (
                qk.gemm_int8(a, b),
                qk.linear_int8(x, packed),
                qk.conv2d_int8(image, weight, padding=1),
            )

    for threads in sorted({1, 2, 3, _core.cpu_count()}):
        yield Case(f"gemm, linear, conv2d on {threads} threads", partial(call, threads))
