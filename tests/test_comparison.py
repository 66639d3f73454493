# SPDX-License-Identifier: Apache-2.0
"""`qk.compare`: its numbers against NumPy expressions written apart, and its forms."""

from __future__ import annotations

import base64
import doctest
import json
import math
import struct
import sys
import zlib

import numpy as np
import pytest

import qkernels as qk
from qkernels import nn
from qkernels.comparison import svg
from qkernels.comparison.metrics import CodeHistogram, ErrorSums
from report_html import parse_report
from support import ROOT, require

RNG = np.random.default_rng(5)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def graph() -> nn.Graph:
    return nn.Graph(
        [
            ("conv", nn.Conv2d(normal(6, 2, 3, 3), normal(6), padding=1), "input"),
            ("conv_relu", nn.ReLU(), "conv"),
            ("side", nn.Conv2d(normal(6, 6, 1, 1), normal(6)), "conv_relu"),
            ("sum", nn.Add(), ("side", "conv_relu")),
            ("pool", nn.MaxPool2d(2), "sum"),
            ("flatten", nn.Flatten(), "pool"),
            ("linear", nn.Linear(normal(4, 54), normal(4)), "flatten"),
        ]
    )


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    return normal(50, 2, 6, 6)


@pytest.fixture(scope="module")
def model(graph: nn.Graph, data: np.ndarray) -> qk.Model:
    return qk.quantize_model(graph, data[:20] / 2, progress=False)


@pytest.fixture(scope="module")
def labels(graph: nn.Graph, data: np.ndarray) -> np.ndarray:
    """The float predictions, every tenth one wrong."""
    labels = graph(data).argmax(1)
    labels[::10] = (labels[::10] + 1) % 4
    return labels


@pytest.fixture(scope="module")
def comparison(
    model: qk.Model, graph: nn.Graph, data: np.ndarray, labels: np.ndarray
) -> qk.Comparison:
    return qk.compare(model, graph, data, labels=labels, batch_size=16, rounds=2)


# Error measures -------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [1, 4])
def test_error_measures_equal_numpy(batches: int) -> None:
    r, v = normal(40, 7), normal(40, 7)
    v = r + 0.1 * v
    sums = ErrorSums()
    for part_r, part_v in zip(np.split(r, batches), np.split(v, batches), strict=True):
        sums.add(part_r, part_v)
    stats = sums.stats()
    r64, v64 = r.astype(np.float64), v.astype(np.float64)
    sqnr = 20 * np.log10(np.linalg.norm(r64) / np.linalg.norm(v64 - r64))
    cosine = (r64 * v64).sum() / (np.linalg.norm(r64) * np.linalg.norm(v64))
    assert stats.sqnr_db == pytest.approx(sqnr, rel=1e-12)
    assert stats.cosine == pytest.approx(cosine, rel=1e-12)
    assert stats.max_abs_error == np.abs(v64 - r64).max()
    assert stats.mean_abs_error == pytest.approx(np.abs(v64 - r64).mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("reference", "value", "sqnr", "cosine"),
    [
        ([1.0, -2.0], [1.0, -2.0], math.inf, 1.0),
        ([0.0, 0.0], [0.0, 0.0], math.inf, 1.0),
        ([0.0, 0.0], [1.0, 0.0], -math.inf, 0.0),
        ([1.0, 0.0], [0.0, 0.0], 0.0, 0.0),
        ([1.0, 1.0], [-1.0, -1.0], 10 * math.log10(1 / 4), -1.0),
        ([], [], math.inf, 1.0),
    ],
)
def test_error_measures_at_their_limits(
    reference: list[float], value: list[float], sqnr: float, cosine: float
) -> None:
    sums = ErrorSums()
    sums.add(np.array(reference, np.float32), np.array(value, np.float32))
    stats = sums.stats()
    assert stats.sqnr_db == pytest.approx(sqnr)
    assert stats.cosine == pytest.approx(cosine)


def test_error_measures_refuse_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(3,\).*\(4,\)"):
        ErrorSums().add(np.zeros(3), np.zeros(4))


def test_code_histogram_counts_and_saturation() -> None:
    scale, zero_point = 0.05, 17
    x = 2 * normal(3000)
    codes = np.clip(np.rint(x / np.float32(scale)) + zero_point, 0, 255).astype(np.uint8)
    counts = CodeHistogram(scale, zero_point, 0, 255)
    counts.add(x[:1000], codes[:1000])
    counts.add(x[1000:], codes[1000:])
    low, high = (0 - zero_point - 0.5) * scale, (255 - zero_point + 0.5) * scale
    assert counts.saturated == ((x < low) | (x > high)).mean() > 0
    histogram = counts.histogram()
    assert len(histogram.edges) == 65
    assert histogram.edges[0] == pytest.approx(low)
    assert histogram.edges[-1] == pytest.approx(high)
    expected, _ = np.histogram(codes, bins=np.arange(0, 257, 4) - 0.5)
    # The codes are the rounded reference itself, so both sides must have the same counts.
    assert list(histogram.value) == list(histogram.reference) == expected.tolist()


# compare --------------------------------------------------------------------------------------


def real(output: np.ndarray, qparams: qk.QParams) -> np.ndarray:
    return (output.astype(np.float64) - qparams.zero_point) * float(qparams.scale)


def sqnr(reference: np.ndarray, value: np.ndarray) -> float:
    reference = reference.astype(np.float64)
    return 10 * np.log10((reference**2).sum() / ((value - reference) ** 2).sum())


def test_rows_are_the_layers_of_the_model(comparison: qk.Comparison, model: qk.Model) -> None:
    assert [(r.name, r.op) for r in comparison.layers] == [(r.name, r.op) for r in model.layers]
    assert [r.shape for r in comparison.layers][-3:] == [(6, 6, 6), (6, 3, 3), (4,)]
    for row, layer in zip(comparison.layers, model.layers, strict=True):
        assert row.scale == float(layer.qparams.scale)
        assert row.zero_point == layer.qparams.zero_point
        assert row.dtype == layer.qparams.dtype
        assert row.float_ms > 0
        assert row.int8_ms > 0


def test_accumulated_error_is_that_of_the_trace(
    comparison: qk.Comparison, model: qk.Model, graph: nn.Graph, data: np.ndarray
) -> None:
    trace = model.trace(data, layout="NCHW")
    for row, float_output, got in zip(
        comparison.layers, graph.float_trace(data), trace, strict=True
    ):
        value = real(got.output, got.qparams)
        assert row.accumulated.sqnr_db == pytest.approx(sqnr(float_output.output, value), rel=1e-5)
        error = np.abs(value - float_output.output).max()
        assert row.accumulated.max_abs_error == pytest.approx(error, rel=1e-5)


def test_isolated_error_is_that_of_the_layer_fed_with_floats(
    comparison: qk.Comparison, model: qk.Model, graph: nn.Graph, data: np.ndarray
) -> None:
    floats = {"input": data} | {o.name: o.output for o in graph.float_trace(data)}
    for row, layer in zip(comparison.layers, model.layers, strict=True):
        inputs = []
        for source, qparams in zip(layer.inputs, layer.input_qparams, strict=True):
            x = floats[source]
            q = qk.quantize(x, qparams.scale, qparams.zero_point, dtype=qparams.dtype)
            inputs.append(np.ascontiguousarray(q.transpose(0, 2, 3, 1)) if q.ndim == 4 else q)
        output = model.step(layer.name)(*inputs)
        if output.ndim == 4:
            output = output.transpose(0, 3, 1, 2)
        value = real(output, layer.qparams)
        assert row.isolated.sqnr_db == pytest.approx(sqnr(floats[layer.name], value), rel=1e-5)


def test_first_layer_has_one_error_later_ones_two(comparison: qk.Comparison) -> None:
    first, last = comparison.layers[0], comparison.layers[-1]
    assert first.isolated == first.accumulated
    assert last.isolated.sqnr_db > last.accumulated.sqnr_db


def test_saturation_is_seen_when_calibration_was_too_narrow(
    comparison: qk.Comparison, graph: nn.Graph, data: np.ndarray
) -> None:
    first = comparison.layers[0]
    output = next(iter(graph.float_trace(data))).output
    highest = (255.5 - first.zero_point) * first.scale
    assert first.saturated == pytest.approx((output > highest).mean(), abs=1e-4)
    assert first.saturated > 0


def test_predictions(
    comparison: qk.Comparison,
    model: qk.Model,
    graph: nn.Graph,
    data: np.ndarray,
    labels: np.ndarray,
) -> None:
    float_classes, int8_classes = graph(data).argmax(1), model(data).argmax(1)
    assert comparison.accuracy.reference == pytest.approx(0.9)
    assert comparison.accuracy.int8 == (int8_classes == labels).mean()
    assert comparison.accuracy.change == comparison.accuracy.int8 - comparison.accuracy.reference
    assert comparison.agreement == (float_classes == int8_classes).mean()
    assert comparison.confusion.sum() == comparison.count == 50
    for true, predicted in np.ndindex(4, 4):
        count = ((labels == true) & (int8_classes == predicted)).sum()
        assert comparison.confusion[true, predicted] == count
    assert (comparison.confusion != comparison.confusion.T).any()
    float_scores, int8_scores = (
        np.exp(y) / np.exp(y).sum(1, keepdims=True)
        for y in (graph(data).astype(float), model(data).astype(float))
    )
    change = np.abs(float_scores - int8_scores).max(1) + (float_classes != int8_classes)
    assert [s.index for s in comparison.samples] == np.argsort(-change, kind="stable")[:8].tolist()
    worst = comparison.samples[0]
    assert worst.label == labels[worst.index]
    assert worst.int8 == tuple(model(data[worst.index : worst.index + 1])[0].tolist())


@pytest.mark.parametrize("batch_size", [1, 50, 1000])
def test_batches_do_not_change_the_numbers(
    comparison: qk.Comparison,
    model: qk.Model,
    graph: nn.Graph,
    data: np.ndarray,
    batch_size: int,
) -> None:
    other = qk.compare(model, graph, data, batch_size=batch_size, rounds=1)
    assert other.accuracy is None
    assert other.agreement == comparison.agreement
    for a, b in zip(other.layers, comparison.layers, strict=True):
        assert a.accumulated.sqnr_db == pytest.approx(b.accumulated.sqnr_db, rel=1e-4)
        assert a.saturated == pytest.approx(b.saturated, abs=1e-4)
        assert sum(a.histogram.value) == sum(b.histogram.value)


def test_layer_in_float_has_no_scale(graph: nn.Graph, data: np.ndarray, tmp_path) -> None:
    config = qk.QuantConfig(skip=["side"])
    model = qk.quantize_model(graph, data[:20], config=config, progress=False)
    comparison = qk.compare(model, graph, data, rounds=1)
    side = next(row for row in comparison.layers if row.name == "side")
    assert (side.dtype, side.scale, side.zero_point, side.histogram) == ("float32", *[None] * 3)
    assert side.saturated == 0
    assert side.isolated.sqnr_db > 100
    assert "float32" in comparison.to_table()
    comparison.to_html(tmp_path / "report.html")
    assert parse_report(tmp_path / "report.html").headings["h3"].count("side") == 0


def test_layout_nhwc() -> None:
    graph = nn.Sequential(
        nn.Conv2d(normal(5, 3, 3, 3)), nn.ReLU(), nn.GlobalAvgPool2d(), layout="NHWC"
    )
    x = normal(9, 7, 8, 3)
    comparison = qk.compare(qk.quantize_model(graph, x, progress=False), graph, x, rounds=1)
    assert [row.shape for row in comparison.layers] == [(5, 6, 5), (1, 1, 5)]
    assert comparison.layers[0].accumulated.sqnr_db > 30
    assert comparison.agreement is None
    assert comparison.samples == ()


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_samples_carry_their_image_channels_first(layout: str) -> None:
    graph = nn.Sequential(nn.Flatten(), nn.Linear(normal(4, 3 * 5 * 6)), layout=layout)
    x = normal(20, 3, 5, 6) if layout == "NCHW" else normal(20, 5, 6, 3)
    comparison = qk.compare(qk.quantize_model(graph, x, progress=False), graph, x, rounds=1)
    for sample in comparison.samples:
        image = x[sample.index] if layout == "NCHW" else x[sample.index].transpose(2, 0, 1)
        np.testing.assert_array_equal(sample.image, image)
        pixels = svg.image_pixels(sample.image)
        assert (pixels.shape, pixels.min(), pixels.max()) == ((5, 6, 3), 0, 255)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0] * 49}, r"labels must have shape \(50,\)"),
        ({"labels": [0.5] * 50}, "labels must be integers"),
        ({"labels": [4] * 50}, r"labels must be in \[0, 4\)"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"rounds": 0}, "rounds must be at least 1"),
        ({"data": np.zeros((0, 2, 6, 6), np.float32)}, "data must have at least one sample"),
        ({"data": {"other": np.zeros((1, 2, 6, 6), np.float32)}}, "inputs must be named"),
        ({"model": 3}, "model must be a qkernels Model, not int"),
        ({"reference": "net"}, r"reference must be a qkernels.nn graph, not str"),
        ({"reference": nn.Sequential(nn.ReLU())}, "the graph that model was made from"),
    ],
)
def test_arguments_that_do_not_fit(
    model: qk.Model, graph: nn.Graph, data: np.ndarray, change: dict, message: str
) -> None:
    arguments = {"model": model, "reference": graph, "data": data} | change
    with pytest.raises(qk.QKernelsError, match=message):
        qk.compare(**arguments)


def test_examples_of_the_guide_run() -> None:
    guide = ROOT / "docs" / "comparing.md"
    if not guide.exists():
        pytest.skip("the documents are not beside the tests")
    text = guide.read_text(encoding="utf-8").replace("```python", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, guide.name, str(guide), 0)
    report: list[str] = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.attempted > 5
    assert not report, "".join(report)


# Forms ----------------------------------------------------------------------------------------


def test_table_is_aligned(comparison: qk.Comparison) -> None:
    lines = comparison.to_table().splitlines()
    assert str(comparison) == comparison.to_table()
    rule = lines[2]
    rows = lines[3 : 3 + len(comparison.layers)]
    starts = [i for i, c in enumerate(rule) if c == "-" and (i == 0 or rule[i - 1] == " ")]
    for row, layer in zip(rows, comparison.layers, strict=True):
        assert len(row) <= len(rule)
        assert all(row[start - 1] == " " for start in starts[1:])
        assert row.startswith(layer.name)
        assert f"{layer.accumulated.sqnr_db:.1f}" in row
    assert f"float {100 * comparison.accuracy.reference:.2f} %" in comparison.to_table()


def test_dict_is_strict_json(comparison: qk.Comparison, model: qk.Model) -> None:
    read = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert read["layers"][0]["isolated"]["sqnr_db"] == comparison.layers[0].isolated.sqnr_db
    assert read["accuracy"]["int8"] == comparison.accuracy.int8
    assert read["confusion"] == comparison.confusion.tolist()
    assert read["int8_bytes"] == model.nbytes
    assert len(read["samples"]) == len(comparison.samples)


def test_exact_layer_is_null_in_json_and_a_word_in_the_table() -> None:
    graph = nn.Sequential(nn.MaxPool2d(2))
    x = np.arange(0, 255, dtype=np.float32)[:144].reshape(1, 1, 12, 12)
    x[0, 0, -1, -1] = 255  # scale 1: every value is a code
    comparison = qk.compare(qk.quantize_model(graph, x, progress=False), graph, x, rounds=1)
    assert comparison.layers[0].isolated.sqnr_db == math.inf
    read = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert read["layers"][0]["isolated"]["sqnr_db"] is None
    assert "exact" in comparison.to_table()


def test_report(comparison: qk.Comparison, tmp_path) -> None:
    path = tmp_path / "report.html"
    comparison.to_html(path)
    report = parse_report(path)
    assert report.resources == []
    names = [layer.name for layer in comparison.layers]
    assert report.headings["h3"] == names
    assert report.tags["svg"] == len(names) + 2  # SQNR, a histogram a layer, confusion
    assert report.tags["tr"] == len(names) + 1


def test_names_are_escaped(tmp_path) -> None:
    name = "<b>&\"'"
    graph = nn.Sequential((name, nn.Linear(normal(3, 4))))
    x = normal(5, 4)
    comparison = qk.compare(
        qk.quantize_model(graph, x, progress=False), graph, x, rounds=1, title="<i>"
    )
    comparison.to_html(tmp_path / "report.html")
    report = parse_report(tmp_path / "report.html")
    assert report.headings["h3"] == [name]
    assert report.headings["title"] == ["<i>: int8 and float32"]


def test_plot(comparison: qk.Comparison, tmp_path) -> None:
    require("matplotlib")
    comparison.plot(tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_plot_without_matplotlib_says_what_to_do(
    comparison: qk.Comparison, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"needs matplotlib: pip install 'qkernels\[plot\]'"):
        comparison.plot(tmp_path / "plot.png")


@pytest.mark.parametrize(("lo", "hi"), [(0, 1), (31.2, 47.9), (-3, -2.999), (0, 0), (-5e6, 1e7)])
def test_ticks_are_round_and_enclose(lo: float, hi: float) -> None:
    ticks = svg.nice_ticks(lo, hi)
    assert 2 <= len(ticks) <= 9 or lo == hi
    assert ticks[0] <= lo + 1e-9
    assert ticks[-1] >= hi - 1e-9
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0] if len(steps) else 0)


@pytest.mark.parametrize("shape", [(3, 5), (4, 2, 3)])
def test_png_holds_the_pixels(shape: tuple[int, ...]) -> None:
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    kind, content = svg.png_uri(pixels).split(",")
    assert kind == "data:image/png;base64"
    chunks, body = {}, base64.b64decode(content)[8:]
    while body:
        (size,) = struct.unpack(">I", body[:4])
        chunks[body[4:8]] = body[8 : 8 + size]
        assert struct.unpack(">I", body[8 + size : 12 + size])[0] == zlib.crc32(body[4 : 8 + size])
        body = body[12 + size :]
    height, width = shape[:2]
    assert struct.unpack(">IIBB", chunks[b"IHDR"][:10]) == (width, height, 8, 2 * (len(shape) == 3))
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not rows[:, 0].any()
    np.testing.assert_array_equal(rows[:, 1:].reshape(shape), pixels)
