# SPDX-License-Identifier: Apache-2.0
"""The HTML report of a bench document."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench_document import document, row, untimed, with_ratios
from qkernels.bench import report, view
from report_html import Report, parse_report


def written(found: dict, tmp_path: Path) -> tuple[Report, str]:
    """The parsed report of a document, and its text."""
    path = tmp_path / "report.html"
    report.write(found, path)
    return parse_report(path), path.read_text(encoding="utf-8")


def svg_titles(text: str) -> list[str]:
    return re.findall(r"<title>([^<]*)</title></?(?!head)", text)


def test_structure(tmp_path: Path) -> None:
    found = document(suites=("gemm", "gemv"), threads=(1, 4))
    parsed, text = written(found, tmp_path)
    assert parsed.resources == []
    assert parsed.headings["h1"] == ["AMD EPYC 9R14"]
    assert parsed.headings["h2"] == ["Summary", "gemm", "gemv", "Machine"]
    assert parsed.headings["h3"] == ["avx512vnni, 1 thread", "avx512vnni, 4 threads"] * 2
    assert parsed.tags["details"] == 4
    keys = 4 * 7 + 6  # above each roofline all contenders, in the summary the peers
    assert parsed.tags["svg"] == 4 * 2 + keys
    timed = sum(view.timed(r) for r in found["rows"])
    assert text.count('<tr class="') == timed
    targets = set(re.findall(r'href="#([^"]+)"', text))
    assert targets == {"summary", "suite-gemm", "suite-gemv", "machine"}
    for target in targets:
        assert text.count(f'id="{target}"') == 1


def test_each_result_is_a_mark_and_each_ratio_a_bar(tmp_path: Path) -> None:
    found = document(suites=("gemv",), threads=(1,))
    _, text = written(found, tmp_path)
    for r in found["rows"]:
        start = f"<title>{r['contender']}, {r['case']}: {view.duration(r['seconds'])}, "
        assert text.count(start) == (1 if r["ratio"] is None else 2), start
    assert text.count('class="whisker"') == sum(r["ratio"] is not None for r in found["rows"])
    assert text.count('class="limit"') == 5
    assert len(svg_titles(text)) >= len(found["rows"])


def test_bars_are_as_long_as_their_ratios(tmp_path: Path) -> None:
    rows = [row("gemm", "64x512x512", name) for name in ("qkernels", "oneDNN", "LiteRT")]
    for found, value in zip(rows[1:], (2.0, 4.0), strict=True):
        found["ratio"] = {"median": value, "low": value * 0.99, "high": value * 1.01}
    _, text = written(document(rows=rows), tmp_path)
    widths = [float(w) for w in re.findall(r'width="([\d.]+)" height="13[^>]*class="ratio', text)]
    assert len(widths) == 2
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)


def test_every_drawing_stays_in_its_box(tmp_path: Path) -> None:
    _, text = written(document(isas=("avx2", "avx512vnni")), tmp_path)
    for box, content in re.findall(r'<svg[^>]*viewBox="([^"]+)"[^>]*>(.*?)</svg>', text):
        _, _, width, height = map(float, box.split())
        for names, size in ((("x", "x1", "x2", "cx"), width), (("y", "y1", "y2", "cy"), height)):
            for value in re.findall(rf'\b(?:{"|".join(names)})="(-?[\d.]+)"', content):
                assert -0.01 <= float(value) <= size + 0.01, (box, value)


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script>&'
    rows = with_ratios([row("gemm", "64x512x512", name) for name in ("qkernels", "oneDNN")])
    rows[1] |= {"contender": evil, "library": evil, "status": "wrong", "note": evil}
    for r in rows:
        r["case"], r["suite"] = evil, evil
    found = document(rows=rows, absent={evil: evil}, versions={evil: evil})
    found["machine"] |= {"cpu": evil, "system": evil}
    found["conditions"]["warnings"] = [evil]
    parsed, text = written(found, tmp_path)
    assert "<script" not in text
    assert parsed.headings["h1"] == [evil]
    assert parsed.headings["h2"] == [evil, "Machine"]
    assert parsed.headings["title"] == [f"qkernels bench: {evil}"]


def test_wrong_peers_are_marked_and_not_counted(tmp_path: Path) -> None:
    _, text = written(document(suites=("gemm",), threads=(1,)), tmp_path)
    assert text.count('<tr class="wrong">') == 9
    assert len(re.findall(r'class="ratio c\d+ wrong"', text)) == 9
    assert len(re.findall(r'class="point c\d+ wrong ', text)) == 9
    assert "torch WRONG in 9 of 9 cases: 63 % of the outputs, up to 11 steps" in text
    summary = text[text.index('id="summary"') : text.index('id="suite-gemm"')]
    assert "torch" not in summary
    assert "oneDNN" in summary


def test_summary_shows_the_means(tmp_path: Path) -> None:
    found = document(suites=("gemv",), threads=(1,))
    _, text = written(found, tmp_path)
    (group,) = view.groups(found)
    for mean in view.means(group):
        ends = f"{view.ratio(mean.low)} to {view.ratio(mean.high)}"
        assert f"{view.ratio(mean.mean)}<small>{ends}</small>" in text


def test_no_rows(tmp_path: Path) -> None:
    parsed, text = written(document(rows=[]), tmp_path)
    assert parsed.headings["h2"] == ["Machine"]
    assert "nothing was measured" in text
    assert parsed.tags["svg"] == parsed.tags["nav"] == 0


def test_one_row(tmp_path: Path) -> None:
    parsed, text = written(document(rows=[row("gemm", "64x512x512", "qkernels")]), tmp_path)
    assert parsed.headings["h2"] == ["gemm", "Machine"]
    assert parsed.tags["svg"] == 2  # a roofline and its key, no ratios
    assert text.count('<tr class="opens ours">') == 1


def test_nothing_timed(tmp_path: Path) -> None:
    rows = [untimed(row("gemm", "64x512x512", "qkernels"), "failed", "interrupted")]
    parsed, text = written(document(rows=rows), tmp_path)
    assert parsed.tags["svg"] == 0
    assert "qkernels failed in 64x512x512: interrupted" in text


def test_without_limits(tmp_path: Path) -> None:
    nothing = {"limit": None, "share": None, "bound": None}
    rows = [row("gemm", "64x512x512", name) | nothing for name in ("qkernels", "oneDNN")]
    _, text = written(document(rows=with_ratios(rows), limits={}), tmp_path)
    assert 'class="roof' not in text
    assert 'class="limit"' not in text
    assert "Share of the limit" not in text


def test_warnings_stand_above_everything(tmp_path: Path) -> None:
    _, calm = written(document(), tmp_path)
    assert 'role="alert"' not in calm
    found = document()
    found["conditions"]["noisy"] = True
    _, text = written(found, tmp_path)
    assert text.index('role="alert"') < text.index("Fastest case")
    assert "The machine was too noisy for conclusions." in text


def test_light_and_dark_have_a_colour_for_each_contender(tmp_path: Path) -> None:
    _, text = written(document(), tmp_path)
    light, dark = re.findall(r"\.c0 \{[^\n]*", text)
    assert light.count("--c:") == dark.count("--c:") == 7
    assert "prefers-color-scheme: dark" in text


def test_the_time_is_given_in_utc(tmp_path: Path) -> None:
    _, text = written(document(created="2026-11-21T00:30:00+02:00"), tmp_path)
    assert "2026-11-20 22:30 UTC" in text


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        report.write(document(), tmp_path / "none" / "report.html")
