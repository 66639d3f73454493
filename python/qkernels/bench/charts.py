# SPDX-License-Identifier: Apache-2.0
"""Rooflines and ratios as inline SVG. A contender's colour is its class, `c0`, `c1`...; report.css
and `palette` say which. Shapes differ too, for readers who do not see colours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from qkernels.display.svg import drawing, polyline, tag, text, title

from . import geometry, view
from .geometry import Roof, Roofline
from .results import Row
from .table import interval
from .view import Group, Style

_WIDTH = 1040.0
_SLANT = 38.0  # degrees of the case names above a roofline


def palette(styles: Mapping[str, Style]) -> str:
    """The rules that give each contender its colour, on light and on dark."""

    def rules(colors: Sequence[str]) -> str:
        return " ".join(f".c{i} {{ --c: {color}; }}" for i, color in enumerate(colors))

    light = rules([style.light for style in styles.values()])
    dark = rules([style.dark for style in styles.values()])
    return f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}\n"


def classes(styles: Mapping[str, Style]) -> dict[str, str]:
    """Contender: its class."""
    return {contender: f"c{i}" for i, contender in enumerate(styles)}


def key(contender: str, styles: Mapping[str, Style]) -> str:
    """A contender's mark and name, for the line above a chart (HTML)."""
    mark = _mark(9, 9, 5.5, styles[contender], classes(styles)[contender])
    svg = tag("svg", mark, viewBox="0 0 18 18", width=18, height=18, aria_hidden="true")
    return f'<span class="key-item">{svg}{tag("span", escape(contender))}</span>'


def _mark(x: float, y: float, r: float, style: Style, class_: str, note: str = "") -> str:
    """A contender's shape around (x, y), about 2 r wide."""
    kind = f"point {class_} {style.fill}"
    inner = title(note) if note else ""
    if style.shape == "circle":
        return tag("circle", inner, cx=x, cy=y, r=r, class_=kind)
    if style.shape in {"plus", "cross"}:
        arm, turn = r * 0.42, 45 if style.shape == "cross" else 0
        steps = [(-arm, -r), (arm, -r), (arm, -arm), (r, -arm), (r, arm), (arm, arm), (arm, r),
                 (-arm, r), (-arm, arm), (-r, arm), (-r, -arm), (-arm, -arm)]  # fmt: skip
        corners = [(math.hypot(a, b), math.atan2(b, a)) for a, b in steps]
        angle = math.radians(turn)
        points = [(x + d * math.cos(t + angle), y + d * math.sin(t + angle)) for d, t in corners]
    elif style.shape == "star":
        angles = [math.radians(-90 + 36 * i) for i in range(10)]
        sizes = [r * (1.2 if i % 2 == 0 else 0.5) for i in range(10)]
        points = [
            (x + d * math.cos(t), y + d * math.sin(t)) for d, t in zip(sizes, angles, strict=True)
        ]
    else:
        corners_of = {"square": (4, 45), "diamond": (4, 0), "triangle": (3, -90), "down": (3, 90)}
        number, start = corners_of[style.shape]
        d = r * 1.2
        angles = [math.radians(start + 360 / number * i) for i in range(number)]
        points = [(x + d * math.cos(t), y + d * math.sin(t)) for t in angles]
    return tag("path", inner, d=polyline(points) + "Z", class_=kind)


def _note(row: Row) -> str:
    """What a mark says on hover."""
    parts = [f"{row['contender']}, {row['case']}: {view.duration(row['seconds'])}"]
    rate = view.rate(row)
    if rate:
        parts.append(f"{rate} GMAC/s" if row["macs"] else rate)
    if row["share"] is not None:
        parts.append(f"{view.percent(row['share'])} of its limit")
    if row["ratio"]:
        spread = interval(row)
        between = f" ({spread})" if spread else ""
        parts.append(f"{view.ratio(row['ratio']['median'])}{between} times the time of qkernels")
    if row["status"] != "ok":
        parts.append(f"{row['status']}: {row['note']}" if row["note"] else row["status"])
    return ", ".join(parts)


# Roofline ---------------------------------------------------------------------------------------


class _Plane:
    """A plot area in pixels with two logarithmic axes."""

    def __init__(
        self, chart: Roofline, box: tuple[float, float, float, float]
    ) -> None:  # left, top, right, bottom
        self.left, self.top, self.right, self.bottom = box
        self._chart = chart

    def x(self, value: float) -> float:
        return self.left + geometry.log_place(value, self._chart.x) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - geometry.log_place(value, self._chart.y) * (self.bottom - self.top)


def roofline(group: Group, chart: Roofline, styles: Mapping[str, Style]) -> str:
    """The <svg> of a group's roofline."""
    longest = max(len(stem.case) for stem in chart.stems)
    band = 20 + 8 * longest * math.sin(math.radians(_SLANT))
    plane = _Plane(chart, (58, band + 14, _WIDTH - 148, band + 14 + 360))
    marks = [*_axes(chart, plane), *_roofs(chart, plane), *_stems(chart, plane, styles, band)]
    label = (
        f"Roofline of {group.title}: {chart.y_unit} over {chart.x_unit} of "
        f"{view.count(len(chart.stems), 'case')}; the numbers are in the table below"
    )
    style = "min-width: 720px"
    return drawing(_WIDTH, plane.bottom + 46, label, "".join(marks), style=style)


def _axes(chart: Roofline, plane: _Plane) -> list[str]:
    marks = []
    for tick in geometry.log_ticks(chart.y):
        y = plane.y(tick)
        marks.append(tag("line", x1=plane.left, x2=plane.right, y1=y, y2=y, class_="grid"))
        marks.append(text(plane.left - 8, y + 4, f"{tick:,.10g}", class_="tick end"))
    for tick in geometry.log_ticks(chart.x, 12):
        x = plane.x(tick)
        marks.append(tag("line", x1=x, x2=x, y1=plane.bottom, y2=plane.bottom + 5, class_="axis"))
        marks.append(text(x, plane.bottom + 20, view.short(tick), class_="tick middle"))
    floor = [(plane.left, plane.bottom), (plane.right, plane.bottom)]
    marks.append(tag("path", d=polyline(floor), class_="axis"))
    middle = (plane.left + plane.right) / 2
    marks.append(text(middle, plane.bottom + 40, chart.x_unit, class_="tick middle"))
    marks.append(text(plane.left - 8, plane.top - 8, chart.y_unit, class_="tick end"))
    return marks


def _roofs(chart: Roofline, plane: _Plane) -> list[str]:
    marks = []
    flat = sorted((roof for roof in chart.roofs if roof.flat), key=lambda roof: -roof.value)
    slopes = sorted((roof for roof in chart.roofs if not roof.flat), key=lambda roof: roof.value)
    for roof in chart.roofs:
        ends = [(plane.x(x), plane.y(roof.at(x))) for x in (roof.left, roof.right)]
        kind = "roof strong" if roof.strong or not roof.flat else "roof"
        marks.append(tag("path", d=polyline(ends), class_=kind))
    wanted = [plane.y(roof.value) + 4 for roof in flat]
    places = geometry.spread(wanted, 16, plane.top, plane.bottom) if wanted else []
    for roof, y in zip(flat, places, strict=True):
        name = f"{roof.name} {view.number(roof.value)}"
        kind = "roof-name strong" if roof.strong else "roof-name"
        marks.append(text(plane.right + 8, y, name, class_=kind))
    return marks + _slope_names(slopes, plane)


def _slope_names(slopes: Sequence[Roof], plane: _Plane) -> list[str]:
    """Along each slope, from its left end; further right where the line below is too near."""
    marks = []
    before, offset = -math.inf, 0.0
    for roof in slopes:
        (x1, y1), (x2, y2) = [(plane.x(x), plane.y(roof.at(x))) for x in (roof.left, roof.right)]
        angle = math.atan2(y2 - y1, x2 - x1)
        name = f"{roof.name} {view.number(roof.value)} GB/s"
        # Distance between parallels, and whether the names would touch.
        height = math.log10(roof.value)
        near = (height - before) * abs(plane.y(10) - plane.y(1)) * math.cos(angle) < 15
        offset = offset + 7.2 * len(name) if near else 0.0
        before = height
        along = 10 + offset
        if along + 7.4 * len(name) > math.hypot(x2 - x1, y2 - y1):
            continue
        x = x1 + along * math.cos(angle) + 5 * math.sin(angle)
        y = y1 + along * math.sin(angle) - 5 * math.cos(angle)
        turned = f"rotate({math.degrees(angle):.1f} {x:.1f} {y:.1f})"
        marks.append(text(x, y, name, class_="roof-name halo", transform=turned))
    return marks


def _stems(chart: Roofline, plane: _Plane, styles: Mapping[str, Style], band: float) -> list[str]:
    class_of = classes(styles)
    wanted = [plane.x(stem.x) for stem in chart.stems]
    columns = geometry.spread(wanted, 15, plane.left + 8, plane.right - 8)
    slots = geometry.spread(columns, 26, plane.left + 8, plane.right - 8)
    lines, points, names = [], [], []
    for stem, x, slot in zip(chart.stems, columns, slots, strict=True):
        lowest = plane.y(min(y for y, _ in stem.points))
        path = polyline([(slot, band), (x, band + 14), (x, lowest)])
        lines.append(tag("path", d=path, class_="stem"))
        turned = f"rotate(-{_SLANT:g} {slot:.1f} {band - 4:.1f})"
        names.append(text(slot + 2, band - 4, stem.case, class_="case", transform=turned))
        if stem.limit:
            y = plane.y(stem.limit)
            note = title(f"{stem.case}: limit {view.number(stem.limit)} {chart.y_unit}")
            lines.append(tag("line", note, x1=x - 6, x2=x + 6, y1=y, y2=y, class_="limit"))
        for y, row in reversed(stem.points):
            contender = row["contender"]
            kind = class_of[contender] + (" wrong" if row["status"] == "wrong" else "")
            size = 6.5 if view.is_ours(row) else 4.5
            points.append(_mark(x, plane.y(y), size, styles[contender], kind, _note(row)))
    return [*lines, *points, *names]


# Ratios -----------------------------------------------------------------------------------------

_LANE, _GAP = 19.0, 12.0


def ratios(
    group: Group, cases: Mapping[str, Sequence[view.Bar]], styles: Mapping[str, Style]
) -> str:
    """The <svg> of a group's bars: time of each peer over that of qkernels."""
    class_of = classes(styles)
    bars = [bar for some in cases.values() for bar in some]
    longest = max(len(bar.row["contender"]) for bar in bars)
    names_at = 18 + 7.0 * max(map(len, cases))
    left = names_at + 16 + 7.0 * longest
    ends = view.ratio_ends(cases)
    leftward = view.some_below_one(cases)
    inner = (left + (64 if leftward else 8), _WIDTH - 124)
    top = 30.0
    bottom = top + _LANE * len(bars) + _GAP * len(cases)

    def x_of(value: float) -> float:
        return inner[0] + geometry.log_place(value, ends) * (inner[1] - inner[0])

    one = x_of(1.0)
    marks = []
    for tick in geometry.log_ticks(ends, 10):
        x = x_of(tick)
        kind = "axis" if tick == 1 else "grid"
        marks.append(tag("line", x1=x, x2=x, y1=top - 4, y2=bottom, class_=kind))
        marks.append(text(x, bottom + 18, f"{tick:g}", class_="tick middle"))
    marks.append(text(one + 6, top - 14, "qkernels is faster →", class_="tick"))
    if leftward:
        marks.append(text(one - 6, top - 14, "← the peer is faster", class_="tick end"))
    y = top + _GAP / 2
    for case, some in cases.items():
        marks.append(text(4, y + 13.5, case, class_="case"))
        for bar in some:
            contender = bar.row["contender"]
            kind, fill = class_of[contender], styles[contender].fill
            marks.append(text(names_at + 12, y + 13.5, contender, class_="peer"))
            marks.append(_ratio_bar(bar, kind, fill, y, one, x_of))
            y += _LANE
        y += _GAP
    label = (
        f"Ratios of {group.title}: time of each peer over the time of qkernels; the numbers are "
        "in the table below"
    )
    return drawing(_WIDTH, bottom + 26, label, "".join(marks), style="min-width: 720px")


def _ratio_bar(
    bar: view.Bar, class_: str, fill: str, y: float, one: float, x_of: view.Place
) -> str:
    end = x_of(bar.ratio)
    wrong = bar.row["status"] == "wrong"
    kind = f"ratio {class_}"
    kind += " wrong" if wrong else f" {fill}"
    low, high = sorted((one, end))
    width, height = max(high - low, 1.0), _LANE - 6
    note = title(_note(bar.row))
    marks = [tag("rect", note, x=low, y=y + 3, width=width, height=height, rx=1.5, class_=kind)]
    start, stop = map(x_of, bar.interval)
    middle = y + _LANE / 2
    caps = "".join(f"M{x:.1f} {middle - 3}v6" for x in (start, stop))
    marks.append(tag("path", d=f"M{start:.1f} {middle}H{stop:.1f}{caps}", class_="whisker"))
    low, high = min(low, start), max(high, stop)
    words = view.ratio(bar.ratio) + (" wrong" if wrong else "")
    kind = "value" + (" best" if bar.best else "") + (" bad" if wrong else "")
    if bar.ratio >= 1:
        marks.append(text(high + 6, y + 13.5, words, class_=kind))
    else:
        marks.append(text(low - 6, y + 13.5, words, class_=f"{kind} end"))
    return "".join(marks)
