# SPDX-License-Identifier: Apache-2.0
"""A bench document as tables of text, plain or through Rich."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from qkernels.display.table import Column, plain_table

from . import view
from .results import Document, Row
from .view import Group

Row_ = TypeVar("Row_")

_WIDTH = 100  # of sentences below a table, where nothing says more


@dataclass(frozen=True)
class Line:
    """One line of a group's table; `case` is empty where it is that of the line above."""

    case: str
    row: Row
    best: bool


def mark(line: Line) -> str:
    """What a reader must know beside the figures of a line."""
    words = {"wrong": "WRONG", "rounds elsewhere": "rounds elsewhere"}
    return ", ".join(filter(None, ["best peer" * line.best, words.get(line.row["status"], "")]))


def _ratio(line: Line) -> str:
    ratio = line.row["ratio"]
    return view.ratio(ratio["median"]) if ratio else ""


def interval(row: Row) -> str:
    """`low-high` of a row's ratio; empty without one."""
    ratio = row["ratio"]
    if not ratio:
        return ""
    return f"{view.ratio(ratio['low'])}-{view.ratio(ratio['high'])}"


COLUMNS: tuple[Column[Line], ...] = (
    Column(("", "case"), lambda line: line.case, right=False),
    Column(("", "contender"), lambda line: line.row["contender"], right=False),
    Column(("", "time"), lambda line: view.duration(line.row["seconds"])),
    Column(("", "GMAC/s"), lambda line: view.rate(line.row)),
    Column(("of the", "limit"), lambda line: view.percent(line.row["share"])),
    Column(("bound", "by"), lambda line: line.row["bound"] or "", right=False),
    Column(("time over", "qkernels"), _ratio),
    Column(("95 %", "interval"), lambda line: interval(line.row)),
    Column(("", ""), mark, right=False),
)
# The columns that go first where a terminal is narrow.
_EXPENDABLE = (("95 %", "interval"), ("bound", "by"), ("", "time"))

SUMMARY: tuple[Column[tuple[Group | None, view.Mean]], ...] = (
    Column(("", "suite"), lambda pair: pair[0].title if pair[0] else "", right=False),
    Column(("", "peer"), lambda pair: pair[1].peer, right=False),
    Column(("geometric", "mean"), lambda pair: view.ratio(pair[1].mean)),
    Column(("", "lowest"), lambda pair: view.ratio(pair[1].low)),
    Column(("", "highest"), lambda pair: view.ratio(pair[1].high)),
    Column(("", "cases"), lambda pair: str(pair[1].cases)),
)


def lines(group: Group) -> list[Line]:
    """What was timed in a group, in the order of its cases, ours first."""
    found = []
    for case, rows in group.cases().items():
        best = view.best_peer(rows)
        shown = [row for row in rows if view.timed(row)]
        found += [Line("" if i else case, row, row is best) for i, row in enumerate(shown)]
    return found


def summary(document: Document) -> list[tuple[Group | None, view.Mean]]:
    """The means of every group that has some; the group beside the first of its lines alone."""
    return [
        (None if i else group, mean)
        for group in view.groups(document)
        for i, mean in enumerate(view.means(group))
    ]


def render(document: Document, *, width: int | None = None) -> str:
    """The whole document as text.

    document: as `results.read` gives it. width: columns of the terminal; a table that is wider
    leaves out its less important columns.
    """
    return "".join(f"{text}\n" for text, _ in _lines(document, width))


def show(document: Document) -> None:
    """Write `render` to stdout: as wide as the terminal where it is one, and there in colour when
    Rich (extra "cli") is installed."""
    if not sys.stdout.isatty():
        sys.stdout.write(render(document))
        return
    width = shutil.get_terminal_size().columns
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        sys.stdout.write(render(document, width=width))
        return
    console = Console(soft_wrap=True)
    for text, style in _lines(document, width):
        console.print(Text(text, style))


Styled = tuple[str, str]  # a line, its Rich style


def _lines(document: Document, width: int | None) -> list[Styled]:
    blocks = [_pairs(view.facts(document), width)]
    blocks += [_group(group, width) for group in view.groups(document)]
    means = summary(document)
    if means:
        about = (
            "Time of a peer over the time of qkernels: above 1, qkernels is faster. Only right "
            "answers count; best peer: the fastest in each case."
        )
        table = _table(SUMMARY, means, lambda pair: "bold" if pair[1].peer == view.BEST else "")
        blocks.append([("Summary", _TITLE), *_wrapped(about, width), ("", ""), *table])
    if not document["rows"]:
        blocks.append([("Nothing was measured.", "")])
    absent = document["absent"]
    if absent:
        blocks.append([("Absent", _TITLE), *_pairs(list(absent.items()), width)])
    warnings = [_wrapped(f"Warning: {text}", width, _WARNING) for text in view.warnings(document)]
    blocks.append([line for wrapped in warnings for line in wrapped])
    blocks = [block for block in blocks if block]
    return [line for i, block in enumerate(blocks) for line in ([("", "")] if i else []) + block]


_TITLE, _WARNING = "bold cyan", "bold yellow"


def _group(group: Group, width: int | None) -> list[Styled]:
    shown = lines(group)
    columns = list(COLUMNS)
    if not any(line.row["macs"] for line in shown):
        columns = [
            Column(("", "rate"), c.cell) if c.heading == ("", "GMAC/s") else c for c in columns
        ]
    for heading in _EXPENDABLE:
        if width and max(map(len, plain_table(columns, shown).splitlines())) > width:
            columns = [column for column in columns if column.heading != heading]
    found = [(group.title, _TITLE), ("", "")]
    found += _table(columns, shown, _style) if shown else [("nothing could be timed", "")]
    remarks = view.remarks(group)
    if remarks:
        found.append(("", ""))
    for text in remarks:
        found += _wrapped(text, width, "dim")
    return found


def _table(
    columns: Sequence[Column[Row_]], rows: Sequence[Row_], style: Callable[[Row_], str]
) -> list[Styled]:
    texts = plain_table(columns, rows).splitlines()
    head = len(texts) - len(rows)
    styles = ["dim"] * head + [style(row) for row in rows]
    return list(zip(texts, styles, strict=True))


def _style(line: Line) -> str:
    if view.is_ours(line.row):
        return "bold"
    return "red" if line.row["status"] == "wrong" else "green" if line.best else ""


def _pairs(pairs: Sequence[tuple[str, str]], width: int | None) -> list[Styled]:
    label_width = max((len(label) for label, _ in pairs), default=0)
    return [
        styled
        for label, text in pairs
        for styled in _wrapped(f"{label.ljust(label_width)}  {text}", width, "", label_width + 2)
    ]


def _wrapped(text: str, width: int | None, style: str = "", indent: int = 2) -> list[Styled]:
    wide = textwrap.wrap(
        text, width or _WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False
    )
    return [(line, style) for line in wide]
