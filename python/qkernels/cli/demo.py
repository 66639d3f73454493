# SPDX-License-Identifier: Apache-2.0
"""`qkernels demo`: quantize a trained network, run it layer by layer, compare it with float."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from qkernels import machine
from qkernels.cli import console, parse
from qkernels.comparison import Comparison, compare
from qkernels.data import digits
from qkernels.display.table import byte_size
from qkernels.errors import QKernelsValueError
from qkernels.graph import Model, QuantConfig, load, quantize_model
from qkernels.quantization.histogram import METHODS

ALLOWED_DROP = 0.003  # of accuracy: 0.3 points

SUMMARY = "quantize a trained network and compare it with float, layer by layer"
DESCRIPTION = """\
Quantize a float32 network trained on handwritten digits, which comes with the package, save and
reload it, run it on 720 images that it has not seen, and compare it with float32 layer by layer.

The table has a row a layer: the scale and zero point of its output, the signal to quantization
noise ratio of the layer alone (isolated) and with the errors of the layers before it (accum.), the
accumulated cosine similarity and largest error, the share of outputs beyond the range of the codes,
and the time of a batch in float32 (NumPy) and int8.

Exit code 1 when int8 is more than 0.3 points less accurate than float32.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="minmax",
        help="how activation ranges are chosen from the calibration images (default: minmax)",
    )
    parser.add_argument("--isa", help="tier of kernels to use, as `qkernels info` lists them")
    parser.add_argument("--threads", type=parse.count, metavar="N", help="threads a call may use")
    parser.add_argument("--save", type=Path, metavar="PATH", help="keep the quantized model there")
    report = parser.add_mutually_exclusive_group()
    report.add_argument(
        "--report",
        type=Path,
        metavar="PATH",
        default=Path("qkernels-report.html"),
        help="where the HTML report goes (default: ./qkernels-report.html)",
    )
    report.add_argument("--no-report", action="store_true", help="write no report")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    report = None if arguments.no_report else arguments.report
    parse.check_folders((arguments.save, report))
    with ExitStack() as stack:
        if arguments.isa is not None:
            stack.enter_context(machine.use_isa(arguments.isa))
        if arguments.threads is not None:
            stack.enter_context(machine.num_threads(arguments.threads))
        path = arguments.save or Path(
            # Where a mapped file cannot be deleted, an error may keep the model alive until later.
            stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)),
            "digits.safetensors",
        )
        comparison, file_bytes = _measure(QuantConfig(method=arguments.method), path)
    if report is not None:
        comparison.to_html(report)
    accuracy = comparison.accuracy
    assert accuracy is not None
    passed = accuracy.change >= -ALLOWED_DROP
    if arguments.json:
        console.print_json(
            {
                "passed": passed,
                "allowed_drop": ALLOWED_DROP,
                "method": arguments.method,
                "file_bytes": file_bytes,
                "saved": arguments.save and str(arguments.save),
                "report": report and str(report),
                "comparison": comparison.to_dict(),
            }
        )
        return 0 if passed else 1
    kept = f", kept at {arguments.save}" if arguments.save else ""
    lines = [("model file", f"{byte_size(file_bytes)}, reloaded with the same bits{kept}")]
    if report is not None:
        lines.append(("report", str(report)))
    console.print_comparison(comparison, lines)
    if not passed:
        print(f"\nint8 loses more than {100 * ALLOWED_DROP:.1f} points of accuracy.")
    return 0 if passed else 1


def _measure(config: QuantConfig, path: Path) -> tuple[Comparison, int]:
    """The comparison of the model as reloaded from `path`, and the bytes of that file."""
    network = digits.network()
    images, labels = digits.held_out()
    with console.step("quantizing, 256 calibration images"):
        quantized = quantize_model(network, digits.calibration(), config=config)
    with console.step("saving and reloading"):
        quantized.save(path)
        model = load(path)
        _check_reloaded(quantized, model, images[:16])
    with console.step(f"comparing with float32 on {len(images)} images"):
        comparison = compare(
            model, network, images, labels=labels, title="Handwritten digits", progress=True
        )
    return comparison, path.stat().st_size


def _check_reloaded(saved: Model, loaded: Model, x: np.ndarray) -> None:
    if not np.array_equal(saved(x), loaded(x)):
        raise QKernelsValueError("the reloaded model must give the bits of the one saved")
