# SPDX-License-Identifier: Apache-2.0
"""`qkernels info`: the machine, the kernels it runs, and the versions of what is installed."""

from __future__ import annotations

import argparse
import os
import textwrap
from importlib import metadata
from typing import Any

from qkernels import _core, machine
from qkernels.cli import console
from qkernels.hardware import caches, cpu_model

SUMMARY = "what this machine is and which kernels it runs"
DESCRIPTION = """\
Show the CPU with its caches and features, the tiers of kernels (built into this installation,
usable on this CPU, active) with what the others lack, the kernels of the usable tiers, threads, and
versions. Start a bug report with `qkernels info --json`.

QKERNELS_ISA=NAME makes another usable tier the active one; QKERNELS_NUM_THREADS=N sets the threads.
"""

_PACKAGES = (
    "numpy", "torch", "onnx", "onnxruntime", "openvino", "ai-edge-litert", "ncnn", "ctranslate2",
    "matplotlib", "rich", "threadpoolctl", "safetensors",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(arguments: argparse.Namespace) -> int:
    facts = collect()
    if arguments.json:
        console.print_json(facts)
    else:
        print(_text(facts))
    return 0


def collect() -> dict[str, Any]:
    """The configuration of `qkernels.show_config` and, beside it, CPU, tiers, kernels, packages."""
    active = _core.isa()
    return {
        **machine.configuration(),
        "cpu": {"model": cpu_model(), "cpus": os.cpu_count(), "caches": caches()},
        "tiers": [{**tier, "active": tier["name"] == active} for tier in _core.isas()],
        "kernels": _core.kernels(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _text(facts: dict[str, Any]) -> str:
    from qkernels.display.table import byte_size

    threads = facts["threads"]
    cache_names = (
        f"L{cache['level']}{_SUFFIX.get(cache['type'], '')} {byte_size(cache['bytes'])}"
        + (f" for {cache['cpus']} CPUs" if cache["cpus"] > 1 else "")
        for cache in facts["cpu"]["caches"]
    )
    packages = (
        f"{name} {version}" if version else f"{name} -"
        for name, version in facts["packages"].items()
    )
    rows = [
        ("version", facts["version"]),
        ("cpu", facts["cpu"]["model"]),
        ("features", " ".join(facts["cpu_features"]) or "none beyond the baseline"),
        ("caches", ", ".join(cache_names) or "not readable"),
        ("threads", f"{threads['calling_thread']} in use, {threads['cpus']} CPUs to be had"),
        ("system", f"{facts['platform']}, Python {facts['python']}"),
        ("packages", ", ".join(packages)),
        ("headers", facts["include"]),
    ]
    lines = ["qkernels", ""]
    for label, text in rows:
        lines += textwrap.wrap(
            text,
            width=100,
            initial_indent=f"{label:<10}",
            subsequent_indent=" " * 10,
            break_long_words=False,
        )
    lines += ["", "tiers, worst first"]
    for tier in facts["tiers"]:
        state = (
            "active"
            if tier["active"]
            else "usable"
            if tier["available"]
            else f"not on this CPU: lacks {tier['missing']}"
        )
        count = sum(kernel["tier"] == tier["name"] for kernel in facts["kernels"])
        lines.append(
            f"  {tier['name']:<14}{count:>3} kernels of its own, inherits from "
            f"{tier['parent'] + ',':<12} {state}"
        )
    lines += ["", "kernels of the usable tiers"]
    usable = [kernel for kernel in facts["kernels"] if kernel["available"]]
    width = max((len(kernel["name"]) for kernel in usable), default=0)
    lines += [
        f"  {kernel['name']:<{width}}  layout {kernel['layout']:<8} "
        f"tile {kernel['mr']}x{kernel['nr']}x{kernel['kr']}"
        for kernel in usable
    ]
    return "\n".join(lines)


_SUFFIX = {"Data": "d", "Instruction": "i"}
