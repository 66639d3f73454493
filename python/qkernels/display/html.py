# SPDX-License-Identifier: Apache-2.0
"""The frame of a report: one HTML file, no script, no external resource, light and dark."""

from __future__ import annotations

from html import escape
from importlib import resources


def page(*, title: str, style: str, header: str, main: str, footer: str) -> str:
    """The whole document. `title` is text; `style` comes after the shared style sheet; the others
    are markup."""
    shared = style_sheet("qkernels.display", "page.css")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{shared}{style}</style>
</head>
<body>
<header>
{header}
</header>
<main>
{main}
</main>
<footer>{footer}</footer>
</body>
</html>
"""


def style_sheet(package: str, name: str) -> str:
    """The text of a .css file that lies in a package."""
    return resources.files(package).joinpath(name).read_text("utf-8")


def section(heading: str, note: str, content: str, *, anchor: str = "") -> str:
    """A card; `note`, below the heading, and `content` are markup; `anchor` is what links name."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    return (
        f'<section class="card"{name}>\n<h2>{escape(heading)}</h2>\n'
        f'<p class="note">{note}</p>\n{content}\n</section>\n'
    )


def scrolling(content: str, label: str) -> str:
    """`content` in a box that scrolls sideways on a narrow screen, by keyboard too."""
    name = escape(label)
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{name}">{content}</div>'


def figures(cards: list[tuple[str, str, str]]) -> str:
    """Numbers in large type; cards: (label, value, detail), markup each."""
    items = "\n".join(
        f'<div class="card"><dt>{label}</dt><dd class="value">{value}</dd>'
        f'<dd class="detail">{detail}</dd></div>'
        for label, value, detail in cards
    )
    return f'<dl class="figures">\n{items}\n</dl>\n'


def number(right: bool) -> str:
    """The attribute of a cell in a column of numbers."""
    return ' class="number"' if right else ""
