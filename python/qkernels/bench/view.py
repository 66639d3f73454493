# SPDX-License-Identifier: Apache-2.0
"""What a bench document shows, worked out once for the table, the text plots, matplotlib and SVG.

Everything here comes from the document alone (`results`), so that a kept file gives the same
pictures as the run that wrote it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qkernels.display.table import three_digits

from .results import OURS, TIMED, Document, Row

Place = Callable[[float], float]  # of a value on an axis

RIGHT = ("ok", "rounds elsewhere")


def is_ours(row: Row) -> bool:
    return bool(row["library"] == OURS)


def timed(row: Row) -> bool:
    return row["status"] in TIMED


# Groups: what may be compared with each other ---------------------------------------------------


@dataclass(frozen=True)
class Group:
    """The rows of one suite on one tier at one number of threads."""

    suite: str
    isa: str | None
    threads: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return ", ".join(filter(None, (self.suite, self.isa, count(self.threads, "thread"))))

    def cases(self) -> dict[str, list[Row]]:
        """Rows by case, in the order of the document: ours, then the others, fastest first."""
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row["case"], []).append(row)
        for rows in found.values():
            rows.sort(key=lambda r: (not is_ours(r), not timed(r), r["seconds"] or math.inf))
        return found


def groups(document: Document) -> list[Group]:
    """The document's groups in order of appearance. A row without a tier (a peer that cannot be
    capped to one) ran beside our fastest tier, the last of a run."""
    tiers = [row["isa"] for row in document["rows"] if is_ours(row)]
    default = tiers[-1] if tiers else None
    found: dict[tuple[str, str | None, int], list[Row]] = {}
    for row in document["rows"]:
        key = (row["suite"], row["isa"] or default, row["threads"])
        found.setdefault(key, []).append(row)
    return [Group(*key, tuple(rows)) for key, rows in found.items()]


def limits_of(document: Document, threads: int) -> Mapping[str, Any]:
    """The measured limits at a number of threads, or nothing."""
    found: Mapping[str, Any] = document["limits"].get(str(threads)) or {}
    return found


def best_peer(rows: Iterable[Row]) -> Row | None:
    """The fastest peer with a right answer."""
    peers = (row for row in rows if row["status"] in RIGHT and row["ratio"])
    return min(peers, key=lambda row: float(row["ratio"]["median"]), default=None)


@dataclass(frozen=True)
class Mean:
    """The geometric mean of a peer's ratios in a group, the lowest and the highest of them."""

    peer: str
    mean: float
    low: float
    high: float
    cases: int


BEST = "best peer"  # of each case


def means(group: Group) -> list[Mean]:
    """The best peer of each case first, then each peer over its right answers, the nearest first.
    Empty without a right peer."""
    by_peer: dict[str, list[float]] = {}
    for row in group.rows:
        if row["status"] in RIGHT and row["ratio"]:
            by_peer.setdefault(row["contender"], []).append(row["ratio"]["median"])
    best = [row["ratio"]["median"] for row in map(best_peer, group.cases().values()) if row]
    found = sorted((mean(peer, ratios) for peer, ratios in by_peer.items()), key=lambda m: m.mean)
    return [mean(BEST, best), *found] if best else []


def mean(peer: str, ratios: Sequence[float]) -> Mean:
    """The mean of one peer's ratios (at least one)."""
    center = math.exp(sum(map(math.log, ratios)) / len(ratios))
    return Mean(peer, center, min(ratios), max(ratios), len(ratios))


def remarks(group: Group) -> list[str]:
    """A sentence for each contender that was wrong, rounds elsewhere, failed or lacks some cases,
    and one for all that lack the whole suite."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in group.rows:
        if row["status"] != "ok":
            found.setdefault((row["status"], row["contender"]), []).append(row)
    total = len(group.cases())
    sentences = []
    lacking: dict[str, list[str]] = {}  # contenders by their first reason
    for (status, contender), rows in found.items():
        if status == "unsupported" and len(rows) == total:
            lacking.setdefault(rows[0]["note"], []).append(contender)
            continue
        where = rows[0]["case"] if len(rows) == 1 else f"{len(rows)} of {total} cases"
        notes = dict.fromkeys(row["note"] for row in rows if row["note"])
        which = f" ({rows[0]['case']})" if len(notes) > 1 else ""
        note = f": {next(iter(notes))}{which}" if notes else ""
        word = "WRONG" if status == "wrong" else status
        sentences.append(f"{contender} {word} in {where}{note}")
    if lacking:
        parts = (f"{', '.join(names)} ({reason})" for reason, names in lacking.items())
        sentences.append(f"not measured: {'; '.join(parts)}")
    return sentences


# Colours and marks ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Style:
    """How a contender looks: colours on white and on black, shape, letter in plain text, and how
    far the shape is filled: int8 wholly, float32 not at all, other arithmetic half."""

    light: str
    dark: str
    shape: str
    letter: str
    fill: str = "full"


# Told apart by readers with each kind of colour blindness (a test computes it), and by shape.
_OURS = Style("#d1410c", "#ff9254", "circle", "Q")
_LIBRARIES = {
    "onednn": Style("#0a5fb4", "#4c9dff", "square", "D"),
    "openvino": Style("#b8409a", "#f183d6", "triangle", "V"),
    "onnxruntime": Style("#009a6c", "#1fd6a0", "diamond", "R"),
    "litert": Style("#c79a00", "#f0d24f", "down", "L"),
    "torch": Style("#42b0e8", "#8fdcff", "plus", "T"),
    "ncnn": Style("#10151e", "#ffffff", "cross", "C"),
    "numpy": Style("#6b7480", "#8d97a8", "square", "N"),
}
_OTHERS = Style("#566175", "#a2adbf", "star", "*")


def styles(document: Document) -> dict[str, Style]:
    """Contender: its style, ours first, then in the order of the libraries above. A library looks
    alike in every document."""
    found: dict[str, Style] = {}
    letters: set[str] = set()
    for contender, row in _ordered(document["rows"]).items():
        base = _OURS if is_ours(row) else _LIBRARIES.get(_library(row), _OTHERS)
        fill = {"int8": "full", "float32": "hollow"}.get(row["dtype"], "half")
        wanted = [base.letter, *contender.upper(), *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
        letter = next((c for c in wanted if c.isascii() and c.isalpha() and c not in letters), "*")
        letters.add(letter)
        found[contender] = Style(base.light, base.dark, base.shape, letter, fill)
    return found


def contenders(group: Group) -> list[str]:
    """Those that were timed, in the order of `styles`."""
    return list(_ordered(filter(timed, group.rows)))


def _ordered(rows: Iterable[Row]) -> dict[str, Row]:
    """Contender: its first row; ours first, then by library."""
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["contender"], row)
    order = list(_LIBRARIES)

    def place(row: Row) -> int:
        name = _library(row)
        return -1 if is_ours(row) else order.index(name) if name in order else len(order)

    return dict(sorted(first.items(), key=lambda item: place(item[1])))


def _library(row: Row) -> str:
    """The library's name as a key: "ONNX Runtime" is onnxruntime, "PyTorch" torch."""
    name = "".join(filter(str.isalnum, str(row["library"]).lower()))
    return "torch" if name == "pytorch" else name


# Ratios -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bar:
    """One ratio: the time of the peer over ours, and its interval."""

    row: Row
    ratio: float
    interval: tuple[float, float]
    best: bool


def bars(group: Group) -> dict[str, list[Bar]]:
    """Case: its peers' ratios, the fastest first. Cases without any are left out."""
    found = {}
    for case, rows in group.cases().items():
        best = best_peer(rows)
        some = [
            Bar(
                row,
                float(row["ratio"]["median"]),
                (row["ratio"]["low"], row["ratio"]["high"]),
                row is best,
            )
            for row in rows
            if row["ratio"] and timed(row)
        ]
        if some:
            found[case] = sorted(some, key=lambda bar: bar.ratio)
    return found


def some_below_one(cases: Mapping[str, Sequence[Bar]]) -> bool:
    """Whether a bar goes left, where room is needed for its number."""
    return any(bar.ratio < 1 for some in cases.values() for bar in some)


def ratio_ends(cases: Mapping[str, Sequence[Bar]]) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds every ratio, its interval, and 1."""
    values = [v for some in cases.values() for b in some for v in (b.ratio, *b.interval)]
    return min([0.8, *(v / 1.06 for v in values)]), max([1.25, *(v * 1.06 for v in values)])


# Words ------------------------------------------------------------------------------------------


def count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def number(value: float) -> str:
    """Three digits, thousands grouped: 0.0123, 1.23, 45.6, 1,230."""
    return three_digits(value) if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def short(value: float) -> str:
    """A tick's number: thousands as K from ten thousand on, then M and G."""
    for factor, unit, least in ((1e9, "G", 1e9), (1e6, "M", 1e6), (1e3, "K", 1e4)):
        if value >= least:
            return f"{value / factor:g}{unit}"
    return f"{value:g}"


def ratio(value: float) -> str:
    """Two decimals from 0.1 to 10, so that 0.97, 1.00 and 1.03 are seen to differ."""
    return f"{value:.2f}" if 0.0995 <= value < 9.995 else number(value)


def duration(seconds: float) -> str:
    """Three digits with a unit of ASCII: ns, us, ms, s."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 0.9995:
            return f"{number(seconds * factor)} {unit}"
    return f"{number(seconds * 1e9)} ns"


def rate(row: Row) -> str:
    """GMAC/s, or GB/s with its unit where nothing is multiplied."""
    if row["macs"]:
        return number(row["gmacs"]) if row["gmacs"] else ""
    return f"{number(row['gbs'])} GB/s" if row["gbs"] else ""


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def facts(document: Document) -> list[tuple[str, str]]:
    """The machine, its limits and the conditions of the run, as (label, text) pairs."""
    return list(_facts(document))


def _facts(document: Document) -> Iterator[tuple[str, str]]:
    machine = document["machine"]
    yield "cpu", machine["cpu"]
    yield "system", f"{machine['system']}, {machine['arch']}, Python {machine['python']}"
    for threads, limit in document["limits"].items():
        yield f"limits, {count(int(threads), 'thread')}", _limit_text(limit)
    conditions = document["conditions"]
    for label, name in (("clock, MHz", "clock_mhz"), ("temperature, C", "temperature_c")):
        values = (conditions[name] or {}).items()
        known = [f"{key} {value:.0f}" for key, value in values if isinstance(value, int | float)]
        if known:
            yield label, ", ".join(known)
    if conditions["spread"] is not None:
        yield "spread", f"{100 * conditions['spread']:.1f} % between rounds"


def _limit_text(limit: Mapping[str, Any]) -> str:
    peaks = dict(limit["dots"])
    if limit["float32"]:
        peaks["float32"] = limit["float32"]
    parts = [
        f"{', '.join(f'{name} {number(value)}' for name, value in values.items())} {unit}"
        for values, unit in ((peaks, "GMAC/s"), (limit["read"], "GB/s"))
        if values
    ]
    return "; ".join([*parts, f"a call {duration(limit['overhead'])}"])


def warnings(document: Document) -> list[str]:
    """What makes the figures doubtful, a sentence each."""
    conditions = document["conditions"]
    found = list(conditions["warnings"])
    if conditions["noisy"] and not any("noisy" in text.lower() for text in found):
        found.insert(0, "The machine was too noisy for conclusions.")
    if conditions["throttled"] and not any("throttl" in text.lower() for text in found):
        found.append("The processor was throttled during the run.")
    return found
