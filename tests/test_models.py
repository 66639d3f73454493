# SPDX-License-Identifier: Apache-2.0
"""quantize_model and Model: against an integer simulation bit for bit, and against float."""

from __future__ import annotations

import doctest
import importlib
import io
import threading

import numpy as np
import pytest

import oracle
import qkernels as qk
from qkernels import nn
from simulation import public, simulate
from support import ROOT, everywhere, require, same
from test_nn import batch_norm, f32, nhwc, residual


def images(rng, layout="NCHW", count=24):
    x = f32(rng, count, 3, 4, 4)
    return x if layout == "NCHW" else nhwc(x)


def mixture(rng, layout="NCHW"):
    """Everything that `residual` lacks: pools, lone activations, a Flatten that stays."""
    flat = [
        ("conv", nn.Conv2d(f32(rng, 5, 3, 3, 2), f32(rng, 5), 1, "same", (2, 1)), "input"),
        ("relu", nn.ReLU6(), "conv"),
        ("average", nn.AvgPool2d(3, 2, ((1, 1), (0, 2))), "conv"),
        ("lone", nn.ReLU(), "average"),
        ("norm", batch_norm(rng, 5), "lone"),
        ("max", nn.MaxPool2d(2, 1, "same"), "norm"),
        ("flat", nn.Flatten(), "max"),
        ("mean", nn.GlobalAvgPool2d(), "relu"),
        ("vector", nn.Flatten(), "mean"),
        ("head", nn.Linear(f32(rng, 20, 5)), "vector"),
        ("sum", nn.Add(), ["flat", "head"]),
    ]
    return nn.Graph(flat, outputs=["sum", "flat", "relu"], layout=layout)


CONFIGS = [
    qk.QuantConfig(),
    qk.QuantConfig(activation_scheme="symmetric", method="mse", rounding="fixed_point"),
    qk.QuantConfig(method="percentile", percentile=99, rounding="fixed_point_single"),
    qk.QuantConfig(
        method="entropy",
        per_layer={
            "conv": {"activation_scheme": "symmetric"},
            "input": {"method": "minmax"},
            "norm": {"rounding": "fixed_point"},
        },
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("build", [residual, mixture])
def test_integer_simulation(rng, build, layout, config):
    """Each layer's integers are those of the simulation, on every tier, and so are the outputs."""
    graph = build(rng, layout)
    if build is residual and config.per_layer:
        config = qk.QuantConfig(per_layer={"conv1": {"activation_scheme": "symmetric"}})
    model = qk.quantize_model(graph, images(rng, layout), config=config, progress=False)
    x = 1.5 * images(rng, layout, 5)
    given = model.inputs[0].qparams
    codes = oracle.quantize(x, given.scale, given.zero_point, dtype=given.dtype)
    want = simulate(
        model, graph, {model.inputs[0].name: codes if layout == "NHWC" else nhwc(codes)}
    )
    trace = list(model.trace(x))
    assert [item.name for item in trace] == [layer.name for layer in model.layers]
    for name, op, output, qparams in trace:
        same(output, want[name], f"{name} ({op})")
        assert qparams is None or output.dtype == qparams.dtype
    in_public = {item.name: item.output for item in model.trace(x, layout="NCHW")}
    for layer in model.layers:
        same(in_public[layer.name], public(want[layer.name], "NCHW"), layer.name)
    everywhere(lambda: tuple(model.run({model.inputs[0].name: x}).values()))
    outputs = model.run({model.inputs[0].name: codes})
    for name, output in model.run({model.inputs[0].name: x}).items():
        source = model.output_values[name]
        layer = next(layer for layer in model.layers if layer.name == source)
        expected = public(want[source], layout)
        if layer.qparams is not None:
            expected = oracle.dequantize(expected, layer.qparams.scale, layer.qparams.zero_point)
        same(output, expected, name)
        same(outputs[name], expected, f"{name} from integers")


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("build", [residual, mixture])
def test_near_float(rng, build, layout):
    graph = build(rng, layout)
    data = images(rng, layout, 64)
    model = qk.quantize_model(graph, data, progress=False)
    # Samples that calibration saw: nothing saturates, so only rounding errors are left.
    trace = model.trace(data, layout=layout)
    for expected, got in zip(graph.float_trace(data), trace, strict=True):
        assert expected[:2] == got[:2]
        assert expected.output.shape == got.output.shape
        if got.qparams is not None:  # softmax amplifies whatever reaches it
            real = qk.dequantize(got.output, got.qparams.scale, got.qparams.zero_point)
            noise = np.square(real - expected.output).mean()
            assert noise < 0.01 * np.square(expected.output).mean(), got.name


def test_layer_alone(rng):
    """run_layer and step on float inputs in the public layout: the isolated output."""
    graph = mixture(rng)
    x = images(rng)
    model = qk.quantize_model(graph, x, progress=False)
    floats = {"input": x} | {item.name: item.output for item in graph.float_trace(x)}
    for layer in model.layers:
        given = [floats[name] for name in layer.inputs]
        got = model.run_layer(layer.name, given)
        assert got.shape == floats[layer.name].shape
        real = qk.dequantize(got, layer.qparams.scale, layer.qparams.zero_point)
        tolerance = 0.06 * np.abs(floats[layer.name]).max()
        np.testing.assert_allclose(real, floats[layer.name], atol=tolerance, err_msg=layer.name)
        codes = model.layer_inputs(layer.name, given)
        for code, value, qparams in zip(codes, given, layer.input_qparams, strict=True):
            want = oracle.quantize(value, qparams.scale, qparams.zero_point, dtype=qparams.dtype)
            same(code, nhwc(want) if want.ndim == 4 else want)
        same(public(model.step(layer.name)(*codes), "NCHW"), got)
        same(public(model.run_layer(layer.name, [
            nhwc(v) if v.ndim == 4 else v for v in given
        ], layout="NHWC"), "NCHW"), got)  # fmt: skip


def test_skip(rng):
    """Skipped layers and what only they feed run in float; all of them: the float graph."""
    graph = mixture(rng)
    x = images(rng)
    names = [item.name for item in graph.float_trace(x)]
    model = qk.quantize_model(
        graph, x, config=qk.QuantConfig(skip=["conv", "head"]), progress=False
    )
    floats = {layer.name for layer in model.layers if not layer.quantized}
    assert floats == {"conv", "relu", "average", "lone", "mean", "head"}
    assert not model.inputs[0].quantized
    trace = {item.name: item for item in model.trace(x, layout="NCHW")}
    exact = {item.name: item.output for item in graph.float_trace(x)}
    for name in ("conv", "relu", "average", "lone", "mean", "head"):
        assert trace[name].qparams is None
        np.testing.assert_allclose(trace[name].output, exact[name], rtol=1e-5, atol=1e-5)
    assert trace["sum"].output.dtype == np.uint8
    given = model.inputs[0].qparams
    codes = qk.quantize(x, given.scale, given.zero_point, dtype="uint8")
    again = model.run({"input": codes})["sum"]
    real = qk.dequantize(codes, given.scale, given.zero_point)
    same(again, model.run({"input": real})["sum"])

    model = qk.quantize_model(graph, x, config=qk.QuantConfig(skip=names), progress=False)
    for name, output in model.run({"input": x}).items():
        np.testing.assert_allclose(output, graph.run({"input": x})[name], rtol=1e-5, atol=1e-5)


def test_calibration_in_batches(rng):
    """One array, an iterable of batches of any sizes, a generator: the same model."""
    graph, x = residual(rng), images(rng, count=130)
    model = qk.quantize_model(graph, x, progress=False)
    parts = np.split(x, [1, 1, 60])
    for data in (parts, (part for part in parts), {"image": x}, [{"image": x}]):
        other = qk.quantize_model(graph, data, progress=False)
        for mine, theirs in zip(model.layers, other.layers, strict=True):
            if mine.qparams is not None:
                # BLAS may round a batch of another size differently.
                np.testing.assert_allclose(mine.qparams.scale, theirs.qparams.scale, rtol=1e-5)
                assert abs(mine.qparams.zero_point - theirs.qparams.zero_point) <= 1


def test_ranges_after_activation(rng):
    weight = np.array([[1.0], [-3.0]], np.float32)
    x = np.array([[-1.0], [2.0]], np.float32)
    model = qk.quantize_model(nn.Sequential(nn.Linear(weight), nn.ReLU()), x, progress=False)
    assert model.layers[0].qparams == qk.QParams(np.float32(3) / 255, 0, dtype="uint8")
    config = qk.QuantConfig(activation_scheme="symmetric")
    model = qk.quantize_model(nn.Sequential(nn.Linear(weight)), x, config=config, progress=False)
    assert model.layers[0].qparams == qk.QParams(np.float32(6) / 127, 0)
    assert model.inputs[0].qparams == qk.QParams(np.float32(2) / 127, 0)


def test_two_inputs(rng):
    graph = nn.Graph(
        [("sum", nn.Add(), ["left", "right"]), ("fc", nn.Linear(f32(rng, 3, 4)), "sum")],
        inputs=["left", "right"],
        outputs=["fc", "left"],
    )
    data = {"left": f32(rng, 10, 4), "right": 3 * f32(rng, 10, 4)}
    model = qk.quantize_model(graph, data, progress=False)
    outputs, want = model.run(data), graph.run(data)
    assert list(outputs) == ["fc", "left"]
    for name in want:
        np.testing.assert_allclose(outputs[name], want[name], atol=0.3)
    assert next(model.trace(data)).name == "sum"
    with pytest.raises(qk.QKernelsError, match="run"):
        model(data["left"])


def test_sequences(rng):
    """Linear layers on (batch, time, features)."""
    graph = nn.Sequential(
        nn.Linear(f32(rng, 6, 4), f32(rng, 6)), nn.ReLU(), nn.Linear(f32(rng, 2, 6))
    )
    x = f32(rng, 20, 5, 4)
    model = qk.quantize_model(graph, x, progress=False)
    assert model.layers[1].output_shape == (None, 5, 2)
    np.testing.assert_allclose(model(x), graph(x), atol=0.05 * np.abs(graph(x)).max())


def test_threads(rng):
    graph, x = residual(rng), images(rng)
    model = qk.quantize_model(graph, x, progress=False)
    want, results = model.run({"image": x}), []

    def work():
        for _ in range(20):
            results.append(model.run({"image": x}))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 60
    for result in results:
        same(tuple(result.values()), tuple(want.values()))


def test_batches_of_any_size(rng):
    model = qk.quantize_model(residual(rng), images(rng), progress=False)
    x = images(rng, count=6)
    whole = model.run({"image": x})["relu2"]
    same(np.concatenate([model.run({"image": x[i : i + 1]})["relu2"] for i in range(6)]), whole)
    assert model.run({"image": x[:0]})["relu2"].shape == (0, *whole.shape[1:])
    same(model.run({"image": x[::-1]})["relu2"], whole[::-1])
    half = x.astype(np.float16)
    wide = model.run({"image": half.astype(np.float32)})
    same(model.run({"image": half})["softmax"], wide["softmax"])


def test_torch_tensors(rng):
    torch = require("torch", in_test_extra=False)
    graph = nn.Sequential(nn.Conv2d(f32(rng, 4, 3, 3, 3)), nn.ReLU())
    x = images(rng)
    model = qk.quantize_model(graph, torch.from_numpy(x), progress=False)
    y = model(torch.from_numpy(x))
    assert isinstance(y, torch.Tensor)
    same(y.numpy(), model(x))
    assert graph(torch.from_numpy(x)).dtype == np.float32


def test_facts(rng):
    graph, x = residual(rng), images(rng)
    model = qk.quantize_model(graph, x, progress=False)
    weights = [(6, 3, 3, 3), (6, 1, 3, 3), (4, 24), (4, 24)]
    packed = [layer for layer in model.layers if layer.weight is not None]
    assert [layer.weight.shape for layer in packed] == weights
    biases = [layer.bias.size for layer in packed if layer.bias is not None]
    assert biases == [6, 6, 4]
    assert model.float_nbytes == 4 * (sum(map(np.prod, weights)) + sum(biases))
    assert model.nbytes == sum(
        layer.weight.nbytes + 4 * layer.weight.shape[0] * (1 + (layer.bias is not None))
        for layer in packed
    )
    assert model.layers[0].output_shape == (None, 4, 4, 6)
    assert model.layers[3].output_shape == (None, 2, 2, 6)
    for layer in packed[:2]:
        assert layer.weight.unpack().shape == graph.layers[layer.name].weight.shape
    lines = model.summary().splitlines()
    assert len(lines) == 2 + 1 + len(model.layers) + 1
    assert "conv2d + relu" in model.summary()
    assert "batch x 4 x 4 x 6" in model.summary()
    assert repr(model).startswith("Model(image -> softmax, relu2; 8 layers, NCHW")


def test_immutable(rng):
    model = qk.quantize_model(residual(rng), images(rng), progress=False)
    with pytest.raises(AttributeError):
        model.layers = ()
    with pytest.raises(AttributeError):
        model.layers[0].name = "other"
    with pytest.raises(TypeError):
        model.layers[0].attributes["stride"] = 2
    with pytest.raises(TypeError):
        model.output_values["x"] = "y"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress(rng, monkeypatch):
    graph, x = residual(rng), images(rng, count=130)
    for stream, progress, shown in (
        (Terminal(), True, True),
        (Terminal(), False, False),
        (io.StringIO(), True, False),
    ):
        monkeypatch.setattr("sys.stderr", stream)
        qk.quantize_model(graph, x, progress=progress)
        assert ("calibrating" in stream.getvalue() and "3/3" in stream.getvalue()) == shown
        assert shown or stream.getvalue() == ""


def small(rng):
    return nn.Sequential(("fc", nn.Linear(f32(rng, 3, 4))), nn.ReLU())


F = np.float32
GOOD = np.ones((2, 4), F)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: qk.quantize_model(lambda x: x, GOOD), TypeError, "qkernels.nn.Graph"),
        (lambda g: qk.quantize_model(g, GOOD[:0]), ValueError, "at least one sample"),
        (lambda g: qk.quantize_model(g, []), ValueError, "at least one sample"),
        (lambda g: qk.quantize_model(g, 3), TypeError, "calibration_data"),
        (lambda g: qk.quantize_model(g, GOOD.astype(float)), TypeError, "float64"),
        (lambda g: qk.quantize_model(g, GOOD[0]), ValueError, "batch"),
        (lambda g: qk.quantize_model(g, GOOD[:, :3]), ValueError, "'fc'"),
        (lambda g: qk.quantize_model(g, GOOD * F("nan")), ValueError, "'input'"),
        (lambda g: qk.quantize_model(g, {"x": GOOD}), ValueError, "named"),
        (lambda g: qk.quantize_model(g, {"input": 3}), ValueError, "calibration_data"),
        (lambda g: qk.quantize_model(g, np.float32(3)), ValueError, "calibration_data"),
        (
            lambda g: qk.quantize_model(g, GOOD, config=qk.QuantConfig(skip=["conv"])),
            ValueError,
            "skip must name some of",
        ),
        (
            lambda g: qk.quantize_model(g, GOOD, config=qk.QuantConfig(per_layer={"relu1": {}})),
            ValueError,
            "per_layer must name some of",
        ),
        (lambda g: qk.QuantConfig(method="best"), ValueError, "method"),
        (lambda g: qk.QuantConfig(activation_scheme="none"), ValueError, "activation_scheme"),
        (lambda g: qk.QuantConfig(rounding="up"), ValueError, "rounding"),
        (lambda g: qk.QuantConfig(percentile=20), ValueError, "percentile"),
        (lambda g: qk.QuantConfig(skip="fc"), TypeError, "skip"),
        (lambda g: qk.QuantConfig(skip=3), TypeError, "skip"),
        (lambda g: qk.QuantConfig(per_layer={"fc": 3}), TypeError, "per_layer"),
        (lambda g: qk.QuantConfig(per_layer={"fc": {"bits": 4}}), ValueError, "bits"),
        (lambda g: qk.QuantConfig(per_layer={"fc": {"method": "best"}}), ValueError, "method"),
    ],
)
def test_errors_of_quantize_model(rng, call, error, message):
    with pytest.raises(error, match=message) as caught:
        call(small(rng))
    assert isinstance(caught.value, qk.QKernelsError)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: m(GOOD.astype(float)), TypeError, "float64"),
        (lambda m: m(GOOD.astype(np.int8)), TypeError, "uint8"),
        (lambda m: m(GOOD[0]), ValueError, "2 axes"),
        (lambda m: m(GOOD[:, :3]), ValueError, "'fc'"),
        (lambda m: m(GOOD * F("nan")), ValueError, "NaN|nan"),
        (lambda m: m(None), TypeError, "array"),
        (lambda m: m.run({"x": GOOD}), ValueError, "named"),
        (lambda m: list(m.trace(GOOD, layout="CHW")), ValueError, "layout"),
        (lambda m: m.step("conv"), ValueError, "'fc'"),
        (lambda m: m.run_layer("fc", [GOOD, GOOD]), ValueError, "1, not 2"),
    ],
)
def test_errors_of_model(rng, call, error, message):
    model = qk.quantize_model(small(rng), GOOD, progress=False)
    with pytest.raises(error, match=message) as caught:
        call(model)
    assert isinstance(caught.value, qk.QKernelsError)


def test_images_of_another_size(rng):
    """Convolutions take any size; what no longer fits is an error of the layer."""
    model = qk.quantize_model(mixture(rng), images(rng), progress=False)
    with pytest.raises(qk.QKernelsError, match="'sum'"):
        model.run({"input": f32(rng, 2, 3, 9, 7)})
    with pytest.raises(qk.QKernelsError, match="'mean'"):
        model.run_layer("mean", f32(rng, 2, 5, 0, 4))
    with pytest.raises(qk.QKernelsError, match="4 axes"):
        model.run_layer("max", f32(rng, 2, 5))


def test_sums_that_could_overflow():
    graph = nn.Sequential(("wide", nn.Linear(np.ones((1, 2**17), F))))
    with pytest.raises(qk.QKernelsError, match="wide"):
        qk.quantize_model(graph, np.ones((1, 2**17), F), progress=False)


@pytest.mark.parametrize("document", ["models.md", "file-format.md"])
def test_examples_of_the_guides_run(document):
    guide = ROOT / "docs" / document
    if not guide.exists():
        pytest.skip("the documents are not beside the tests")
    text = guide.read_text(encoding="utf-8").replace("```python", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, document, document, 0)
    report = []
    result = doctest.DocTestRunner().run(test, out=report.append)
    assert result.attempted > 5
    assert not report, "".join(report)


@pytest.mark.parametrize("module", ["nn", "graph.config", "graph.quantize"])
def test_examples_of_the_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"qkernels.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
