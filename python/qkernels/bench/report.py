# SPDX-License-Identifier: Apache-2.0
"""A bench document as one HTML file: no script, no external resource, light and dark."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from statistics import median
from typing import Any

from qkernels.display import html
from qkernels.display.table import Column, byte_size

from . import charts, geometry, table, view
from .results import Document
from .view import Group, Style


def write(document: Document, path: str | os.PathLike[str]) -> None:
    """Write the report of a document (as `results.read` gives it) to `path`.

    Raises OSError when the file cannot be written.
    """
    Path(path).write_text(html_report(document), encoding="utf-8")


def html_report(document: Document) -> str:
    """The whole page."""
    styles = view.styles(document)
    suites: dict[str, list[Group]] = {}
    for group in view.groups(document):
        suites.setdefault(group.suite, []).append(group)
    machine = document["machine"]
    cpu = machine["cpu"]
    links = [(_anchor(suite), suite) for suite in suites]
    links = [("summary", "summary"), *links, ("machine", "machine")] if links else []
    nav = "\n".join(f'<a href="#{anchor}">{escape(name)}</a>' for anchor, name in links)
    main = [
        _warnings(document),
        _figures(document),
        _summary(document, styles),
        *(_suite(suite, groups, document, styles) for suite, groups in suites.items()),
        _machine(document),
    ]
    return html.page(
        title=f"qkernels bench: {cpu}",
        style=charts.palette(styles) + html.style_sheet("qkernels.bench", "report.css"),
        header=f"<h1>{escape(cpu)}</h1>\n<p>{escape(_about(document))}</p>"
        + (f"\n<nav>{nav}</nav>" if nav else ""),
        main="".join(part for part in main if part),
        footer="<p>Written by <code>qkernels bench</code> from its JSON document alone. A ratio is "
        "the median over interleaved rounds of a peer’s time over that of qkernels in the same "
        "round; its interval holds the median with 95&nbsp;% confidence.</p>",
    )


def _anchor(suite: str) -> str:
    return "suite-" + re.sub(r"[^\w-]", "-", suite)


def _about(document: Document) -> str:
    version = document["versions"].get("qkernels")
    created = datetime.fromisoformat(document["created"]).astimezone(timezone.utc)
    parts = [f"qkernels {version}" if version else "qkernels", f"{created:%Y-%m-%d %H:%M} UTC"]
    rows = document["rows"]
    contenders = {row["contender"] for row in rows}
    cases = {(row["suite"], row["case"]) for row in rows}
    counts = (
        f"{view.count(len(cases), 'case')}, {view.count(len(contenders), 'contender')}"
        if rows
        else "nothing was measured"
    )
    return ", ".join([*parts, counts]) + "."


def _warnings(document: Document) -> str:
    texts = view.warnings(document)
    if not texts:
        return ""
    items = "".join(f"<p>{escape(text[:1].upper() + text[1:])}</p>" for text in texts)
    return f'<section class="card warning" role="alert">{items}</section>\n'


# Figures and summary ----------------------------------------------------------------------------


def _figures(document: Document) -> str:
    """The numbers that decide, in large type: of the first group's number of threads."""
    cards = []
    ours = [row for row in document["rows"] if view.is_ours(row) and view.timed(row)]
    bound = [row for row in ours if row["share"] is not None and row["bound"] != "overhead"]
    threads = document["rows"][0]["threads"] if document["rows"] else 1
    with_products = [row for row in ours if row["gmacs"] and row["threads"] == threads]
    if with_products:
        best = max(with_products, key=lambda row: float(row["gmacs"]))
        where = f"{escape(best['case'])}, {view.count(threads, 'thread')}"
        if best["share"] is not None:
            where += f", {_typeset(view.percent(best['share']))} of its limit"
        cards.append(("Fastest case", f"{view.number(best['gmacs'])} GMAC/s", where))
    if bound:
        share = median(row["share"] for row in bound)
        cards.append(
            (
                "Share of the limit",
                _typeset(view.percent(share)),
                f"of qkernels, median of {view.count(len(bound), 'result')}; lowest "
                + _typeset(view.percent(min(row["share"] for row in bound))),
            )
        )
    for label, floats in (("Speed against the best peer", False), ("Speed against float32", True)):
        ratios = _best_ratios(document, floats)
        if ratios:
            mean = view.mean(label, ratios)
            cards.append(
                (
                    label,
                    f"{view.ratio(mean.mean)}×",
                    f"geometric mean of {view.count(mean.cases, 'result')}, "
                    f"{view.ratio(mean.low)} to {view.ratio(mean.high)}",
                )
            )
    return html.figures(cards) if cards else ""


def _best_ratios(document: Document, floats: bool) -> list[float]:
    """The ratio of the best peer in each case; floats: among those that compute in float32."""
    found = []
    for group in view.groups(document):
        for rows in group.cases().values():
            some = [row for row in rows if not floats or row["dtype"] == "float32"]
            best = view.best_peer(some)
            if best:
                found.append(float(best["ratio"]["median"]))
    return found


def _summary(document: Document, styles: Mapping[str, Style]) -> str:
    """A row a group, a column a peer: geometric means, the lowest and the highest ratio below."""
    by_group = [(g, {m.peer: m for m in view.means(g)}) for g in view.groups(document)]
    by_group = [(group, means) for group, means in by_group if means]
    if not by_group:
        return ""
    shown = {peer for _, means in by_group for peer in means}
    peers = [view.BEST, *(name for name in styles if name in shown)]
    heads = [charts.key(peer, styles) if peer in styles else escape(peer) for peer in peers]
    head = "".join(f'<th scope="col" class="number">{text}</th>' for text in heads)
    body = []
    for group, means in by_group:
        cells = "".join(f'<td class="number">{_mean(means.get(peer))}</td>' for peer in peers)
        name = f"{escape(group.suite)}<small>{escape(_group_title(group))}</small>"
        body.append(f'<tr><th scope="row">{name}</th>{cells}</tr>')
    lines = "\n".join(body)
    content = (
        f'<table class="dense means">\n<thead><tr><th scope="col">suite</th>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table>"
    )
    note = (
        "Geometric mean of a peer’s time over the time of qkernels, above 1 where qkernels is "
        "faster; below it the lowest and the highest case. Only right answers count; the best "
        "peer is the fastest one in each case."
    )
    return html.section("Summary", note, html.scrolling(content, "Summary"), anchor="summary")


def _mean(mean: view.Mean | None) -> str:
    if mean is None:
        return "<small>none</small>"
    between = f"{view.ratio(mean.low)} to {view.ratio(mean.high)}" if mean.cases > 1 else "one case"
    return f"{view.ratio(mean.mean)}<small>{between}</small>"


# Suites -----------------------------------------------------------------------------------------


def _suite(
    suite: str, groups: Sequence[Group], document: Document, styles: Mapping[str, Style]
) -> str:
    parts = []
    for group in groups:
        parts.append(f"<h3>{escape(_group_title(group))}</h3>")
        keys = "".join(charts.key(name, styles) for name in view.contenders(group))
        chart = geometry.roofline(group, view.limits_of(document, group.threads))
        if chart is not None:
            parts.append(f'<h4>Roofline</h4><div class="legend">{keys}</div>')
            parts.append(html.scrolling(charts.roofline(group, chart, styles), "Roofline"))
        cases = view.bars(group)
        if cases:
            parts.append("<h4>Time of the peer over the time of qkernels</h4>")
            parts.append(html.scrolling(charts.ratios(group, cases, styles), "Ratios"))
        remarks = "".join(f"<li>{escape(text)}</li>" for text in view.remarks(group))
        if remarks:
            parts.append(f'<ul class="remarks">{remarks}</ul>')
        lines = table.lines(group)
        if lines:
            kinds = [_kind(line) for line in lines]
            rows = html.scrolling(_table(table.COLUMNS, lines, kinds, "dense"), "All numbers")
            parts.append(f"<details><summary>All numbers</summary>{rows}</details>")
    return html.section(suite, _SUITE_NOTE, "\n".join(parts), anchor=_anchor(suite))


_SUITE_NOTE = (
    "A column a case, a mark a contender; the bar across a column is the limit of the case. Slopes "
    "are read bandwidths, level lines the peaks of instructions, both measured on this machine. "
    "Hollow marks compute in float32, half filled ones in bfloat16; dashed ones gave wrong answers."
)


def _group_title(group: Group) -> str:
    return ", ".join(filter(None, (group.isa, view.count(group.threads, "thread"))))


def _kind(line: table.Line) -> str:
    kinds = {
        "opens": bool(line.case),
        "ours": view.is_ours(line.row),
        "wrong": line.row["status"] == "wrong",
    }
    return " ".join(name for name, holds in kinds.items() if holds)


def _table(
    columns: Sequence[Column[Any]], rows: Sequence[Any], kinds: Sequence[str], class_: str
) -> str:
    """A <table> with a class a row; the first column heads its row."""
    head = "".join(
        f'<th scope="col"{html.number(c.right)}>{"<br>".join(filter(None, c.heading))}</th>'
        for c in columns
    )
    body = []
    for row, kind in zip(rows, kinds, strict=True):
        cells = []
        for i, column in enumerate(columns):
            content = escape(_typeset(column.cell(row)))
            name = ' class="mark"' if column.heading == ("", "") else html.number(column.right)
            cells.append(
                f'<th scope="row">{content}</th>' if i == 0 else f"<td{name}>{content}</td>"
            )
        body.append(f'<tr class="{kind}">{"".join(cells)}</tr>')
    lines = "\n".join(body)
    return (
        f'<table class="{class_}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody>\n</table>"
    )


def _typeset(cell: str) -> str:
    """Text of the plain table with the characters that a browser has: µs, a true dash, spaces that
    do not break."""
    cell = re.sub(r"(?<=\d) us$", " µs", cell).replace(" %", "\u00a0%")
    return re.sub(r"^([\d.,]+)-([\d.,]+)$", r"\1–\2", cell)  # noqa: RUF001


# The machine ------------------------------------------------------------------------------------


def _machine(document: Document) -> str:
    facts = view.facts(document)
    caches = document["machine"]["caches"]
    sizes = [f"{name} {byte_size(int(size))}" for name, size in caches.items()]
    if sizes:
        facts.append(("caches", ", ".join(sizes)))
    versions = document["versions"]
    facts.append(("versions", ", ".join(f"{k} {v}" for k, v in versions.items())))
    facts += [(f"absent: {name}", str(why)) for name, why in document["absent"].items()]
    rows = "\n".join(
        f'<tr><th scope="row">{escape(label)}</th><td>{escape(_typeset(text))}</td></tr>'
        for label, text in facts
        if text
    )
    content = f'<table class="dense plain"><tbody>\n{rows}\n</tbody></table>'
    note = "Limits are what this machine reached in the same run: peaks of the dot instructions of "
    note += "each tier and of float32, and read bandwidth of each level of memory."
    return html.section("Machine", note, content, anchor="machine")
