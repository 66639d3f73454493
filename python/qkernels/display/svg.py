# SPDX-License-Identifier: Apache-2.0
"""The elements of inline SVG. Colours come from the style sheet through class names, so that one
drawing serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

Point = tuple[float, float]


def tag(name: str, content: str = "", **attributes: object) -> str:
    """One element. A trailing underscore is dropped and the others become hyphens in attribute
    names; `content` is markup, attribute values are escaped, numbers shortened."""
    parts = [name]
    for key, value in attributes.items():
        text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    return f"<{' '.join(parts)}>{content}</{name}>"


def text(x: float, y: float, content: str, **attributes: object) -> str:
    return tag("text", escape(content), x=x, y=y, **attributes)


def title(content: str) -> str:
    """What browsers show on hover and screen readers read; inside the element it belongs to."""
    return tag("title", escape(content))


def drawing(width: float, height: float, label: str, content: str, **attributes: object) -> str:
    """An <svg> that scales with its column; `label` says what it shows to a screen reader."""
    attributes.setdefault("class_", "chart")
    return tag(
        "svg",
        content,
        **attributes,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label=label,
    )


def polyline(points: Sequence[Point]) -> str:
    """The `d` of a path through the points."""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def nice_ticks(lo: float, hi: float, count: int = 5) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that enclose [lo, hi]."""
    span = max(hi - lo, 1e-12)
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(lo / step + 1e-9), math.ceil(hi / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]
