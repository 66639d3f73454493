# SPDX-License-Identifier: Apache-2.0
"""Pictures of a bench document: plain text and matplotlib, and the colours of all of them."""

from __future__ import annotations

import io
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from bench_document import document, row, untimed, with_ratios
from qkernels.bench import plots, text_plot, view
from qkernels.errors import QKernelsError
from support import require

LIBRARIES = (
    "qkernels", "onednn", "openvino", "onnxruntime", "litert", "torch", "ncnn", "numpy",
)  # fmt: skip


def one_case(**changes: dict) -> dict:
    """A document of one case; changes: fields of a contender's row by its name."""
    contenders = ("qkernels", "oneDNN", "NumPy float32")
    rows = with_ratios([row("gemm", "64x512x512", name) for name in contenders])
    for found in rows:
        found.update(changes.get(found["library"], {}))
    return document(rows=rows)


def plot_area(text: str) -> list[str]:
    """The rows of the first roofline between its axes, the margin cut off."""
    lines = text.splitlines()
    return [line.split("|", 1)[1] for line in lines[2 : 2 + text_plot._ROWS]]


# Plain text -----------------------------------------------------------------------------------


def test_a_text_roofline_shows_each_contender_and_names_its_cases() -> None:
    found = document(suites=("gemv",), threads=(1,), peers=("NumPy float32",))
    text = text_plot.roofline(found, width=90, unicode=False)
    area = plot_area(text)
    assert sum(line.count("Q") for line in area) == 5
    assert "Q qkernels  N NumPy float32  ^ limit of the case" in text
    for case in ("1x768x768", "1x4096x4096", "1x1024x4096", "8x768x3072", "16x4096x4096"):
        assert case in text
    for roof in ("avx512vnni 231", "float32 58.0", "DRAM 17.5", "L3 41.0"):
        assert any(roof in line for line in area), roof


def test_faster_is_higher_and_denser_is_further_right() -> None:
    cases = ("1x4096x4096", "8x768x3072", "1024x1024x1024")
    rows = [found for case in cases for found in with_ratios(
        [row("gemm", case, name) for name in ("qkernels", "NumPy float32")]
    )]  # fmt: skip
    area = plot_area(text_plot.roofline(document(rows=rows), width=100, unicode=False))
    spots = {
        letter: sorted(
            (column, i)
            for i, line in enumerate(area)
            for column, character in enumerate(line)
            if character == letter
        )
        for letter in "QN"
    }
    assert len(spots["Q"]) == len(spots["N"]) == 3
    # The columns of the cases in order of MAC a byte; each row says how fast.
    assert [column for column, _ in spots["Q"]] == [column for column, _ in spots["N"]]
    speeds = {"Q": rows[0::2], "N": rows[1::2]}
    for letter, found in spots.items():
        ordered = [i for _, i in found]
        for (one, a), (other, b) in itertools.combinations(
            zip(ordered, speeds[letter], strict=True), 2
        ):
            assert (one > other) == (a["gmacs"] < b["gmacs"]) or one == other
    for (_, ours), (_, numpy) in zip(spots["Q"], spots["N"], strict=True):
        assert ours < numpy


def test_wrong_answers_have_a_small_letter() -> None:
    found = one_case(onednn={"status": "wrong", "note": "half of them"})
    text = text_plot.roofline(found, width=80, unicode=False)
    area = "".join(plot_area(text))
    assert area.count("d") == 1
    assert "small letter: wrong answer" in text
    bars = text_plot.ratios(found, width=80, unicode=False)
    assert bars.count("WRONG") == 1
    assert "oneDNN" in next(line for line in bars.splitlines() if "WRONG" in line)


def bar_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(name))


def test_bars_grow_with_the_ratio_and_turn_at_one() -> None:
    ratios = {"oneDNN": 0.5, "LiteRT": 2.0, "torch": 4.0, "OpenVINO": 1.0}
    rows = [row("gemm", "64x512x512", name) for name in ("qkernels", *ratios)]
    for found in rows[1:]:
        value = ratios[found["contender"]]
        found["ratio"] = {"median": value, "low": value, "high": value}
    text = text_plot.ratios(document(rows=rows), width=80, unicode=False)
    lengths = {name: bar_of(text, name).count("#") for name in ratios}
    assert lengths["OpenVINO"] == 0
    assert lengths["LiteRT"] == pytest.approx(lengths["oneDNN"], abs=1)
    assert lengths["torch"] == pytest.approx(2 * lengths["LiteRT"], abs=1)
    start = bar_of(text, "torch").index("#")
    assert bar_of(text, "LiteRT").index("#") == start
    assert bar_of(text, "oneDNN").rindex("#") == start - 1
    assert bar_of(text, "oneDNN").endswith(" 0.50")
    order = [line.split()[0] for line in text.splitlines() if line.startswith("  ") and "." in line]
    assert order[:4] == ["oneDNN", "OpenVINO", "LiteRT", "torch"]


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [40, 61, 80, 110])
def test_text_plots_keep_to_their_width(width: int, unicode: bool) -> None:
    found = document(isas=("avx2", "avx512vnni"))
    for draw in (text_plot.roofline, text_plot.ratios):
        text = draw(found, width=width, unicode=unicode)
        assert text.isascii() is not unicode
        # A number and a mark behind the longest bar are the one thing that may stand out.
        spare = len(" WRONG") if draw is text_plot.ratios else 0
        assert max(map(len, text.splitlines())) <= width + spare


def test_widths_beyond_reason_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    found = document(suites=("gemv",), threads=(1,))
    assert text_plot.roofline(found, width=3) == text_plot.roofline(found, width=40)
    assert text_plot.ratios(found, width=999) == text_plot.ratios(found, width=110)
    monkeypatch.setenv("COLUMNS", "66")
    assert text_plot.ratios(found) == text_plot.ratios(found, width=66)


@pytest.mark.parametrize(
    ("encoding", "unicode"),
    [("utf-8", True), ("ascii", False), ("cp1252", False), ("no-such", False)],
)
def test_only_what_stdout_can_write(
    encoding: str, unicode: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        pass

    Stream.encoding = encoding
    monkeypatch.setattr(sys, "stdout", Stream())
    found = document(suites=("gemv",), threads=(1,))
    assert text_plot.ratios(found, width=80) == text_plot.ratios(found, width=80, unicode=unicode)


def test_text_plots_of_nothing() -> None:
    for found in (document(rows=[]), document(rows=[untimed(row("gemm", "1x4x4", "qkernels"),
                                                            "failed", "stopped")])):  # fmt: skip
        assert text_plot.roofline(found, width=80) == ""
        assert text_plot.ratios(found, width=80) == ""


def test_text_plots_without_limits_or_peers() -> None:
    found = document(rows=[row("gemm", "64x512x512", "qkernels") | {"limit": None}], limits={})
    text = text_plot.roofline(found, width=80, unicode=False)
    assert "".join(plot_area(text)).strip() == "Q"
    assert "limit" not in text
    assert text_plot.ratios(found, width=80) == ""


# Colours --------------------------------------------------------------------------------------

# Machado, Oliveira and Fernandes (2009), severity 1: linear RGB as each kind of reader sees it.
BLINDNESS = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
               [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
               [0.004733, 0.691367, 0.303900]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip


def cielab(color: str, blindness: str) -> np.ndarray:
    """L*, a*, b* of #rrggbb."""
    rgb = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(BLINDNESS[blindness]) @ linear, 0, 1)
    xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                    [0.0193339, 0.1191920, 0.9503041]]) @ seen  # fmt: skip
    f = np.cbrt(xyz / [0.95047, 1.0, 1.08883])
    f = np.where(f > 6 / 29, f, xyz / [0.95047, 1.0, 1.08883] / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def all_styles() -> dict[str, view.Style]:
    rows = [row("gemm", "1x4x4", "qkernels") | {"library": n, "contender": n} for n in LIBRARIES]
    return view.styles(document(rows=rows))


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("side", ["light", "dark"])
def test_colours_can_be_told_apart(side: str, blindness: str) -> None:
    """A difference of 2.3 is just noticeable; marks of a few pixels need several times that."""
    colors = {name: cielab(getattr(style, side), blindness) for name, style in all_styles().items()}
    for (one, a), (other, b) in itertools.combinations(colors.items(), 2):
        assert np.linalg.norm(a - b) > 10, f"{one} and {other}"


@pytest.mark.parametrize(("side", "card"), [("light", "#ffffff"), ("dark", "#1a2029")])
def test_colours_stand_out_from_the_page(side: str, card: str) -> None:
    for name, style in all_styles().items():
        lightness = cielab(getattr(style, side), "none")[0] - cielab(card, "none")[0]
        assert abs(lightness) > 25, name


def test_letters_are_unique_and_shapes_nearly_so() -> None:
    styles = all_styles()
    assert list(styles) == list(LIBRARIES)
    assert len({style.letter for style in styles.values()}) == len(LIBRARIES)
    twice = [s.shape for s in styles.values() if s.shape == "square"]
    assert len({style.shape for style in styles.values()}) == len(LIBRARIES) - len(twice) + 1


def test_a_library_looks_alike_in_every_document() -> None:
    few = view.styles(document(peers=("torch",)))
    many = view.styles(document())
    assert few["torch"] == many["torch"]
    assert many["NumPy float32"].fill == "hollow"
    assert many["oneDNN"].fill == "full"


def test_contenders_of_a_library_differ_by_their_filling(figure) -> None:
    dtypes = ("int8", "float32", "bfloat16")
    rows = [row("gemm", "64x512x512", "qkernels")]
    rows += [row("gemm", "64x512x512", "OpenVINO") | {"dtype": d, "contender": d} for d in dtypes]
    found = document(rows=with_ratios(rows))
    assert [view.styles(found)[d].fill for d in dtypes] == ["full", "hollow", "half"]
    marks = [line for line in figure(found).axes[0].lines if line.get_marker() == "^"]
    assert len({tuple(line.get_markerfacecolor()) for line in marks}) == 3


def test_unknown_libraries_come_last_with_letters_of_their_own() -> None:
    rows = [row("gemm", "1x4x4", "qkernels") | {"library": n, "contender": n}
            for n in ("zeta", "qkernels", "quux", "???")]  # fmt: skip
    styles = view.styles(document(rows=rows))
    assert list(styles)[0] == "qkernels"
    assert len({style.letter for style in styles.values()}) == 4


# matplotlib -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matplotlib() -> None:
    require("matplotlib")


@pytest.fixture
def figure(matplotlib: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Draws a document and gives back matplotlib's figure."""
    from matplotlib.figure import Figure

    def draw(found: dict):
        made = []
        monkeypatch.setattr(
            "matplotlib.figure.Figure", lambda **options: made.append(Figure(**options)) or made[0]
        )
        plots.draw(found, tmp_path / "plot.png")
        return made[0]

    return draw


def texts(figure) -> list[str]:
    from matplotlib.text import Text

    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_two_panels_a_group(figure) -> None:
    found = document(suites=("gemm", "gemv"), threads=(1, 4))
    drawn = figure(found)
    assert len(drawn.axes) == 2 * 2 * 2
    said = texts(drawn)
    for group in view.groups(found):
        assert group.title in said
        for case in group.cases():
            assert said.count(case) >= 2
    assert "avx512vnni 231" in said
    assert "DRAM 17.5 GB/s" in said
    assert said.count("NumPy float32") >= 4


def test_marks_and_bars_are_the_numbers_of_the_document(figure) -> None:
    found = one_case()
    roofline, ratios = figure(found).axes
    points = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in roofline.lines
        if line.get_marker() in ("o", "s")
    }
    x = found["rows"][0]["macs"] / found["rows"][0]["bytes"]
    assert len(points) == 3
    for place in points:
        assert place[0] == pytest.approx(x)
    assert sorted(y for _, y in points) == pytest.approx(sorted(r["gmacs"] for r in found["rows"]))
    ends = sorted(bar.get_x() + bar.get_width() for bar in ratios.patches)
    assert ends == pytest.approx(sorted(r["ratio"]["median"] for r in found["rows"][1:]))
    whiskers = sorted(tuple(line.get_xdata()) for line in ratios.lines if line.get_marker() == "|")
    expected = sorted((r["ratio"]["low"], r["ratio"]["high"]) for r in found["rows"][1:])
    assert np.asarray(whiskers) == pytest.approx(np.asarray(expected))
    assert (roofline.get_xscale(), roofline.get_yscale()) == ("log", "log")


def test_wrong_bars_are_dashed_and_said(figure) -> None:
    drawn = figure(one_case(onednn={"status": "wrong", "note": "half of them"}))
    dashed = [bar for bar in drawn.axes[1].patches if bar.get_linestyle() == "--"]
    assert len(dashed) == 1
    assert any(text.endswith(" wrong") for text in texts(drawn))


def test_a_whole_picture_and_its_formats(matplotlib: None, tmp_path: Path) -> None:
    found = document(suites=("gemv",), threads=(1,))
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.pdf", b"%PDF"),
                        ("bare", b"\x89PNG")):  # fmt: skip
        plots.draw(found, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.parametrize(
    "found",
    [
        document(rows=[]),
        document(rows=[untimed(row("gemm", "1x4x4", "qkernels"), "failed", "stopped")]),
        document(rows=[row("gemm", "64x512x512", "qkernels") | {"limit": None}], limits={}),
        document(rows=with_ratios([row("elementwise", "quantize 8192", c)
                                   for c in ("qkernels", "LiteRT")])),
    ],
    ids=["no rows", "nothing timed", "no limits", "bytes"],
)  # fmt: skip
def test_poor_documents_are_drawn_too(found: dict, matplotlib: None, tmp_path: Path) -> None:
    plots.draw(found, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_names_of_others_are_not_read_as_formulas(figure) -> None:
    found = one_case(onednn={"contender": r"$\frac$"})
    found["machine"]["cpu"] = r"CPU $x^{$"
    said = texts(figure(found))
    assert r"CPU $x^{$" in said
    assert r"$\frac$" in said


def test_a_format_that_does_not_exist(matplotlib: None, tmp_path: Path) -> None:
    with pytest.raises(QKernelsError, match=r"path must end in one of .*png.*'a\.xyz'"):
        plots.draw(document(rows=[]), tmp_path / "a.xyz")


def test_a_folder_that_does_not_exist(matplotlib: None, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        plots.draw(document(rows=[]), tmp_path / "none" / "a.png")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install 'qkernels\[plot\]'"):
        plots.draw(document(), tmp_path / "a.png")
