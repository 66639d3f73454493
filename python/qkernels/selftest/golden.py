# SPDX-License-Identifier: Apache-2.0
"""A fixed set of cases and the SHA-256 of each result, to compare machines with each other.

The hashes are kept in golden.json beside this file, written by scripts/golden.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import qkernels as qk

from .data import ROUNDINGS, Array, bits, integers, reals

FILE = Path(__file__).with_name("golden.json")


def cases() -> Iterator[tuple[str, Array]]:
    for left in ("int8", "uint8"):
        for right in ("int8", "uint8"):
            a, b = integers((37, 131), 1, left), integers((131, 83), 2, right)
            yield f"gemm {left} {right}", qk.gemm_int8(a, b, a_zero_point=17, b_zero_point=5)
    weight, bias = reals((83, 131), 3), reals((83,), 4)
    packed = qk.pack_linear(weight, bias)
    x = integers((37, 131), 5)
    for rounding in ROUNDINGS:
        static: dict[str, Any] = {"x_scale": 0.037, "x_zero_point": -9, "out_scale": 0.31}
        yield f"linear {rounding}", qk.linear_int8(x, packed, **static, rounding=rounding)
    for dtype in ("float32", "float16"):
        yield f"linear dynamic {dtype}", qk.linear_int8(reals((37, 131), 6, dtype), packed)
    for curve in ("gelu", "silu", "tanh", "sigmoid", "hardswish"):
        yield f"linear {curve}", qk.linear_int8(x, packed, x_scale=0.0037, activation=curve)
    image = integers((2, 13, 11, 24), 7, "uint8")
    codes: dict[str, Any] = {
        "x_scale": 0.02,
        "x_zero_point": 101,
        "out_scale": 0.4,
        "out_zero_point": 99,
    }
    for groups in (1, 3, 24):
        kernel = qk.pack_conv2d(
            reals((24, 24 // groups, 3, 3), 8), padding=1, stride=(1, 2), groups=groups
        )
        yield f"conv groups {groups}", qk.conv2d_int8(image, kernel, **codes, activation="relu6")
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
    for rounding in ROUNDINGS:
        yield (
            f"requantize {rounding}",
            qk.requantize(acc, scale * np.float32(1e-6), axis=1, rounding=rounding),
        )


def expected() -> dict[str, str]:
    """The hashes that every machine must find, by case."""
    found: dict[str, str] = json.loads(FILE.read_text("utf-8"))
    return found


def hashes() -> dict[str, str]:
    """The hashes that the active tier gives, by case."""
    return {
        name: hashlib.sha256(
            np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
        ).hexdigest()
        for name, array in cases()
    }
