# SPDX-License-Identifier: Apache-2.0
"""Two documents side by side: where did qkernels become faster or slower?

Times of two runs differ by more than their own spread: clocks, neighbours and memory have changed
in between. So a change counts when the interval of time / time excludes the threshold, and, where
both runs timed the same version of a peer on the same CPU, when the interval of ratio / ratio
against that peer, measured in the same rounds, excludes it too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qkernels.display.table import Column, plain_table
from qkernels.errors import QKernelsValueError

from .results import OURS, TIMED, Document, Row
from .stats import Interval, median_interval
from .view import count

THRESHOLD = 0.1
# Of each of two intervals, so that both hold with 95 %.
_CONFIDENCE = 0.975
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    """A case in both documents.

    Attributes:
        time: time after / time before, above 1 where it became slower; None where one of the two
            was not timed.
        beside: the same for ratios to `reference`, a peer in both; None without one.
        verdict: "slower", "faster", "same", "unclear" (the interval is too wide to say), or
            "broken": right before, and now wrong, failed or refused.
    """

    before: Row
    after: Row
    time: Interval | None
    beside: Interval | None
    reference: str
    verdict: str

    @property
    def regression(self) -> bool:
        return self.verdict in ("slower", "broken")


@dataclass(frozen=True)
class Comparison:
    """What `compare` found. only_before, only_after: rows of qkernels without a fellow."""

    changes: tuple[Change, ...]
    only_before: tuple[Row, ...]
    only_after: tuple[Row, ...]
    warnings: tuple[str, ...]
    threshold: float

    @property
    def regressions(self) -> list[Change]:
        return [change for change in self.changes if change.regression]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain data."""

        def interval(value: Interval | None) -> dict[str, float] | None:
            return None if value is None else value.to_json()

        return {
            "threshold": self.threshold,
            "regressions": len(self.regressions),
            "warnings": list(self.warnings),
            "changes": [
                {
                    **{name: change.after[name] for name in ("suite", "case", "threads", "isa")},
                    "before": change.before["seconds"],
                    "after": change.after["seconds"],
                    "time": interval(change.time),
                    "beside": interval(change.beside),
                    "reference": change.reference,
                    "verdict": change.verdict,
                }
                for change in self.changes
            ],
            "only_before": [_place(row) for row in self.only_before],
            "only_after": [_place(row) for row in self.only_after],
        }


def compare(before: Document, after: Document, threshold: float = THRESHOLD) -> Comparison:
    """Compare the rows of qkernels in two documents (`results.read`).

    threshold: the relative change that counts, 0.1 for a tenth more time. Raises QKernelsError
    for a threshold that is not positive and finite, and for documents without a common case.
    """
    if not (math.isfinite(threshold) and threshold > 0):
        raise QKernelsValueError(f"threshold must be positive and finite, not {threshold}")
    olds, news = _ours(before), _ours(after)
    common = [key for key in olds if key in news and olds[key]["params"] == news[key]["params"]]
    if not common:
        raise QKernelsValueError(
            f"the documents have no case in common: one has {_some(olds)}, the other {_some(news)}"
        )
    same_cpu = before["machine"]["cpu"] == after["machine"]["cpu"]
    peers = _common_peers(before, after) if same_cpu else {}
    return Comparison(
        changes=tuple(
            _change(olds[key], news[key], peers.get(key, []), threshold) for key in common
        ),
        only_before=tuple(row for key, row in olds.items() if key not in common),
        only_after=tuple(row for key, row in news.items() if key not in common),
        warnings=tuple(_warnings(before, after, same_cpu)),
        threshold=threshold,
    )


def _ours(document: Document) -> dict[Key, Row]:
    rows = [row for row in document["rows"] if row["library"] == OURS]
    several = len({row["isa"] for row in rows}) > 1
    return {_key(row, several): row for row in rows}


def _key(row: Row, several_tiers: bool) -> Key:
    """A run on one tier is compared with a run on one other tier."""
    return row["suite"], row["case"], row["threads"], row["isa"] if several_tiers else None


def _common_peers(before: Document, after: Document) -> dict[Key, list[tuple[Row, Row]]]:
    """By key of qkernels' row: the peers that both documents timed there, of equal version."""

    def timed(document: Document) -> dict[Key, Row]:
        several = len({row["isa"] for row in document["rows"] if row["library"] == OURS}) > 1
        return {
            (*_key(row, several and row["isa"] is not None), row["contender"]): row
            for row in document["rows"]
            if row["ratio"] is not None
        }

    olds, news = timed(before), timed(after)
    found: dict[Key, list[tuple[Row, Row]]] = {}
    for key, old in olds.items():
        library = old["library"]
        equal = before["versions"].get(library) == after["versions"].get(library)
        if equal and key in news:
            found.setdefault(key[:-1], []).append((old, news[key]))
    return found


def _change(before: Row, after: Row, peers: Sequence[tuple[Row, Row]], threshold: float) -> Change:
    time = beside = None
    reference = ""
    if before["samples"] and after["samples"]:
        old, new = (median_interval(row["samples"], _CONFIDENCE) for row in (before, after))
        time = Interval(new.median / old.median, new.low / old.high, new.high / old.low)
        # The peer that pins the change down best.
        candidates = [(_over(a["ratio"], b["ratio"]), b["contender"]) for a, b in peers]
        if candidates:
            beside, reference = min(candidates, key=lambda pair: pair[0].high / pair[0].low)
    return Change(
        before,
        after,
        time,
        beside,
        reference,
        _verdict(before, after, [interval for interval in (time, beside) if interval], threshold),
    )


def _over(before: dict[str, float], after: dict[str, float]) -> Interval:
    """before / after of ratios (peer / qkernels): qkernels' time after over before."""
    return Interval(
        before["median"] / after["median"],
        before["low"] / after["high"],
        before["high"] / after["low"],
    )


def _verdict(before: Row, after: Row, intervals: Sequence[Interval], threshold: float) -> str:
    right = ("ok", "rounds elsewhere")
    if before["status"] in right and after["status"] not in right:
        return "broken"
    if not intervals:
        return "unclear"
    if all(interval.low > 1 + threshold for interval in intervals):
        return "slower"
    if all(interval.high < 1 / (1 + threshold) for interval in intervals):
        return "faster"
    near = any(
        interval.low >= 1 / (1 + threshold) and interval.high <= 1 + threshold
        for interval in intervals
    )
    return "same" if near else "unclear"


def _warnings(before: Document, after: Document, same_cpu: bool) -> Iterator[str]:
    if not same_cpu:
        yield (
            f"different CPUs: {before['machine']['cpu']} before, {after['machine']['cpu']} after; "
            "times alone are compared"
        )
    for name, document in (("before", before), ("after", after)):
        if document["conditions"]["noisy"]:
            yield f"the machine was too noisy to conclude from the run {name}"


def _place(row: Row) -> str:
    parts = (f"{row['suite']} {row['case']}", count(row["threads"], "thread"), row["isa"])
    return ", ".join(filter(None, parts))


def _some(rows: dict[Key, Row]) -> str:
    places = [_place(row) for row in rows.values()]
    more = f" and {len(places) - 2} more" if len(places) > 2 else ""
    return "; ".join(places[:2]) + more if places else "no row of qkernels"


def render(comparison: Comparison) -> str:
    """A table with a row a case, and what it comes to."""
    lines = [plain_table(_COLUMNS, comparison.changes), ""]
    for title, rows in (
        ("only before", comparison.only_before),
        ("only after", comparison.only_after),
    ):
        lines += [f"{title}: {_place(row)}" for row in rows]
    lines += [f"warning: {text}" for text in comparison.warnings]
    times = [change.time.median for change in comparison.changes if change.time]
    if times:
        mean = math.exp(sum(map(math.log, times)) / len(times))
        lines.append(f"time after / time before, geometric mean of {len(times)}: {mean:.3f}")
    found = comparison.regressions
    percent = f"{100 * comparison.threshold:g} %"
    if found:
        broken = sum(change.verdict == "broken" for change in found)
        slower = len(found) - broken
        parts = [f"{slower} slower by more than {percent}"] if slower else []
        parts += [f"{broken} broken"] if broken else []
        lines.append(f"REGRESSION: {', '.join(parts)}")
    else:
        lines.append(f"no case is slower by more than {percent}")
    return "\n".join(lines)


def _microseconds(row: Row) -> str:
    return f"{1e6 * row['seconds']:.4g}" if row["status"] in TIMED else row["status"]


def _interval(interval: Interval | None) -> str:
    return f"{interval.median:.3f} [{interval.low:.3f}, {interval.high:.3f}]" if interval else ""


_COLUMNS: tuple[Column[Change], ...] = (
    Column(("", "suite"), lambda change: change.after["suite"], right=False),
    Column(("", "case"), lambda change: change.after["case"], right=False),
    Column(("", "threads"), lambda change: str(change.after["threads"])),
    Column(("", "tier"), lambda change: change.after["isa"] or "", right=False),
    Column(("before", "us"), lambda change: _microseconds(change.before)),
    Column(("after", "us"), lambda change: _microseconds(change.after)),
    Column(("after / before", "95 % interval"), lambda change: _interval(change.time)),
    Column(("the same beside", "a peer"), lambda change: _interval(change.beside)),
    Column(("", "peer"), lambda change: change.reference, right=False),
    Column(("", "verdict"), lambda change: change.verdict, right=False),
)
