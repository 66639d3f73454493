# SPDX-License-Identifier: Apache-2.0
"""How the commands print: JSON, tables (through Rich when it is there and fits), steps."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkernels.comparison import Comparison


def print_json(value: Any) -> None:
    """One JSON document on stdout; strict, so that every parser reads it."""
    print(json.dumps(value, indent=2, allow_nan=False))


def write_json(value: Any, path: Path) -> None:
    """The same into a file."""
    path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")


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


@contextmanager
def steps() -> Iterator[Callable[[int, int, str], None]]:
    """Shows how far a long run is, on stderr: call what it gives with (steps done, of how many,
    what comes next). On a terminal a bar, Rich's when that is installed; otherwise a line a step.
    Nothing moves between the calls, so that nothing disturbs what is being timed."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: print(
            f"[{done + 1}/{total}] {what}", file=sys.stderr, flush=True
        )
        return
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        try:
            yield _plain_bar
        finally:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=Console(stderr=True), auto_refresh=False, transient=True
    ) as bar:
        task = bar.add_task("", total=None)

        def show(done: int, total: int, what: str) -> None:
            bar.update(task, completed=done, total=total, description=what, refresh=True)

        yield show


def _plain_bar(done: int, total: int, what: str) -> None:
    filled = 30 * done // max(total, 1)
    text = f"[{'#' * filled}{'.' * (30 - filled)}] {done}/{total} {what}"
    width = shutil.get_terminal_size().columns - 1
    print(f"\r\x1b[K{text[:width]}", end="", file=sys.stderr, flush=True)


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
