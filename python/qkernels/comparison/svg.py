# SPDX-License-Identifier: Apache-2.0
"""The charts of a comparison as inline SVG; every mark carries a <title>. The classes `reference`
and `int8` mean the two sides of a comparison everywhere.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels.display.svg import Point, drawing, nice_ticks, polyline, tag, text, title


def layer_lines(
    names: Sequence[str], series: Sequence[tuple[str, str, Sequence[float]]], unit: str, label: str
) -> str:
    """One line a series over the layers, in order; infinite values leave a gap.

    series: (legend text, class, values).
    """
    slanted = len(names) > 10
    left, right, top, bottom = 64, 112, 16, 84 if slanted else 34
    width = max(960, left + right + 26 * len(names))
    height = 256 + bottom
    finite = [v for _, _, values in series for v in values if math.isfinite(v)] or [0.0]
    ticks = nice_ticks(min(finite), max(finite))
    low, high = ticks[0], max(ticks[-1], ticks[0] + 1)

    def x_of(index: int) -> float:
        return left + (index + 0.5) * (width - left - right) / len(names)

    def y_of(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    marks = []
    for tick in ticks:
        y = y_of(tick)
        marks.append(tag("line", x1=left, x2=width - right, y1=y, y2=y, class_="grid"))
        number = f"{tick:g} {unit}" if tick == ticks[-1] else f"{tick:g}"
        marks.append(text(left - 8, y + 4, number, class_="tick end"))
    for index, name in enumerate(names):
        x, y = x_of(index), height - bottom + 22
        if slanted:
            turned = f"rotate(-35 {x:.1f} {y - 8})"
            marks.append(text(x, y - 8, name, class_="tick end", transform=turned))
        else:
            marks.append(text(x, y, name, class_="tick middle"))
    ends: list[tuple[float, str, str]] = []
    for legend, class_, values in series:
        points = [(x_of(i), y_of(v)) for i, v in enumerate(values) if math.isfinite(v)]
        if not points:
            continue
        marks.append(tag("path", d=polyline(points), class_=f"line {class_}"))
        for index, value in enumerate(values):
            if not math.isfinite(value):
                continue
            note = title(f"{names[index]}, {legend}: {value:.1f} {unit}")
            x, y = x_of(index), y_of(value)
            # A second shape, so that the series differ without colour.
            mark = f"mark {class_}"
            marks.append(
                tag("circle", note, cx=x, cy=y, r=5, class_=mark)
                if class_ == "isolated"
                else tag("rect", note, x=x - 4.5, y=y - 4.5, width=9, height=9, class_=mark)
            )
        ends.append((points[-1][1], legend, class_))
    previous = -math.inf
    for y, legend, class_ in sorted(ends):
        previous = max(y + 4, previous + 16)
        marks.append(text(width - right + 8, previous, legend, class_=f"legend {class_}"))
    # On a narrow screen the chart scrolls rather than shrink beyond what can be read.
    return drawing(width, height, label, "".join(marks), style=f"min-width: {width * 2 // 3}px")


def histogram(
    edges: Sequence[float],
    reference: Sequence[int],
    value: Sequence[int],
    ends: tuple[float, float],
    label: str,
) -> str:
    """Float counts as a filled area, int8 counts as a stepped line; heights are log(1 + count).

    ends: the numbers written below the left and the right end.
    """
    width, height, top, base = 280, 132, 8, 108
    largest = math.log1p(max(*reference, *value, 1))
    start, span = edges[0], edges[-1] - edges[0]

    def x_of(edge: float) -> float:
        return (edge - start) / span * width

    def y_of(count: int) -> float:
        return base - math.log1p(count) / largest * (base - top)

    def steps(counts: Sequence[int]) -> list[Point]:
        return [
            (x_of(edge), y_of(count))
            for i, count in enumerate(counts)
            for edge in (edges[i], edges[i + 1])
        ]

    area = [(0.0, float(base)), *steps(reference), (float(width), float(base))]
    marks = [
        tag("path", d=polyline(area) + "Z", class_="area reference"),
        tag("path", d=polyline(steps(value)), class_="outline int8"),
        tag("line", x1=0, x2=width, y1=base, y2=base, class_="axis"),
        text(0, height - 8, f"{ends[0]:.3g}", class_="tick"),
        text(width, height - 8, f"{ends[1]:.3g}", class_="tick end"),
    ]
    zero = x_of(0.0)
    if 0.12 * width < zero < 0.88 * width:
        marks.append(tag("line", x1=zero, x2=zero, y1=base, y2=base + 5, class_="axis"))
        marks.append(text(zero, height - 8, "0", class_="tick middle"))
    return drawing(width, height, label, "".join(marks))


def confusion(matrix: NDArray[np.int64], label: str) -> str:
    """Counts by true class (rows) and predicted class (columns); errors stand out by colour."""
    classes = len(matrix)
    cell, left, top = 34, 40, 40
    size = classes * cell
    turned = f"rotate(-90 14 {top + size / 2})"
    marks = [
        text(left + size / 2, 14, "predicted", class_="tick middle"),
        text(14, top + size / 2, "true", class_="tick middle", transform=turned),
    ]
    largest = max(int(matrix.max()), 1)
    for i in range(classes):
        center = (i + 0.5) * cell
        marks.append(text(left + center, top - 8, str(i), class_="tick middle"))
        marks.append(text(left - 8, top + center + 4, str(i), class_="tick end"))
        for j in range(classes):
            count = int(matrix[i, j])
            kind = "empty" if count == 0 else "right" if i == j else "wrong"
            marks.append(
                tag(
                    "rect",
                    title(f"{i} predicted as {j}: {count}"),
                    x=left + j * cell + 1,
                    y=top + i * cell + 1,
                    width=cell - 2,
                    height=cell - 2,
                    rx=4,
                    class_=f"cell {kind}",
                    fill_opacity=0.15 + 0.35 * count / largest if kind == "right" else 1,
                )
            )
            if count:
                x, y = left + (j + 0.5) * cell, top + (i + 0.5) * cell + 4
                marks.append(text(x, y, str(count), class_=f"count {kind}"))
    return drawing(left + size + 4, top + size + 4, label, "".join(marks), class_="chart matrix")


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """A data: URI of a PNG; pixels (H, W) gray or (H, W, 3) red, green, blue."""
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + pixels[0].size), np.uint8)  # each row opens with filter 0: none
    rows[:, 1:] = pixels.reshape(height, -1)

    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    color_type = 0 if pixels.ndim == 2 else 2
    header = struct.pack(">IIBBBBB", width, height, 8, color_type, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + chunk(b"IEND", b"")
    )
    return "data:image/png;base64," + base64.b64encode(content).decode()


def image_pixels(image: NDArray[Any]) -> NDArray[np.uint8] | None:
    """A sample (C, H, W) with 1 or 3 channels stretched to 0..255; None for anything else."""
    if image.ndim != 3 or image.shape[0] not in {1, 3} or 0 in image.shape:
        return None
    x = np.asarray(image, np.float32)
    low, high = float(x.min()), float(x.max())
    scaled = np.rint((x - low) * (255 / (high - low if high > low else 1.0))).astype(np.uint8)
    return scaled[0] if len(scaled) == 1 else np.ascontiguousarray(scaled.transpose(1, 2, 0))
