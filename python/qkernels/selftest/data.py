# SPDX-License-Identifier: Apache-2.0
"""Inputs that are the same everywhere: from integer arithmetic alone, not from a random generator
that may change."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rounding = Literal["nearest_even", "fixed_point", "fixed_point_single"]

ROUNDINGS: tuple[Rounding, ...] = ("nearest_even", "fixed_point", "fixed_point_single")


def bits(shape: tuple[int, ...], seed: int) -> NDArray[np.uint32]:
    """Well mixed 32-bit words: the finalizer of MurmurHash3 over a counter."""
    words = np.arange(int(np.prod(shape)), dtype=np.uint32) + np.uint32(
        seed * 0x9E3779B9 & 0xFFFFFFFF
    )
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        words = (words ^ (words >> np.uint32(shift))) * np.uint32(factor)
    mixed: NDArray[np.uint32] = (words ^ (words >> np.uint32(16))).reshape(shape)
    return mixed


def integers(shape: tuple[int, ...], seed: int, dtype: str = "int8") -> Array:
    """All codes of int8 or uint8, alike often."""
    codes: Array = (bits(shape, seed) & np.uint32(255)).astype(np.uint8).view(dtype)
    return codes


def reals(shape: tuple[int, ...], seed: int, dtype: str = "float32") -> Array:
    """Uniform in [-4, 4), on a grid that float32 holds exactly."""
    steps = (bits(shape, seed) >> np.uint32(8)).astype(np.float32)
    values: Array = (steps / np.float32(2**21) - 4).astype(dtype)
    return values
