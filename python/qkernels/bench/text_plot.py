# SPDX-License-Identifier: Apache-2.0
"""A bench document as plots of plain text, for terminals and where matplotlib is missing."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import geometry, view
from .geometry import Roof, Roofline
from .results import Document
from .view import Group, Style

_ROWS = 18  # of a roofline's plot area
_NARROWEST, _WIDEST = 40, 110
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Glyphs:
    """The characters that a plot is drawn with. `parts`: an eighth of a cell to a whole one, or
    the whole one alone."""

    flat: str
    strong: str
    slope: str
    axis: str
    corner: str
    floor: str
    parts: str
    one: str
    limit: str


UNICODE = Glyphs("─", "━", "·", "│", "└", "─", "▏▎▍▌▋▊▉█", "│", "▔")
ASCII = Glyphs("-", "=", ".", "|", "+", "-", "#", "|", "^")


def roofline(document: Document, *, width: int | None = None, unicode: bool | None = None) -> str:
    """A roofline a suite, tier and number of threads, one after the other.

    width: columns (default: of the terminal, 80 where there is none). unicode: whether more than
    ASCII may be used (default: what stdout can write). Empty when nothing was timed.
    """
    size, glyphs = _canvas(width, unicode)
    styles = view.styles(document)
    plots = []
    for group in view.groups(document):
        chart = geometry.roofline(group, view.limits_of(document, group.threads))
        if chart is not None:
            plots.append(_roofline(group, chart, styles, size, glyphs))
    return "\n".join(plots)


def ratios(document: Document, *, width: int | None = None, unicode: bool | None = None) -> str:
    """Bars of the times of peers over those of qkernels, a block a suite, tier and number of
    threads; arguments as for `roofline`. Empty when there are no peers."""
    size, glyphs = _canvas(width, unicode)
    plots = []
    for group in view.groups(document):
        cases = view.bars(group)
        if cases:
            plots.append(_ratios(group, cases, size, glyphs))
    return "\n".join(plots)


def _canvas(width: int | None, unicode: bool | None) -> tuple[int, Glyphs]:
    if width is None:
        width = shutil.get_terminal_size((80, 24)).columns
    if unicode is None:
        unicode = _writes_unicode()
    return min(max(width, _NARROWEST), _WIDEST), UNICODE if unicode else ASCII


def _writes_unicode() -> bool:
    """Whether stdout takes the characters of `UNICODE`."""
    try:
        "".join(vars(UNICODE).values()).encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


# Roofline ---------------------------------------------------------------------------------------


class _Grid:
    """A plot area of characters with two logarithmic axes; later marks cover earlier ones."""

    def __init__(self, columns: int, rows: int, chart: Roofline) -> None:
        self.columns, self.rows, self._chart = columns, rows, chart
        self.cells = [[" "] * columns for _ in range(rows)]

    def column(self, x: float) -> int:
        place = geometry.log_place(x, self._chart.x) * (self.columns - 1)
        return min(max(round(place), 0), self.columns - 1)

    def row(self, y: float) -> int:
        return round((1 - geometry.log_place(y, self._chart.y)) * (self.rows - 1))

    def put(self, column: int, row: int, mark: str) -> None:
        if 0 <= row < self.rows and 0 <= column < self.columns:
            self.cells[row][column] = mark

    def x_of(self, column: int) -> float:
        left, right = self._chart.x
        return float(left * (right / left) ** (column / (self.columns - 1)))

    def is_free(self, column: int, row: int, length: int) -> bool:
        cells = self.cells[row][column : column + length] if 0 <= row < self.rows else []
        return len(cells) == length and not any(cell.isalnum() for cell in cells)


def _roofline(
    group: Group, chart: Roofline, styles: Mapping[str, Style], width: int, glyphs: Glyphs
) -> str:
    ticks = geometry.log_ticks(chart.y, 6)
    margin = max(len(view.number(tick)) for tick in ticks) + 1
    grid = _Grid(width - margin - 2, _ROWS, chart)
    for roof in chart.roofs:
        _draw_roof(grid, roof, glyphs)
    columns = _stem_columns(grid, chart)
    for stem, column in zip(chart.stems, columns, strict=True):
        if stem.limit:
            grid.put(column, grid.row(stem.limit), glyphs.limit)
    for stem, column in zip(chart.stems, columns, strict=True):
        for y, row in reversed(stem.points):  # ours is first and must be seen
            letter = styles[row["contender"]].letter
            grid.put(column, grid.row(y), letter if row["status"] != "wrong" else letter.lower())
    for roof in chart.roofs:
        _name_roof(grid, roof)
    labels = {grid.row(tick): view.number(tick) for tick in ticks}
    lines = [*textwrap.wrap(f"{group.title}: {chart.y_unit} over {chart.x_unit}", width), ""]
    for index, cells in enumerate(grid.cells):
        label = labels.get(index, "")
        lines.append(f"{label.rjust(margin)} {glyphs.axis}{''.join(cells).rstrip()}")
    lines.append(f"{' ' * margin} {glyphs.corner}{glyphs.floor * grid.columns}")
    letters = _case_letters(len(chart.stems))
    lines.append(" " * (margin + 2) + _placed(grid.columns, columns, letters))
    x_ticks = geometry.log_ticks(chart.x, max(2, grid.columns // 9))
    names = [view.short(tick) for tick in x_ticks]
    starts = [grid.column(tick) - len(name) // 2 for tick, name in zip(x_ticks, names, strict=True)]
    lines.append(" " * (margin + 2) + _placed(grid.columns, starts, names))
    cases = [f"{letter} {stem.case}" for letter, stem in zip(letters, chart.stems, strict=True)]
    keys = [f"{styles[name].letter} {name}" for name in view.contenders(group)]
    if any(row["status"] == "wrong" for stem in chart.stems for _, row in stem.points):
        keys.append("small letter: wrong answer")
    if any(stem.limit for stem in chart.stems):
        keys.append(f"{glyphs.limit} limit of the case")
    return "\n".join([*lines, "", *_listed(keys, width), *_listed(cases, width), ""])


def _draw_roof(grid: _Grid, roof: Roof, glyphs: Glyphs) -> None:
    mark = (glyphs.strong if roof.strong else glyphs.flat) if roof.flat else glyphs.slope
    for column in range(grid.column(roof.left), grid.column(roof.right) + 1):
        grid.put(column, grid.row(roof.at(grid.x_of(column))), mark)


def _name_roof(grid: _Grid, roof: Roof) -> None:
    """Its name where it covers no mark: on a flat roof from the right, on a slope from the left;
    nowhere if there is no such place."""
    name = f" {roof.name} {view.number(roof.value)} "
    first, last = grid.column(roof.left), grid.column(roof.right)
    places = range(last - len(name), first - 1, -1) if roof.flat else range(first, last)
    for column in places:
        row = grid.row(roof.at(grid.x_of(column)))
        start = column if roof.flat else column + 1
        if grid.is_free(start, row, len(name)):
            for offset, character in enumerate(name):
                grid.put(start + offset, row, character)
            return


def _stem_columns(grid: _Grid, chart: Roofline) -> list[int]:
    """A column a case; cases of nearly the same x stand side by side."""
    places = [geometry.log_place(stem.x, chart.x) * (grid.columns - 1) for stem in chart.stems]
    return [round(place) for place in geometry.spread(places, 1, 0, grid.columns - 1)]


def _case_letters(number: int) -> list[str]:
    return [_LETTERS[i] if i < len(_LETTERS) else str(i % 10) for i in range(number)]


def _placed(width: int, starts: Sequence[int], texts: Sequence[str]) -> str:
    """A line with texts at given columns; one that would touch the text before it is left out."""
    line = ""
    for start, text in zip(starts, texts, strict=True):
        at = max(0, min(start, width - len(text)))
        if at >= len(line) + (len(text) > 1 and bool(line)):
            line = line.ljust(at) + text
    return line


def _listed(texts: Sequence[str], width: int) -> list[str]:
    # A text is not broken: its spaces count as letters until the lines are cut.
    joined = "  ".join(text.replace(" ", "\0") for text in texts)
    lines = textwrap.wrap(joined, width, break_on_hyphens=False, break_long_words=False)
    return [line.replace("\0", " ") for line in lines]


# Ratios -----------------------------------------------------------------------------------------


def _ratios(
    group: Group, cases: Mapping[str, Sequence[view.Bar]], width: int, glyphs: Glyphs
) -> str:
    left = max(len(bar.row["contender"]) for some in cases.values() for bar in some) + 4
    ends = view.ratio_ends(cases)
    wrong = any(bar.row["status"] == "wrong" for some in cases.values() for bar in some)
    columns = max(width - left - (len(" 1,230 WRONG") if wrong else len(" 1,230")), 8)
    one = geometry.log_place(1.0, ends) * columns
    lines = [
        *textwrap.wrap(f"{group.title}: time of the peer over that of qkernels", width),
        "",
    ]
    for case, some in cases.items():
        lines.append(case)
        for bar in some:
            drawn = _bar(one, geometry.log_place(bar.ratio, ends) * columns, columns, glyphs)
            remark = " WRONG" if bar.row["status"] == "wrong" else ""
            name = f"  {bar.row['contender']}".ljust(left)
            lines.append(f"{name}{drawn} {view.ratio(bar.ratio)}{remark}".rstrip())
    axis = [""] * 2
    ticks = geometry.log_ticks(ends, max(2, columns // 8))
    starts = [round(geometry.log_place(tick, ends) * columns) for tick in ticks]
    axis[0] = _placed(columns + 1, starts, [glyphs.one] * len(ticks))
    axis[1] = _placed(columns + 4, starts, [f"{tick:g}" for tick in ticks])
    lines += [f"{' ' * left}{line}" for line in axis]
    return "\n".join([*lines, ""])


def _bar(one: float, end: float, columns: int, glyphs: Glyphs) -> str:
    """A bar from the place of 1 to `end`, in whole cells and at its right end a part of one."""
    low, high = sorted((one, end))
    parts = len(glyphs.parts)
    cells = []
    for cell in range(columns):
        filled = min(high, cell + 1) - max(low, cell)
        if filled <= 0:
            cells.append(glyphs.one if cell == int(one) else " ")
        elif cell + 1 <= high or parts == 1:
            # A cell that is full, or whose empty part lies left, where no part of a cell can.
            cells.append(glyphs.parts[-1] if filled >= 0.5 else " ")
        else:
            cells.append(glyphs.parts[max(0, round(filled * parts) - 1)])
    return "".join(cells)
