# SPDX-License-Identifier: Apache-2.0
"""The numbers of a comparison, and their forms: table, dictionary, plot, report."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .metrics import ErrorStats, Histogram


@dataclass(frozen=True)
class LayerComparison:
    """One layer.

    Attributes:
        name, op: as in `Model.trace`; activation: fused after the operation, or None.
        shape: of the output without the batch, in the layout of the model.
        dtype, scale, zero_point: of the output; float32, None, None in a layer that runs in float.
        isolated: error of the layer alone, its inputs taken from the float reference.
        accumulated: error as the model runs, with that of all layers before it.
        saturated: share of float outputs, from 0 to 1, whose code lies outside the codes' range.
        float_ms, int8_ms: medians for one batch.
        histogram: of float outputs and of dequantized accumulated outputs; None in a float layer.
    """

    name: str
    op: str
    activation: str | None
    shape: tuple[int, ...]
    dtype: str
    scale: float | None
    zero_point: int | None
    isolated: ErrorStats
    accumulated: ErrorStats
    saturated: float
    float_ms: float
    int8_ms: float
    histogram: Histogram | None


@dataclass(frozen=True)
class Accuracy:
    """Shares of right predictions, from 0 to 1, over `count` labelled samples."""

    reference: float
    int8: float
    count: int

    @property
    def change(self) -> float:
        """int8 minus reference: negative when accuracy is lost."""
        return self.int8 - self.reference


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample on which the two sides differ: its outputs, and its image where it has one.

    Attributes:
        index: in the data; label: its class, or None.
        reference, int8: the outputs (scores before softmax).
        image: float32 (channels, height, width), or None.
    """

    index: int
    label: int | None
    reference: tuple[float, ...]
    int8: tuple[float, ...]
    image: NDArray[np.float32] | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `qkernels.compare` returns. `str(comparison)` is `to_table()`.

    Attributes:
        layers: a `LayerComparison` a layer, in order.
        accuracy: with labels; agreement: share of samples with the same prediction, and
        confusion: int64 (classes, classes), true class by the int8 model's prediction, with labels.
            All three None where the output is not (batch, classes).
        samples: those on which the two sides differ most.
        count: samples compared; batch_size: of the timed batch; rounds: timed.
        float_ms, int8_ms: medians for one batch, end to end.
        float_bytes, int8_bytes: of the parameters.
        isa, threads: what the kernels ran on; version: of qkernels.
        title: the heading of the report.
    """

    layers: tuple[LayerComparison, ...]
    accuracy: Accuracy | None
    agreement: float | None
    confusion: NDArray[np.int64] | None
    samples: tuple[Sample, ...]
    count: int
    batch_size: int
    rounds: int
    float_ms: float
    int8_ms: float
    float_bytes: int
    int8_bytes: int
    isa: str
    threads: int
    version: str
    title: str

    @property
    def speedup(self) -> float:
        """How many times faster the int8 model is than the NumPy reference, end to end."""
        return self.float_ms / self.int8_ms

    def __str__(self) -> str:
        return self.to_table()

    def to_table(self) -> str:
        """Aligned plain text: a line a layer, then what holds for the whole model."""
        from qkernels.display.table import plain_table

        from .table import COLUMNS, summary_lines

        lines = summary_lines(self)
        width = max(len(label) for label, _ in lines)
        summary = "\n".join(f"{label.ljust(width)}  {text}" for label, text in lines)
        return f"{plain_table(COLUMNS, self.layers)}\n\n{summary}\n"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the images, ready for `json.dumps`. Infinite decibels become None."""
        skipped = {"layers", "accuracy", "confusion", "samples"}
        whole = {name: value for name, value in vars(self).items() if name not in skipped}
        accuracy = self.accuracy
        return {
            **whole,
            "speedup": self.speedup,
            "accuracy": accuracy and {**asdict(accuracy), "change": accuracy.change},
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "layers": [_plain(asdict(layer)) for layer in self.layers],
            "samples": [
                {
                    "index": sample.index,
                    "label": sample.label,
                    "reference": list(sample.reference),
                    "int8": list(sample.int8),
                }
                for sample in self.samples
            ],
        }

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw SQNR and time a layer with matplotlib; the ending of `path` decides the format.

        Raises ImportError when matplotlib (extra "plot") is not installed, OSError when the file
        cannot be written.
        """
        from .plot import plot

        plot(self, path)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a report that needs nothing but itself: one HTML file with inline SVG.

        Raises OSError when the file cannot be written.
        """
        from .report import html_report

        Path(path).write_text(html_report(self), encoding="utf-8")


def _plain(value: Any) -> Any:
    """Tuples as lists and infinities as None, at any depth."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
