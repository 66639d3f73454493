# SPDX-License-Identifier: Apache-2.0
"""How the commands print: JSON, tables (through Rich when it is there and fits), steps."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkernels.comparison import Comparison


def print_json(value: Any) -> None:
    """One JSON document on stdout; strict, so that every parser reads it."""
    print(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def step(text: str) -> Iterator[None]:
    """Says on stderr what is being done, and how long it took when it is."""
    start = time.perf_counter()
    if sys.stderr.isatty():
        print(f"{text} ...", end="\r", file=sys.stderr, flush=True)
    outcome = "failed"
    try:
        yield
        outcome = f"{time.perf_counter() - start:.2f} s"
    finally:
        print(f"{text} ({outcome})", file=sys.stderr, flush=True)


def print_comparison(comparison: Comparison, more: Sequence[tuple[str, str]]) -> None:
    """The table a row a layer and the lines below it, with `more` of them; the table in colour on
    a terminal that is wide enough when Rich is installed, otherwise plain."""
    from qkernels.comparison.table import COLUMNS, summary_lines
    from qkernels.display.table import plain_table

    plain = plain_table(COLUMNS, comparison.layers)
    if not _print_rich(comparison, max(map(len, plain.splitlines()))):
        print(plain)
    lines = [*summary_lines(comparison), *more]
    width = max(len(label) for label, _ in lines)
    print()
    for label, text in lines:
        print(f"{label.ljust(width)}  {text}")


def _print_rich(comparison: Comparison, width: int) -> bool:
    """Prints the table with Rich, if it may; says whether it did."""
    if not sys.stdout.isatty():
        return False
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        return False
    from qkernels.comparison.table import COLUMNS

    console = Console()
    if console.width < width:
        return False
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, header_style="dim")
    for column in COLUMNS:
        style = _STYLES.get(column.heading)
        justify = "right" if column.right else "left"
        heading = "\n".join(column.heading)
        table.add_column(heading, justify=justify, style=style, no_wrap=True, vertical="bottom")
    for row in comparison.layers:
        table.add_row(*(column.cell(row) for column in COLUMNS))
    console.print(table, end="")
    return True


_STYLES = {
    ("", "layer"): "bold",
    ("SQNR dB", "isolated"): "blue",
    ("SQNR dB", "accum."): "dark_orange3",
    ("float", "ms"): "blue",
    ("int8", "ms"): "dark_orange3",
}
