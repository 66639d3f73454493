# SPDX-License-Identifier: Apache-2.0
"""What the demo promises, on the data that ships with the package."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import qkernels as qk
from qkernels import nn
from qkernels.cli import main
from qkernels.data import digits
from report_html import Report, parse_report
from support import require

FOLDER = Path(digits.__file__).parent


@pytest.fixture(scope="module")
def network() -> nn.Graph:
    return digits.network()


@pytest.fixture(scope="module")
def float_accuracy(network: nn.Graph) -> float:
    images, labels = digits.held_out()
    return float((network(images).argmax(1) == labels).mean())


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Report]:
    """The JSON and the report of one run of the demo."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch, (folder / "out.json").open("w") as stdout:
        patch.setattr("sys.stdout", stdout)
        report, saved = folder / "report.html", folder / "digits.safetensors"
        code = main(["demo", "--json", "--report", str(report), "--save", str(saved)])
    result = json.loads((folder / "out.json").read_text())
    assert code == 0
    assert result["report"] == str(report)
    assert result["saved"] == str(saved)
    return result, parse_report(report)


# The data ------------------------------------------------------------------------------------


def test_data_are_small_and_attributed() -> None:
    files = [path for path in FOLDER.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"NOTICE", "__init__.py", "digits.npz", "digits.py"}
    assert sum(path.stat().st_size for path in files) < 400_000
    notice = (FOLDER / "NOTICE").read_text()
    for words in ("Alpaydin", "Kaynak", "CC BY 4.0", "10.24432/C50P49", "Changes made"):
        assert words in notice


def test_held_out_images_are_new_to_network_and_calibration() -> None:
    images, labels = digits.held_out()
    calibration = digits.calibration()
    assert images.shape == (720, 1, 8, 8)
    assert calibration.shape == (256, 1, 8, 8)
    for x in (images, calibration):
        assert x.dtype == np.float32
        assert (x.min(), x.max()) == (0, 1)
        assert np.array_equal(x * 16, np.rint(x * 16))
    assert np.bincount(labels).min() >= 69
    assert len(np.bincount(labels)) == 10
    seen = {image.tobytes() for image in calibration}
    assert not any(image.tobytes() in seen for image in images)


def test_images_are_those_of_the_source() -> None:
    source = require("sklearn.datasets", in_test_extra=False).load_digits()
    index = {x.astype(np.uint8).tobytes(): y for x, y in zip(source.images, source.target)}  # noqa: B905
    images, labels = digits.held_out()
    for image, label in zip(images, labels, strict=True):
        assert index[(image * 16).astype(np.uint8).tobytes()] == label


def test_network_is_float32_and_as_accurate_as_when_trained(
    network: nn.Graph, float_accuracy: float
) -> None:
    for layer in network.layers.values():
        assert all(array.dtype == np.float32 for array in layer.parameters().values())
    assert float_accuracy >= 0.98
    # Another BLAS may round a score the other way; one image is 0.0014.
    assert float_accuracy == pytest.approx(digits.facts()["float_accuracy"], abs=0.0015)


def test_what_the_loader_returns_is_the_caller_s() -> None:
    images, labels = digits.held_out()
    images[:] = 7
    labels[:] = 7
    assert digits.held_out().images.max() == 1
    assert len(set(digits.held_out().labels.tolist())) == 10


# The promises --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["asymmetric", "symmetric"])
@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_int8_keeps_the_accuracy(
    network: nn.Graph, float_accuracy: float, method: str, scheme: str
) -> None:
    images, labels = digits.held_out()
    config = qk.QuantConfig(method=method, activation_scheme=scheme)
    model = qk.quantize_model(network, digits.calibration(), config=config, progress=False)
    accuracy = (model(images).argmax(1) == labels).mean()
    assert accuracy >= float_accuracy - 0.003


def test_every_tier_gives_the_same_scores(network: nn.Graph) -> None:
    model = qk.quantize_model(network, digits.calibration(), progress=False)
    images = digits.held_out().images[:64]
    scores = {}
    for name in qk.available_isas():
        with qk.use_isa(name):
            scores[name] = model(images)
    for name, got in scores.items():
        np.testing.assert_array_equal(got, scores["scalar"], err_msg=name)


def test_demo_numbers(demo: tuple[dict, Report], float_accuracy: float) -> None:
    result, _ = demo
    comparison = result["comparison"]
    assert result["passed"] is True
    assert comparison["accuracy"]["count"] == 720
    assert comparison["accuracy"]["reference"] == float_accuracy
    assert comparison["accuracy"]["change"] >= -result["allowed_drop"] == -0.003
    assert comparison["isa"] == qk.isa()
    assert comparison["threads"] == qk.get_num_threads()
    assert comparison["int8_bytes"] < comparison["float_bytes"] / 2.5
    assert Path(result["saved"]).stat().st_size == result["file_bytes"]
    for layer in comparison["layers"]:
        assert layer["isolated"]["sqnr_db"] > 25
        assert layer["accumulated"]["sqnr_db"] > 20
        assert layer["accumulated"]["cosine"] > 0.995
        assert layer["saturated"] < 0.01


def test_demo_shows_what_the_library_can_do(demo: tuple[dict, Report]) -> None:
    ops = [layer["op"] for layer in demo[0]["comparison"]["layers"]]
    assert ops == ["conv2d"] * 3 + ["max_pool2d", "conv2d", "add", "conv2d", "linear"]


def test_report_stands_alone(demo: tuple[dict, Report]) -> None:
    result, report = demo
    layers = result["comparison"]["layers"]
    assert report.resources == []
    assert report.headings["h1"] == ["Handwritten digits: int8 beside float32"]
    assert report.headings["h3"] == [layer["name"] for layer in layers]
    assert report.tags["img"] == len(result["comparison"]["samples"])


def test_saved_model_is_the_one_compared(demo: tuple[dict, Report]) -> None:
    result, _ = demo
    images, labels = digits.held_out()
    model = qk.load(result["saved"])
    assert (model(images).argmax(1) == labels).mean() == result["comparison"]["accuracy"]["int8"]
