# SPDX-License-Identifier: Apache-2.0
"""Tables of a bench document, and the facts that all its pictures share."""

from __future__ import annotations

import io
import math
import re
import sys

import numpy as np
import pytest

from bench_document import document, row, untimed, with_ratios
from qkernels.bench import geometry, results, table, view
from support import require


def of_rows(rows: list[dict]) -> dict:
    """A document with these rows, one that `results` accepts."""
    found = document(rows=rows)
    results.check(found)
    return found


def section(text: str, heading: str) -> list[str]:
    """The lines of a table from its rule to the blank line after it, below a heading."""
    lines = text.splitlines()
    start = lines.index(heading)
    rule = next(i for i in range(start, len(lines)) if set(lines[i]) == {"-", " "})
    return lines[rule + 1 : lines.index("", rule) if "" in lines[rule:] else None]


def test_the_document_of_these_tests_is_one_that_the_runner_may_write() -> None:
    results.check(document())
    results.check(document(isas=("avx2", "avx512vnni")))


# Shared facts ---------------------------------------------------------------------------------


def test_groups_are_suite_tier_and_threads() -> None:
    found = view.groups(document(suites=("gemv",), threads=(1, 4), isas=("avx2", "avx512vnni")))
    assert {(g.suite, g.isa, g.threads) for g in found} == {
        ("gemv", isa, threads) for isa in ("avx2", "avx512vnni") for threads in (1, 4)
    }
    assert found[0].title == "gemv, avx2, 1 thread"
    assert {len(g.cases()) for g in found} == {5}


def test_a_peer_without_a_tier_stands_beside_the_last_tier_of_ours() -> None:
    rows = [row("gemv", "1x768x768", "qkernels", 1, isa) for isa in ("avx2", "avx512vnni")]
    rows.append(row("gemv", "1x768x768", "LiteRT", 1, None))
    found = view.groups(of_rows(rows))
    assert [(g.isa, [r["contender"] for r in g.rows]) for g in found] == [
        ("avx2", ["qkernels"]),
        ("avx512vnni", ["qkernels", "LiteRT"]),
    ]


def test_best_peer_is_the_fastest_right_one() -> None:
    rows = with_ratios([row("gemm", "64x512x512", c) for c in ("qkernels", "oneDNN", "torch")])
    rows[1]["ratio"] = {"median": 1.5, "low": 1.4, "high": 1.6}
    rows[2]["ratio"] = {"median": 0.5, "low": 0.4, "high": 0.6}
    assert view.best_peer(rows) is rows[2]
    rows[2]["status"] = "wrong"
    assert view.best_peer(rows) is rows[1]
    rows[1]["status"] = "rounds elsewhere"
    assert view.best_peer(rows) is rows[1]
    assert view.best_peer(rows[:1]) is None


def test_means_are_geometric_and_leave_wrong_answers_out() -> None:
    rows = []
    for case, ratios in (("64x512x512", (2.0, 4.0)), ("128x768x3072", (8.0, 1.0))):
        some = [row("gemm", case, c, isa="avx2") for c in ("qkernels", "oneDNN", "LiteRT")]
        for peer, value in zip(some[1:], ratios, strict=True):
            peer["ratio"] = {"median": value, "low": value, "high": value}
        rows += some
    (group,) = view.groups(of_rows(rows))
    found = {m.peer: m for m in view.means(group)}
    assert list(found) == [view.BEST, "LiteRT", "oneDNN"]
    assert found["oneDNN"].mean == pytest.approx(4.0)
    assert (found["oneDNN"].low, found["oneDNN"].high, found["oneDNN"].cases) == (2, 8, 2)
    assert found[view.BEST].mean == pytest.approx(math.sqrt(2.0))
    rows[2]["status"] = "wrong"
    found = {m.peer: m for m in view.means(group)}
    assert (found["LiteRT"].mean, found["LiteRT"].cases) == (1.0, 1)


def test_spread_moves_neighbours_apart_and_keeps_them_inside() -> None:
    assert geometry.spread([1.0, 5.0, 9.0], 2.0, 0.0, 10.0) == [1.0, 5.0, 9.0]
    assert geometry.spread([5.0, 5.0, 5.0], 2.0, 0.0, 10.0) == pytest.approx([3.0, 5.0, 7.0])
    assert geometry.spread([0.0, 0.0], 2.0, 0.0, 10.0) == pytest.approx([0.0, 2.0])
    assert geometry.spread([9.5, 9.6, 9.7], 2.0, 0.0, 10.0) == pytest.approx([6.0, 8.0, 10.0])
    assert geometry.spread([], 2.0, 0.0, 1.0) == []
    rng = np.random.default_rng(1)
    for count in range(1, 12):
        places = sorted(rng.uniform(0, 10, count))
        found = geometry.spread(places, 1.5, 0.0, 10.0)
        gap = min(1.5, 10 / (count - 1)) if count > 1 else 0
        assert np.all(np.diff(found) >= gap - 1e-9)
        assert found[0] >= -1e-9
        assert found[-1] <= 10 + 1e-9


@pytest.mark.parametrize("ends", [(0.8, 1.25), (0.5, 3000.0), (9.0, 11.0), (1e-3, 1e9)])
def test_ticks_of_a_logarithmic_axis(ends: tuple[float, float]) -> None:
    ticks = geometry.log_ticks(ends)
    assert 1 <= len(ticks) <= 9
    assert ticks == sorted(ticks)
    assert ends[0] <= ticks[0]
    assert ticks[-1] <= ends[1]
    places = [geometry.log_place(tick, ends) for tick in ticks]
    assert all(0 <= place <= 1 for place in places)


def test_roofline_holds_every_point_and_its_limit() -> None:
    for group in view.groups(document(isas=("avx2", "avx512vnni"))):
        chart = geometry.roofline(group, view.limits_of(document(), group.threads))
        assert chart is not None
        assert [stem.x for stem in chart.stems] == sorted(stem.x for stem in chart.stems)
        for stem in chart.stems:
            assert chart.x[0] < stem.x < chart.x[1]
            rows = group.cases()[stem.case]
            assert stem.x == pytest.approx(rows[0]["macs"] / rows[0]["bytes"])
            assert stem.limit == pytest.approx(rows[0]["macs"] / rows[0]["limit"] / 1e9)
            assert all(chart.y[0] < y < chart.y[1] for y, _ in stem.points)
        strong = [roof.name for roof in chart.roofs if roof.strong]
        assert strong == [group.isa]


def test_a_slope_ends_where_it_meets_the_highest_peak() -> None:
    group = view.groups(document(suites=("gemv",), threads=(1,)))[0]
    limits = view.limits_of(document(), 1)
    chart = geometry.roofline(group, limits)
    assert chart is not None
    slopes = {roof.name: roof for roof in chart.roofs if not roof.flat}
    assert set(slopes) == set(limits["read"])
    dram = slopes["DRAM"]
    assert dram.at(dram.right) == pytest.approx(limits["dots"]["avx512vnni"])
    assert dram.at(2.0) == pytest.approx(2 * limits["read"]["DRAM"])


def test_passes_over_memory_are_drawn_by_bytes() -> None:
    rows = with_ratios([row("elementwise", "quantize 8192", c) for c in ("qkernels", "LiteRT")])
    (group,) = view.groups(of_rows(rows))
    chart = geometry.roofline(group, view.limits_of(document(), 1))
    assert chart is not None
    assert (chart.x_unit, chart.y_unit) == ("bytes", "GB/s")
    assert {roof.name for roof in chart.roofs} == {"L1", "L2", "L3", "DRAM"}
    assert chart.stems[0].x == rows[0]["bytes"]
    assert chart.stems[0].points[0][0] == pytest.approx(rows[0]["gbs"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.5e-9, "2.50 ns"), (9.999e-7, "1.00 us"), (1.271e-6, "1.27 us"), (0.0123, "12.3 ms"),
     (0.99949, "999 ms"), (1.5, "1.50 s"), (1234.0, "1,230 s")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert view.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.00312, "0.0031"), (0.0671, "0.0671"), (0.0999, "0.10"), (0.997, "1.00"), (9.994, "9.99"),
     (9.999, "10.0"), (101.6, "102"), (1416.0, "1,420")],
)  # fmt: skip
def test_ratios(value: float, text: str) -> None:
    assert view.ratio(value) == text


# The table ------------------------------------------------------------------------------------


def test_a_row_a_case_and_contender() -> None:
    rows = with_ratios([row("gemm", "64x512x512", c) for c in ("qkernels", "LiteRT", "oneDNN")])
    rows += with_ratios([row("gemm", "128x768x3072", c) for c in ("qkernels", "oneDNN")])
    text = table.render(of_rows(rows))
    found = section(text, "gemm, 1 thread")
    assert [line.split()[0] for line in found] == [
        "64x512x512", "oneDNN", "LiteRT", "128x768x3072", "oneDNN",
    ]  # fmt: skip
    cells = found[1].split()
    ours, peer = rows[0], rows[2]
    assert cells[1] == f"{peer['seconds'] * 1e6:.0f}"
    assert float(cells[3]) == pytest.approx(peer["gmacs"], rel=0.005)
    assert cells[4] == f"{100 * peer['share']:.0f}"
    assert cells[6:8] == ["compute", f"{peer['seconds'] / ours['seconds']:.2f}"]
    assert cells[8] == f"{peer['ratio']['low']:.2f}-{peer['ratio']['high']:.2f}"
    assert cells[9:] == ["best", "peer"]
    assert found[2].split()[-1].endswith(f"{rows[1]['ratio']['high']:.2f}")


def test_wrong_answers_are_marked_and_explained() -> None:
    text = table.render(document(suites=("gemm",), threads=(1,)))
    marked = [line for line in section(text, "gemm, avx512vnni, 1 thread") if "WRONG" in line]
    assert len(marked) == 9
    assert all(line.split()[0] == "torch" for line in marked)
    assert "torch WRONG in 9 of 9 cases: 63 % of the outputs, up to 11 steps" in text
    assert "OpenVINO failed in 2048x2048x2048: no answer within 60 s" in text
    assert not any("torch" in line for line in section(text, "Summary"))


def test_untimed_peers_are_sentences_not_rows() -> None:
    text = table.render(document(suites=("dynamic",), threads=(1,)))
    assert "not measured: ONNX Runtime (no float32 output)" in text
    rows = section(text, "dynamic, avx512vnni, 1 thread")
    assert not any("ONNX Runtime" in line for line in rows)


def test_a_peer_that_rounds_elsewhere_may_be_the_best() -> None:
    rows = with_ratios([row("gemm", "64x512x512", c) for c in ("qkernels", "oneDNN")])
    rows[1]["status"] = "rounds elsewhere"
    line = section(table.render(of_rows(rows)), "gemm, 1 thread")[1]
    assert line.endswith("best peer, rounds elsewhere")


def test_missing_limits_leave_their_cells_empty() -> None:
    nothing = {"limit": None, "share": None, "bound": None}
    rows = [row("gemm", "64x512x512", c) | nothing for c in ("qkernels", "oneDNN")]
    found = of_rows(with_ratios(rows)) | {"limits": {}}
    text = table.render(found)
    assert "%" not in "".join(section(text, "gemm, 1 thread"))
    assert "limits" not in text


def test_no_rows() -> None:
    text = table.render(of_rows([]))
    assert "Nothing was measured." in text
    assert "Summary" not in text


def test_a_case_that_nobody_could_run() -> None:
    rows = [untimed(row("gemm", "64x512x512", "qkernels"), "failed", "interrupted")]
    text = table.render(of_rows(rows))
    assert "nothing could be timed" in text
    assert "qkernels failed in 64x512x512: interrupted" in text


def test_warnings_and_absent_libraries_are_said() -> None:
    found = document()
    found["conditions"] |= {"noisy": True, "throttled": True, "warnings": ["Load average 5."]}
    text = table.render(found)
    assert text.endswith(
        "Warning: The machine was too noisy for conclusions.\nWarning: Load average 5.\n"
        "Warning: The processor was throttled during the run.\n"
    )
    assert "ncnn  ncnn is not installed: pip install ncnn" in text


def test_plain_text_is_ascii() -> None:
    assert table.render(document()).isascii()


@pytest.mark.parametrize("width", [72, 80, 100])
def test_a_narrow_terminal_costs_columns_not_lines(width: int) -> None:
    text = table.render(document(suites=("gemv", "dynamic")), width=width)
    assert max(map(len, text.splitlines())) <= max(width, 80)
    for name in ("contender", "GMAC/s", "qkernels", "limit"):
        assert name in text


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_show_is_plain_into_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    table.show(document(suites=("gemv",)))
    assert capsys.readouterr().out == table.render(document(suites=("gemv",)))


def test_show_in_colour_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    require("rich", in_test_extra=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    found = document(suites=("gemm",), threads=(1,))
    table.show(found)
    text = terminal.getvalue()
    assert "\x1b[1m" in text
    assert re.search(r"\x1b\[31m +torch .*WRONG", text)
    assert re.sub(r"\x1b\[[\d;]*m", "", text) == table.render(found, width=90)


def test_show_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setitem(sys.modules, "rich.console", None)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    table.show(document(suites=("gemv",)))
    assert terminal.getvalue() == table.render(document(suites=("gemv",)), width=90)
