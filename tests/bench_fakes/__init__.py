# SPDX-License-Identifier: Apache-2.0
"""Adapters that behave badly, each in a module of its own, to test the runner with."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np


class Fake:
    """Right answers in no time; subclasses spoil something."""

    version = "1.0"
    dtype = "int8"

    def __init__(self, name: str) -> None:
        self.name = name

    def supports(self, case: Any) -> str | None:
        return None if case.op == "linear" else "linear alone"

    def prepare(self, case: Any, data: Any, threads: int) -> Callable[[], object]:
        self.right = np.array(data.expected)
        return lambda: None

    def answer(self) -> np.ndarray:
        return self.right


def busy(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def environment(isa: str | None, threads: int) -> dict[str, str] | None:
    """Of a library that cannot be capped."""
    return {} if isa is None else None
