# SPDX-License-Identifier: Apache-2.0
"""The roofline of a group as geometry: axes, roofs, columns of marks. What text, matplotlib and SVG
draw; the limits themselves are in `roofline`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .results import Row
from .view import Group, timed


@dataclass(frozen=True)
class Roof:
    """One limit: `value` in the unit of y when flat, otherwise the y at x = 1 of a slope."""

    name: str
    value: float
    flat: bool
    left: float
    right: float
    strong: bool = False

    def at(self, x: float) -> float:
        return self.value if self.flat else self.value * x


@dataclass(frozen=True)
class Stem:
    """One case: where it stands, its limit (None when not known), and who was measured in it."""

    case: str
    x: float
    limit: float | None
    points: tuple[tuple[float, Row], ...]


@dataclass(frozen=True)
class Roofline:
    """A chart with two logarithmic axes. `x_unit` says what x counts."""

    x_unit: str
    y_unit: str
    x: tuple[float, float]
    y: tuple[float, float]
    roofs: tuple[Roof, ...]
    stems: tuple[Stem, ...]


def roofline(group: Group, limits: Mapping[str, Any]) -> Roofline | None:
    """The roofline of a group: GMAC/s over MAC a byte, or where nothing is multiplied GB/s over
    bytes. None when nothing was timed."""
    products = any(row["macs"] for row in group.rows)
    rate = "gmacs" if products else "gbs"
    stems = []
    for case, rows in group.cases().items():
        points = [(float(row[rate]), row) for row in rows if timed(row) and row[rate]]
        if not points:
            continue
        first = points[0][1]
        x = first["macs"] / first["bytes"] if products else first["bytes"]
        work = first["macs"] if products else first["bytes"]
        limit = work / first["limit"] / 1e9 if first["limit"] else None
        stems.append(Stem(case, float(x), limit, tuple(points)))
    if not stems:
        return None
    stems.sort(key=lambda stem: stem.x)
    compute = dict(limits.get("dots", {})) if products else {}
    if products and limits.get("float32"):
        compute["float32"] = limits["float32"]
    read = limits.get("read", {})
    return _with_roofs(stems, group.isa, compute, read, products)


def _with_roofs(
    stems: list[Stem],
    isa: str | None,
    compute: Mapping[str, float],
    read: Mapping[str, float],
    products: bool,
) -> Roofline:
    peak = compute.get(isa or "") or max(compute.values(), default=0)
    values = [y for stem in stems for y, _ in stem.points]
    values += [stem.limit for stem in stems if stem.limit]
    left, right = stems[0].x / 2, stems[-1].x * 2
    if products and peak and read:
        # The bend where memory stops to bind belongs to the picture, on either side of the points.
        bend = peak / min(read.values())
        left, right = min(left, bend / 4), max(right, bend * 2)
    low, high = min(values) / 1.5, max(*values, peak) * 1.4
    if not products:
        high = max(high, max(read.values(), default=0) * 1.3)
    roofs = []
    for name, value in compute.items():
        if low < value < high:
            start = max(left, value / max(read.values())) if read else left
            if start < right:
                roofs.append(Roof(name, value, True, start, right, name == isa))
    top = max((roof.value for roof in roofs), default=high)
    for name, value in read.items():
        if not products:
            roofs.append(Roof(name, value, True, left, right))
            continue
        start, end = max(left, low / value), min(right, top / value)
        if start < end:
            roofs.append(Roof(name, value, False, start, end))
    units = ("MAC a byte", "GMAC/s") if products else ("bytes", "GB/s")
    return Roofline(*units, (left, right), (low, high), tuple(roofs), tuple(stems))


def log_place(value: float, ends: tuple[float, float]) -> float:
    """Where a value lies on a logarithmic axis, 0 to 1 between its ends."""
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0])


def log_ticks(ends: tuple[float, float], most: int = 9) -> list[float]:
    """Round numbers within a logarithmic axis: 1, 2, 5 times powers of ten, or fewer of them, or
    all multiples where it spans less than an octave or two."""
    first, last = (math.floor(math.log10(end)) for end in ends)
    for factors in ((1, 1.5, 2, 3, 4, 5, 7), (1, 2, 5), (1,)):
        ticks = [f * 10.0**power for power in range(first, last + 1) for f in factors]
        inside = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
        if len(inside) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`places` (ascending) moved as little as can be so that neighbours are `gap` apart and all
    lie in [low, high]; a smaller gap where they do not fit."""
    if len(places) > 1:
        gap = min(gap, (high - low) / (len(places) - 1))
    # Without the gaps this is isotonic regression: pools of neighbours that share their mean.
    pools: list[list[float]] = []
    for index, place in enumerate(places):
        pools.append([place - index * gap, 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, size = pools.pop()
            before, others = pools.pop()
            pools.append([(before * others + mean * size) / (others + size), others + size])
    last = high - gap * (len(places) - 1)
    flat = [min(max(mean, low), last) for mean, size in pools for _ in range(int(size))]
    return [place + index * gap for index, place in enumerate(flat)]
