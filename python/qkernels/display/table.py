# SPDX-License-Identifier: Apache-2.0
"""Tables of text: the columns once, for the plain table, Rich and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column: heading in two lines, the text of a row's cell, and alignment."""

    heading: tuple[str, str]
    cell: Callable[[Row], str]
    right: bool = True


def plain_table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    """Aligned text, a line a row, a heading of two lines (one where that is enough) and a rule."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    widths = [
        max(len(text) for text in (*column.heading, *(line[i] for line in cells)))
        for i, column in enumerate(columns)
    ]

    def line(texts: list[str]) -> str:
        padded = (
            text.rjust(width) if column.right else text.ljust(width)
            for text, width, column in zip(texts, widths, columns, strict=True)
        )
        return "  ".join(padded).rstrip()

    headings = [line([column.heading[i] for column in columns]) for i in (0, 1)]
    rule = "  ".join("-" * width for width in widths)
    return "\n".join([*filter(None, headings), rule, *map(line, cells)])


def three_digits(value: float) -> str:
    """Three digits that matter, never exponents: from 0.0004 to 12345."""
    if value <= 0:
        return f"{value:.3f}"
    # The digits of the rounded value: 9.999 is 10.0.
    digits = math.floor(math.log10(float(f"{value:.3g}")))
    return f"{value:.{max(0, min(4, 2 - digits))}f}"


def byte_size(count: int) -> str:
    if count < 1024:
        return f"{count} B"
    return f"{count / 1024:.1f} KiB" if count < 1024**2 else f"{count / 1024**2:.1f} MiB"
