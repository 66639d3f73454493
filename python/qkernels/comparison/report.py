# SPDX-License-Identifier: Apache-2.0
"""A comparison as one HTML file: no script, no external resource, light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qkernels.display import html
from qkernels.display.table import byte_size, three_digits

from . import svg, table

if TYPE_CHECKING:
    from .results import Comparison, LayerComparison, Sample

_SHOWN_CLASSES = 3  # of a sample's scores
_MATRIX_CLASSES = 20  # more do not fit a matrix that can be read


def html_report(comparison: Comparison) -> str:
    """The whole document."""
    title = escape(comparison.title)
    sections = [
        _figures(comparison),
        _sqnr_section(comparison.layers),
        _table_section(comparison),
        _histogram_section(comparison.layers),
        _prediction_section(comparison),
    ]
    return html.page(
        title=f"{comparison.title}: int8 and float32",
        style=html.style_sheet("qkernels.comparison", "report.css"),
        header=f"<h1>{title}: int8 beside float32</h1>\n<p>{len(comparison.layers)} layers, "
        f"{comparison.count:,} samples, {escape(_ran_on(comparison))}.</p>",
        main="".join(section for section in sections if section),
        footer=f"<p>Written by qkernels {escape(comparison.version)}. Times are medians of\n"
        f"{comparison.rounds} interleaved rounds; the float side is the NumPy float32 "
        "reference.</p>",
    )


def _ran_on(comparison: Comparison) -> str:
    return dict(table.summary_lines(comparison))["ran on"]


def _figures(comparison: Comparison) -> str:
    """The numbers that decide, in large type."""
    cards = []
    accuracy = comparison.accuracy
    if accuracy is not None:
        tone = "good" if accuracy.change > -0.003 else "bad"
        cards.append(
            (
                "Accuracy, int8",
                f"{100 * accuracy.int8:.2f} %",
                f"float {100 * accuracy.reference:.2f} %, "
                f'<span class="{tone}">{100 * accuracy.change:+.2f} points</span>',
            )
        )
    output = comparison.layers[-1].accumulated
    cards.append(
        (
            "Output, SQNR",
            f"{table.decibels(output.sqnr_db)} dB",
            f"cosine {output.cosine:.5f}, largest error {output.max_abs_error:.3g}",
        )
    )
    cards.append(
        (
            "Size, int8",
            byte_size(comparison.int8_bytes),
            f"float {byte_size(comparison.float_bytes)}, {table.size_ratio(comparison)}",
        )
    )
    per_sample = 1000 / comparison.batch_size
    cards.append(
        (
            "Time a sample, int8",
            f"{three_digits(comparison.int8_ms * per_sample)} µs",
            f"float {three_digits(comparison.float_ms * per_sample)} µs, "
            f"{comparison.speedup:.1f} times as fast as NumPy",
        )
    )
    return html.figures(cards)


def _sqnr_section(layers: Sequence[LayerComparison]) -> str:
    chart = svg.layer_lines(
        [row.name for row in layers],
        [
            ("isolated", "isolated", [row.isolated.sqnr_db for row in layers]),
            ("accumulated", "accumulated", [row.accumulated.sqnr_db for row in layers]),
        ],
        "dB",
        "Signal to quantization noise ratio of each layer, isolated and accumulated; "
        "the numbers are in the table below",
    )
    note = (
        "Signal to quantization noise ratio in decibels, higher is better, 6 dB are one bit. "
        "<strong>Isolated</strong>: the layer alone, fed with float inputs. "
        "<strong>Accumulated</strong>: as the model runs, with the errors of all layers before "
        "it. A layer that is low in both loses precision itself; one that is low only in the "
        "second inherits the loss."
    )
    return html.section("Where precision goes", note, html.scrolling(chart, "Where precision goes"))


def _bar(share: float, class_: str = "") -> str:
    percent = 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 100.0
    return f'<span class="bar"><i class="{class_}" style="width:{percent:.1f}%"></i></span>'


def _table_section(comparison: Comparison) -> str:
    rows = comparison.layers
    best = max((r.isolated.sqnr_db for r in rows if math.isfinite(r.isolated.sqnr_db)), default=1)
    slowest = max(max(row.float_ms, row.int8_ms) for row in rows) or 1.0
    bars = {
        ("SQNR dB", "isolated"): lambda r: _bar(r.isolated.sqnr_db / best, "reference"),
        ("SQNR dB", "accum."): lambda r: _bar(r.accumulated.sqnr_db / best, "int8"),
        ("float", "ms"): lambda r: _bar(r.float_ms / slowest, "reference"),
        ("int8", "ms"): lambda r: _bar(r.int8_ms / slowest, "int8"),
    }
    head = "".join(
        f'<th scope="col"{html.number(c.right)}>{"<br>".join(filter(None, c.heading))}</th>'
        for c in table.COLUMNS
    )
    body = []
    for row in rows:
        cells: list[str] = []
        for column in table.COLUMNS:
            content = escape(column.cell(row))
            if column.heading in bars:
                content += bars[column.heading](row)
            if cells:
                cells.append(f"<td{html.number(column.right)}>{content}</td>")
            else:
                cells.append(f'<th scope="row">{content}</th>')
        body.append(f"<tr>{''.join(cells)}</tr>")
    note = (
        f"Shape, scale and zero point of each layer's output; cosine and largest error as "
        f"accumulated; saturated: share of float outputs beyond the range of the codes; "
        f"milliseconds for a batch of {comparison.batch_size}."
    )
    rows_text = "\n".join(body)
    content = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows_text}\n</tbody>\n</table>"
    return html.section("Layer by layer", note, html.scrolling(content, "Layer by layer"))


def _histogram_section(layers: Sequence[LayerComparison]) -> str:
    figures = []
    for row in layers:
        if row.histogram is None:
            continue
        chart = svg.histogram(
            row.histogram.edges,
            row.histogram.reference,
            row.histogram.value,
            (row.histogram.low, row.histogram.high),
            f"Distribution of the outputs of {row.name}, from {row.histogram.low:.3g} to "
            f"{row.histogram.high:.3g}, in float and as run in int8",
        )
        figures.append(
            f"<figure><figcaption><h3>{escape(row.name)}</h3>"
            f"<span>{100 * row.saturated:.2f} % saturated</span></figcaption>{chart}</figure>"
        )
    if not figures:
        return ""
    note = (
        '<span class="key area"></span>float outputs and <span class="key line"></span>the '
        "int8 model's, over the range that its codes can express; heights are logarithms of "
        "counts. Empty margins are codes that are never used."
    )
    return html.section(
        "What each layer puts out",
        note,
        f'<div class="histograms">\n{"".join(figures)}\n</div>',
    )


def _prediction_section(comparison: Comparison) -> str:
    parts = []
    matrix = comparison.confusion
    if matrix is not None and len(matrix) <= _MATRIX_CLASSES:
        parts.append("<div>" + svg.confusion(matrix, _confusion_label(comparison)) + "</div>")
    if comparison.samples:
        samples = "\n".join(map(_sample, comparison.samples))
        parts.append(f'<div class="samples">\n{samples}\n</div>')
    if not parts:
        return ""
    note = "Scores are the softmax of the model's outputs: "
    note += '<span class="key reference"></span>float, <span class="key int8"></span>int8. '
    note += "The samples shown are those on which the two sides differ most."
    if matrix is not None:
        note = "The matrix counts the int8 model's predictions. " + note
    content = f'<div class="predictions">\n{"".join(parts)}\n</div>'
    return html.section("Predictions", note, content)


def _confusion_label(comparison: Comparison) -> str:
    matrix = comparison.confusion
    assert matrix is not None
    wrong = int(matrix.sum() - np.trace(matrix))
    return f"Confusion matrix of the int8 model: {wrong} of {int(matrix.sum())} samples wrong"


def _sample(sample: Sample) -> str:
    picture = ""
    pixels = None if sample.image is None else svg.image_pixels(sample.image)
    if pixels is not None:
        picture = f'<img alt="Sample {sample.index}" src="{svg.png_uri(pixels)}">'
    float_scores, int8_scores = _softmax(sample.reference), _softmax(sample.int8)
    order = np.argsort(-np.maximum(float_scores, int8_scores), kind="stable")[:_SHOWN_CLASSES]
    predicted = int(np.argmax(sample.int8))
    tone = "bad" if sample.label not in {None, predicted} else ""
    facts = f'sample {sample.index}: <b class="{tone}">{predicted}</b>'
    if sample.label is not None:
        facts += f", truly <b>{sample.label}</b>"
    scores = "".join(
        f'<div class="score"><b>{c}</b><span class="bars">'
        f'<i class="reference" style="width:{100 * float_scores[c]:.1f}%"></i>'
        f'<i class="int8" style="width:{100 * int8_scores[c]:.1f}%"></i></span>'
        f'<span class="percent">{100 * int8_scores[c]:.1f} %</span></div>'
        for c in map(int, order)
    )
    caption = f"<figcaption>{facts}{scores}</figcaption>"
    return f"<figure>{picture}{caption}</figure>"


def _softmax(scores: Sequence[float]) -> NDArray[np.float64]:
    raised = np.exp(np.asarray(scores, np.float64) - max(scores))
    result: NDArray[np.float64] = raised / raised.sum()
    return result
