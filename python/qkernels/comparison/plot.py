# SPDX-License-Identifier: Apache-2.0
"""A comparison drawn with matplotlib."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .results import Comparison

_FLOAT, _INT8 = "#2563c9", "#d9730d"


def plot(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """SQNR a layer above, milliseconds a layer below; written to `path`."""
    try:
        # A Figure of its own: pyplot would choose a window system and keep state.
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Comparison.plot needs matplotlib: pip install 'qkernels[plot]' "
            "(to_html draws without it)"
        ) from error

    layers = comparison.layers
    names = [layer.name for layer in layers]
    places = np.arange(len(layers))
    figure = Figure(figsize=(max(6.0, 0.8 * len(layers)), 6.5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    for label, color, marker, stats in (
        ("isolated", _FLOAT, "o", [layer.isolated for layer in layers]),
        ("accumulated", _INT8, "s", [layer.accumulated for layer in layers]),
    ):
        values = [s.sqnr_db if math.isfinite(s.sqnr_db) else math.nan for s in stats]
        upper.plot(places, values, marker=marker, color=color, label=label)
    upper.set_ylabel("SQNR (dB)")
    upper.set_title(f"{comparison.title}: int8 beside float32")
    lower.bar(places - 0.2, [r.float_ms for r in layers], 0.4, color=_FLOAT, label="float (NumPy)")
    lower.bar(places + 0.2, [r.int8_ms for r in layers], 0.4, color=_INT8, label="int8")
    lower.set_ylabel(f"ms a batch of {comparison.batch_size}")
    lower.set_xticks(places, names, rotation=30, ha="right")
    for axes in (upper, lower):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
