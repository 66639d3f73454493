# SPDX-License-Identifier: Apache-2.0
"""A comparison as rows of text: the columns once, for the plain table, Rich and the report."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .results import Comparison, LayerComparison


@dataclass(frozen=True)
class Column:
    """One column: heading in two lines, the text of a row's cell, and alignment."""

    heading: tuple[str, str]
    cell: Callable[[LayerComparison], str]
    right: bool = True


def decibels(value: float) -> str:
    if math.isinf(value):
        return "exact" if value > 0 else "-inf"
    return f"{value:.1f}"


def op_text(row: LayerComparison) -> str:
    return row.op if row.activation is None else f"{row.op} + {row.activation}"


def shape_text(shape: tuple[int, ...]) -> str:
    """The shape of one sample; a scalar a sample is 1."""
    return "x".join(map(str, shape)) or "1"


def milliseconds(value: float) -> str:
    """Three digits that matter, never exponents: from 0.0004 to 12345."""
    if value <= 0:
        return f"{value:.3f}"
    return f"{value:.{max(0, min(4, 2 - math.floor(math.log10(value))))}f}"


def byte_size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"


COLUMNS = (
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
    Column(("float", "ms"), lambda row: milliseconds(row.float_ms)),
    Column(("int8", "ms"), lambda row: milliseconds(row.int8_ms)),
)


def plain_table(rows: tuple[LayerComparison, ...]) -> str:
    """Aligned text, a line a layer, a heading of two lines and a rule."""
    cells = [[column.cell(row) for column in COLUMNS] for row in rows]
    widths = [
        max(len(text) for text in (*column.heading, *(line[i] for line in cells)))
        for i, column in enumerate(COLUMNS)
    ]

    def line(texts: list[str]) -> str:
        padded = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(texts, widths, COLUMNS, strict=True)
        )
        return "  ".join(padded).rstrip()

    headings = [line([column.heading[i] for column in COLUMNS]) for i in (0, 1)]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([*headings, rule, *map(line, cells)])


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
            f"float {milliseconds(comparison.float_ms)} ms, "
            f"int8 {milliseconds(comparison.int8_ms)} ms a batch of {comparison.batch_size} "
            f"({comparison.speedup:.2f} times as fast as NumPy)",
        )
    )
    threads = f"{comparison.threads} thread{'s' if comparison.threads != 1 else ''}"
    lines.append(("ran on", f"{comparison.isa} kernels, {threads}"))
    return lines
