# SPDX-License-Identifier: Apache-2.0
"""The columns of a comparison, a row a layer, and the lines below its table."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from qkernels.display.table import Column, byte_size, three_digits

if TYPE_CHECKING:
    from .results import Comparison, LayerComparison


def decibels(value: float) -> str:
    if math.isinf(value):
        return "exact" if value > 0 else "-inf"
    return f"{value:.1f}"


def op_text(row: LayerComparison) -> str:
    return row.op if row.activation is None else f"{row.op} + {row.activation}"


def shape_text(shape: tuple[int, ...]) -> str:
    """The shape of one sample; a scalar a sample is 1."""
    return "x".join(map(str, shape)) or "1"


COLUMNS: tuple[Column[LayerComparison], ...] = (
    Column(("", "layer"), lambda row: row.name, right=False),
    Column(("", "op"), op_text, right=False),
    Column(("output", "shape"), lambda row: shape_text(row.shape), right=False),
    Column(("", "scale"), lambda row: "float32" if row.scale is None else f"{row.scale:.4g}"),
    Column(("zero", "point"), lambda row: "" if row.zero_point is None else str(row.zero_point)),
    Column(("SQNR dB", "isolated"), lambda row: decibels(row.isolated.sqnr_db)),
    Column(("SQNR dB", "accum."), lambda row: decibels(row.accumulated.sqnr_db)),
    Column(("", "cosine"), lambda row: f"{row.accumulated.cosine:.6f}"),
    Column(("max abs", "error"), lambda row: f"{row.accumulated.max_abs_error:.3g}"),
    Column(("saturated", "%"), lambda row: f"{100 * row.saturated:.2f}"),
    Column(("float", "ms"), lambda row: three_digits(row.float_ms)),
    Column(("int8", "ms"), lambda row: three_digits(row.int8_ms)),
)


def size_ratio(comparison: Comparison) -> str:
    return f"{100 * comparison.int8_bytes / max(comparison.float_bytes, 1):.0f} % of float"


def summary_lines(comparison: Comparison) -> list[tuple[str, str]]:
    """What holds for the whole model, as (label, text) pairs."""
    lines = []
    accuracy = comparison.accuracy
    if accuracy is not None:
        lines.append(
            (
                "accuracy",
                f"float {100 * accuracy.reference:.2f} %, int8 {100 * accuracy.int8:.2f} % "
                f"({100 * accuracy.change:+.2f} points, {accuracy.count} samples)",
            )
        )
    if comparison.agreement is not None:
        lines.append(("same prediction", f"{100 * comparison.agreement:.2f} % of samples"))
    lines.append(
        (
            "model size",
            f"float {byte_size(comparison.float_bytes)}, int8 {byte_size(comparison.int8_bytes)} "
            f"({size_ratio(comparison)})",
        )
    )
    lines.append(
        (
            "end to end",
            f"float {three_digits(comparison.float_ms)} ms, "
            f"int8 {three_digits(comparison.int8_ms)} ms a batch of {comparison.batch_size} "
            f"({comparison.speedup:.2f} times as fast as NumPy)",
        )
    )
    threads = f"{comparison.threads} thread{'s' if comparison.threads != 1 else ''}"
    lines.append(("ran on", f"{comparison.isa} kernels, {threads}"))
    return lines
