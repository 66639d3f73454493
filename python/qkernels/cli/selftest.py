# SPDX-License-Identifier: Apache-2.0
"""`qkernels selftest`: proves the installed kernels on this machine."""

from __future__ import annotations

import argparse

from qkernels import _core, selftest
from qkernels.cli import console
from qkernels.hardware import cpu_model

_SHOWN = 10  # differences of a tier

SUMMARY = "prove the installed kernels on this machine"
DESCRIPTION = """\
Run every kernel of every tier that this CPU has: matrix products with every number of rows and
every tail, uint8 and int8, all roundings, biases and activations, convolutions, depthwise
convolutions, quantize, dequantize, requantize and dynamic quantization. Each result must have the
bits of the scalar tier, the scalar tier's sums must be those of NumPy, and fixed cases must have
the hashes that every machine gives. Takes some seconds.

Exit code 1 when a result differs: do not use that tier (QKERNELS_ISA chooses another; start a bug
report with `qkernels selftest --json`).
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def run(arguments: argparse.Namespace) -> int:
    report = selftest.run(progress=True)
    if arguments.json:
        console.print_json(report.to_dict())
    else:
        print(_text(report))
    return 0 if report.passed else 1


def _text(report: selftest.Report) -> str:
    lines = [f"qkernels {_core.__version__} on {cpu_model()}", ""]
    for proof in report.proofs:
        state = "proven" if proof.proven else "WRONG"
        lines.append(
            f"  {proof.tier:<14}{state:<9}{proof.results:>6} results, {proof.hashes} golden hashes"
        )
        lines += [f"    {text}" for text in proof.differences[:_SHOWN]]
        if len(proof.differences) > _SHOWN:
            lines.append(f"    and {len(proof.differences) - _SHOWN} more differences")
    lines += [
        f"  {name:<14}not run: this CPU lacks {missing}" for name, missing in report.absent.items()
    ]
    wrong = [proof.tier for proof in report.proofs if not proof.proven]
    verdict = (
        f"{', '.join(wrong)} must not be used on this machine"
        if wrong
        else "every tier of this CPU gives the same, right bits"
    )
    return "\n".join([*lines, "", f"{verdict} ({report.seconds:.1f} s)"])
