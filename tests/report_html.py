# SPDX-License-Identifier: Apache-2.0
"""Reads a report the way a browser would have to: every element closed, nothing fetched."""

from __future__ import annotations

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

_VOID = {"meta", "img", "br", "link", "input", "hr"}
_FETCHING = {"src", "href", "xlink:href", "srcset", "data", "poster", "action", "background"}


class Report(HTMLParser):
    """Counts tags and collects headings and what a browser would fetch.

    Attributes: tags: count by name; headings: text by tag (h1, h2, h3, title); resources: values
    that would be fetched, data: URIs and fragments apart.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: Counter[str] = Counter()
        self.headings: dict[str, list[str]] = {"h1": [], "h2": [], "h3": [], "title": []}
        self.resources: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in _VOID:
            self._open.append(tag)
        if tag in self.headings and "svg" not in self._open:
            self.headings[tag].append("")
        for name, value in attrs:
            if name in _FETCHING and not (value or "").startswith(("data:", "#")):
                self.resources.append(f"{tag} {name}={value}")

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.headings and "svg" not in self._open:
            self.headings[self._open[-1]][-1] += data
        if self._open and self._open[-1] == "style":
            self.resources += re.findall(r"@import[^;]*|url\((?!['\"]?data:)[^)]*\)", data)

    def close(self) -> None:
        super().close()
        assert not self._open, f"never closed: {self._open}"


def parse_report(path: Path) -> Report:
    """The parsed report; asserts that it is well formed and has no script."""
    report = Report()
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    report.feed(text)
    report.close()
    assert report.tags["script"] == report.tags["link"] == report.tags["iframe"] == 0
    assert re.search(r"https?://", text) is None
    return report
