# SPDX-License-Identifier: Apache-2.0
"""A fixed set of cases and the SHA-256 of each result, to compare machines with each other.

`python tests/golden.py` prints the hashes as JSON; `--write` stores them in tests/golden.json.
Inputs come from integer arithmetic alone, not from a random generator that may change.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import qkernels as qk

FILE = Path(__file__).with_name("golden.json")


def bits(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Well mixed 32-bit words: the finalizer of MurmurHash3 over a counter."""
    words = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(
        seed * 0x9E3779B9 & 0xFFFFFFFF
    )
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> np.uint32(shift))) * np.uint32(factor)
    return (words ^ (words >> np.uint32(16))).reshape(shape)


def integers(shape: tuple[int, ...], seed: int, dtype: str = "int8") -> np.ndarray:
    return (bits(shape, seed) & np.uint32(255)).astype(np.uint8).view(dtype)


def reals(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> np.ndarray:
    """Uniform in [-4, 4), on a grid that float32 holds exactly."""
    return ((bits(shape, seed) >> np.uint32(8)).astype(np.float32) / np.float32(2**21) - 4).astype(
        dtype
    )


def cases() -> Iterator[tuple[str, np.ndarray]]:
    for left in ("int8", "uint8"):
        for right in ("int8", "uint8"):
            a, b = integers((37, 131), 1, left), integers((131, 83), 2, right)
            yield f"gemm {left} {right}", qk.gemm_int8(a, b, a_zero_point=17, b_zero_point=5)
    weight, bias = reals((83, 131), 3), reals((83,), 4)
    packed = qk.pack_linear(weight, bias)
    x = integers((37, 131), 5)
    for rounding in ("nearest_even", "fixed_point", "fixed_point_single"):
        static = {"x_scale": 0.037, "x_zero_point": -9, "out_scale": 0.31, "rounding": rounding}
        yield f"linear {rounding}", qk.linear_int8(x, packed, **static)
    for dtype in ("float32", "float16"):
        yield f"linear dynamic {dtype}", qk.linear_int8(reals((37, 131), 6, dtype), packed)
    for curve in ("gelu", "silu", "tanh", "sigmoid", "hardswish"):
        yield f"linear {curve}", qk.linear_int8(x, packed, x_scale=0.0037, activation=curve)
    image = integers((2, 13, 11, 24), 7, "uint8")
    for groups in (1, 3, 24):
        kernel = qk.pack_conv2d(
            reals((24, 24 // groups, 3, 3), 8), padding=1, stride=(1, 2), groups=groups
        )
        static = {"x_scale": 0.02, "x_zero_point": 101, "out_scale": 0.4, "out_zero_point": 99}
        yield f"conv groups {groups}", qk.conv2d_int8(image, kernel, **static, activation="relu6")
    x = reals((19, 333), 9)
    for scheme in ("symmetric", "asymmetric"):
        for part, array in zip(
            ("q", "scale", "zero point"), qk.dynamic_quantize(x, scheme=scheme), strict=True
        ):
            yield f"dynamic {scheme} {part}", array
    scale = np.abs(reals((333,), 10)) / 64 + np.float32(0.001)
    yield "quantize", qk.quantize(x, scale, axis=1)
    yield "dequantize", qk.dequantize(integers((19, 333), 11), scale, 3, axis=1)
    acc = bits((19, 333), 12).astype(np.int32)
    for rounding in ("nearest_even", "fixed_point", "fixed_point_single"):
        yield (
            f"requantize {rounding}",
            qk.requantize(acc, scale * np.float32(1e-6), axis=1, rounding=rounding),
        )


def hashes() -> dict[str, str]:
    return {
        name: hashlib.sha256(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        ).hexdigest()
        for name, array in cases()
    }


if __name__ == "__main__":
    text = json.dumps(hashes(), indent=2) + "\n"
    if "--write" in sys.argv[1:]:
        FILE.write_text(text)
    else:
        sys.stdout.write(text)
