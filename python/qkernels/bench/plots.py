# SPDX-License-Identifier: Apache-2.0
"""A bench document drawn with matplotlib: a roofline and bars of ratios a group."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qkernels.errors import QKernelsValueError

from . import geometry, view
from .geometry import Roofline
from .results import Document
from .view import Group, Style

_INK, _SOFT, _RULE = "#1b2330", "#566175", "#dfe3ea"
_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "down": "v",
    "plus": "P",
    "cross": "X",
    "star": "*",
}
_FILL = {"full": 1.0, "half": 0.45, "hollow": 0.0}
# Inches.
_WIDTH, _LEFT, _RIGHT = 9.6, 0.75, 1.35
_ROOFLINE, _LANE, _GAP = 3.6, 0.185, 0.12
_HEAD, _FOOT, _BETWEEN, _KEY = 1.0, 0.5, 0.5, 0.2


def draw(document: Document, path: str | os.PathLike[str]) -> None:
    """Draw a document (as `results.read` gives it): a column a number of threads, a row a suite
    and tier, each with its roofline and its ratios. The ending of `path` decides the format.

    Raises ImportError when matplotlib (extra "plot") is not installed, QKernelsValueError for an
    ending that it cannot write, OSError when the file cannot be written.
    """
    try:
        # A Figure of its own: pyplot would choose a window system and keep state.
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib: pip install 'qkernels[plot]' "
            "(the HTML report and the text plots draw without it)"
        ) from error

    # Names come from elsewhere: a dollar sign in one must not open a formula.
    with rc_context({"text.parse_math": False}):
        figure = _figure(Figure, document)
        ending = Path(path).suffix[1:].lower() or "png"
        formats = figure.canvas.get_supported_filetypes()
        if ending not in formats:
            known = ", ".join(sorted(formats))
            raise QKernelsValueError(f"path must end in one of {known}, not {Path(path).name!r}")
        figure.savefig(path, dpi=110, format=ending)


def _figure(make: Any, document: Document) -> Any:
    """The figure with everything in it; make: matplotlib's class."""
    groups = view.groups(document)
    columns = sorted({group.threads for group in groups}) or [1]
    rows = _rows(groups)
    heights = [_height(row) for row in rows.values()]
    width = _WIDTH * len(columns)
    height = _HEAD + sum(heights) + 0.2 if heights else 2.0
    figure = make(figsize=(width, height), facecolor="white")
    _heading(figure, document, width, height)
    if not rows:
        figure.text(0.5, 0.3, "Nothing was measured.", ha="center", color=_SOFT)
    styles = view.styles(document)
    top = height - _HEAD
    for row, space in zip(rows.values(), heights, strict=True):
        for group in row:
            left = _WIDTH * columns.index(group.threads)
            _draw_group(figure, group, document, styles, (left, top, width, height))
        top -= space
    return figure


def _rows(groups: Sequence[Group]) -> dict[tuple[str, str | None], list[Group]]:
    rows: dict[tuple[str, str | None], list[Group]] = {}
    for group in groups:
        rows.setdefault((group.suite, group.isa), []).append(group)
    return rows


def _height(row: Sequence[Group]) -> float:
    """Inches of the tallest group of a row."""
    return max(_band(group) + _ROOFLINE + _FOOT + _ratio_height(group) for group in row) + _BETWEEN


def _band(group: Group) -> float:
    """Inches above a roofline: the title, the key, and the slanted names of the cases."""
    lines = len(_key_lines(group))
    return 0.65 + _KEY * lines + 0.05 * max(len(case) for case in group.cases())


def _key_lines(group: Group) -> list[list[str]]:
    """The contenders that were timed, as many to a line as fit."""
    lines: list[list[str]] = []
    used = math.inf
    for name in view.contenders(group):
        wide = 0.45 + 0.08 * len(name)
        if used + wide > _WIDTH - _LEFT:
            lines.append([])
            used = 0.0
        lines[-1].append(name)
        used += wide
    return lines


def _ratio_height(group: Group) -> float:
    cases = view.bars(group)
    lanes = sum(map(len, cases.values()))
    return _BETWEEN + _FOOT + _LANE * lanes + _GAP * len(cases) if lanes else 0.0


def _heading(figure: Any, document: Document, width: float, height: float) -> None:
    x, cpu = _LEFT / width, document["machine"]["cpu"]
    figure.text(x, 1 - 0.42 / height, cpu, fontsize=17, fontweight="bold", color=_INK)
    version = document["versions"].get("qkernels", "")
    about = f"qkernels {version}, {document['created'][:10]}".strip(", ")
    figure.text(x, 1 - 0.68 / height, about, fontsize=10, color=_SOFT)
    for i, text in enumerate(view.warnings(document)[:3]):
        y = 1 - (0.42 + 0.2 * i) / height
        figure.text(1 - 0.3 / width, y, text, fontsize=9, ha="right", color="#c02626")


def _draw_group(
    figure: Any,
    group: Group,
    document: Document,
    styles: Mapping[str, Style],
    place: tuple[float, float, float, float],
) -> None:
    """place: (left, top) of the group and (width, height) of the figure, inches."""
    left, top, width, height = place

    def axes(y: float, tall: float, margin: float = 0.0) -> Any:
        wide = _WIDTH - _LEFT - _RIGHT - margin
        box = ((left + _LEFT + margin) / width, y / height, wide / width, tall / height)
        found = figure.add_axes(box)
        found.spines[["top", "right"]].set_visible(False)
        found.spines[["left", "bottom"]].set_color(_SOFT)
        found.tick_params(colors=_SOFT, labelsize=8.5, length=3)
        return found

    x = (left + _LEFT) / width
    figure.text(x, (top - 0.1) / height, group.title, fontsize=12, fontweight="bold", color=_INK)
    chart = geometry.roofline(group, view.limits_of(document, group.threads))
    y = top - _band(group) - _ROOFLINE
    if chart is not None:
        panel = axes(y, _ROOFLINE)
        wide = _WIDTH - _LEFT - _RIGHT
        _roofline(panel, chart, styles, wide)
        _key(figure, _key_lines(group), styles, (x, (top - 0.2) / height, _KEY / height))
    else:
        figure.text(x, (top - 0.4) / height, "nothing could be timed", color=_SOFT)
    cases = view.bars(group)
    if cases:
        tall = _LANE * sum(map(len, cases.values())) + _GAP * len(cases)
        _ratios(axes(y - _FOOT - _BETWEEN - tall, tall, _names_width(cases)), cases, styles)


def _key(
    figure: Any,
    lines: Sequence[Sequence[str]],
    styles: Mapping[str, Style],
    place: tuple[float, float, float],
) -> None:
    """The names of contenders with their marks. place: x and y of the first line and the distance
    of the next, as shares of the figure."""
    from matplotlib.lines import Line2D

    x, y, step = place
    for i, names in enumerate(lines):
        marks = [Line2D([], [], linestyle="", **_look(styles[name], 6)) for name in names]
        figure.legend(
            marks,
            names,
            loc="upper left",
            bbox_to_anchor=(x, y - i * step),
            ncols=len(names),
            frameon=False,
            fontsize=9,
            labelcolor=_SOFT,
            handletextpad=0.1,
            columnspacing=1.2,
            borderpad=0,
            borderaxespad=0,
        )


def _look(style: Style, size: float, *, wrong: bool = False) -> dict[str, Any]:
    """How a mark is drawn: filled as its style says, pale for a wrong answer."""
    share = 0.2 if wrong else _FILL[style.fill]
    return {
        "marker": _MARKERS[style.shape],
        "markersize": size,
        "markerfacecolor": _mixed(style.light, share),
        "markeredgecolor": "white" if share == 1 else style.light,
        "markeredgewidth": 0.7 if share == 1 else 1.2,
    }


def _mixed(color: str, share: float) -> tuple[float, ...]:
    """`color` on white, so that lines below a mark do not show through."""
    channels = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(1 - share * (1 - channel) for channel in channels)


def _roofline(axes: Any, chart: Roofline, styles: Mapping[str, Style], inches: float) -> None:
    axes.set(xscale="log", yscale="log", xlim=chart.x, ylim=chart.y, xlabel=chart.x_unit)
    axes.xaxis.label.set(color=_SOFT, fontsize=9)
    axes.set_xticks(
        geometry.log_ticks(chart.x, 12), map(view.short, geometry.log_ticks(chart.x, 12))
    )
    axes.set_yticks(
        geometry.log_ticks(chart.y), [f"{t:,.10g}" for t in geometry.log_ticks(chart.y)]
    )
    axes.set_xticks([], minor=True)
    axes.set_yticks([], minor=True)
    axes.grid(axis="y", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.text(0, 1.02, chart.y_unit, transform=axes.transAxes, fontsize=9, color=_SOFT, ha="right")
    _roofs(axes, chart, inches)

    # Places along the axis as shares of its width: cases of one intensity stand side by side.
    wanted = [geometry.log_place(stem.x, chart.x) for stem in chart.stems]
    columns = geometry.spread(wanted, 0.15 / inches, 0.01, 0.99)
    slots = geometry.spread(columns, 0.25 / inches, 0.01, 0.99)
    for stem, column, slot in zip(chart.stems, columns, slots, strict=True):
        x = chart.x[0] * (chart.x[1] / chart.x[0]) ** column
        lowest = geometry.log_place(min(y for y, _ in stem.points), chart.y)
        axes.plot(
            [slot, column, column],
            [1.06, 1.0, lowest],
            transform=axes.transAxes,
            clip_on=False,
            color=_SOFT,
            alpha=0.35,
            linewidth=0.8,
        )
        axes.text(
            slot,
            1.065,
            stem.case,
            transform=axes.transAxes,
            rotation=38,
            rotation_mode="anchor",
            fontsize=8.5,
            color=_INK,
        )
        if stem.limit:
            axes.plot([x], [stem.limit], marker="_", markersize=10, color=_INK, mew=2, zorder=3)
        for order, (y, row) in enumerate(reversed(stem.points)):
            size = 9 if view.is_ours(row) else 6
            look = _look(styles[row["contender"]], size, wrong=row["status"] == "wrong")
            axes.plot([x], [y], zorder=4 + order, **look)


def _roofs(axes: Any, chart: Roofline, inches: float) -> None:
    for roof in chart.roofs:
        ends = (roof.left, roof.right)
        strong = roof.strong or not roof.flat
        axes.plot(
            ends,
            [roof.at(x) for x in ends],
            color=_SOFT,
            linewidth=1.3 if strong else 0.9,
            linestyle="-" if strong else (0, (5, 4)),
            zorder=2,
        )
    flat = sorted((roof for roof in chart.roofs if roof.flat), key=lambda roof: roof.value)
    wanted = [geometry.log_place(roof.value, chart.y) for roof in flat]
    for roof, y in zip(flat, geometry.spread(wanted, 0.16 / _ROOFLINE, 0, 1), strict=True):
        axes.text(
            1.01,
            y,
            f"{roof.name} {view.number(roof.value)}",
            transform=axes.transAxes,
            fontsize=8.5,
            va="center",
            color=_INK if roof.strong else _SOFT,
            fontweight="bold" if roof.strong else "normal",
        )
    # Inches a decade give the angle of a slope on the page.
    across = inches / math.log10(chart.x[1] / chart.x[0])
    up = _ROOFLINE / math.log10(chart.y[1] / chart.y[0])
    angle = math.atan2(up, across)
    offset, before = 0.0, -math.inf
    for roof in sorted((r for r in chart.roofs if not r.flat), key=lambda r: r.value):
        name = f"{roof.name} {view.number(roof.value)} GB/s"
        near = (math.log10(roof.value) - before) * up * math.cos(angle) < 0.16
        offset = offset + 0.075 * len(name) if near else 0.0
        before = math.log10(roof.value)
        length = math.log10(roof.right / roof.left) * math.hypot(across, up)
        if 0.1 + offset + 0.075 * len(name) > length:
            continue
        x = roof.left * 10 ** ((0.1 + offset) * math.cos(angle) / across)
        axes.annotate(
            name,
            (x, roof.at(x)),
            xytext=(-3 * math.sin(angle), 3 * math.cos(angle)),
            textcoords="offset points",
            rotation=math.degrees(angle),
            rotation_mode="anchor",
            fontsize=8.5,
            color=_SOFT,
        )


def _ratios(
    axes: Any, cases: Mapping[str, Sequence[view.Bar]], styles: Mapping[str, Style]
) -> None:
    ends = view.ratio_ends(cases)
    if view.some_below_one(cases):
        ends = (ends[0] * (ends[0] / ends[1]) ** 0.07, ends[1])
    ticks = geometry.log_ticks(ends, 10)
    y, places, names = 0.0, [], []
    for case, some in cases.items():
        axes.annotate(
            case,
            (0, y + _LANE / 2),
            xycoords=("axes fraction", "data"),
            xytext=(-72 * _names_width(cases), 0),
            textcoords="offset points",
            fontsize=8.5,
            color=_INK,
            va="center",
        )
        for bar in some:
            _ratio_bar(axes, bar, y + _LANE / 2, styles[bar.row["contender"]])
            places.append(y + _LANE / 2)
            names.append(bar.row["contender"])
            y += _LANE
        y += _GAP
    axes.set(xscale="log", xlim=ends, ylim=(y - _GAP / 2, -_GAP / 2))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=_RULE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.axvline(1, color=_INK, linewidth=1)
    axes.spines["left"].set_visible(False)
    axes.set_title(
        "Time of the peer over the time of qkernels: right of 1, qkernels is faster",
        fontsize=9,
        color=_SOFT,
        loc="left",
    )


def _names_width(cases: Mapping[str, Sequence[view.Bar]]) -> float:
    """Inches left of the bars where the names of cases begin."""
    longest = max(len(bar.row["contender"]) for some in cases.values() for bar in some)
    return 0.085 * (longest + max(map(len, cases)))


def _ratio_bar(axes: Any, bar: view.Bar, y: float, style: Style) -> None:
    wrong = bar.row["status"] == "wrong"
    share = 0.15 if wrong else {"full": 0.85, "half": 0.5, "hollow": 0.15}[style.fill]
    axes.barh(
        y,
        bar.ratio - 1,
        left=1,
        height=_LANE * 0.72,
        color=(style.light, share),
        edgecolor=style.light if share < 0.8 else "none",
        linestyle="--" if wrong else "-",
        linewidth=0.8,
    )
    low, high = bar.interval
    axes.plot([low, high], [y, y], color=_INK, linewidth=0.9, marker="|", markersize=4)
    reach = high if bar.ratio >= 1 else low
    axes.annotate(
        view.ratio(bar.ratio) + (" wrong" if wrong else ""),
        (reach, y),
        xytext=(5 if bar.ratio >= 1 else -5, 0),
        textcoords="offset points",
        fontsize=8,
        va="center",
        ha="left" if bar.ratio >= 1 else "right",
        color="#c02626" if wrong else _INK if bar.best else _SOFT,
        fontweight="bold" if bar.best else "normal",
    )
