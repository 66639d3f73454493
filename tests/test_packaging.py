# SPDX-License-Identifier: Apache-2.0
"""The installed package: import cost, public names, docstring examples, stubs."""

from __future__ import annotations

import doctest
import importlib
import importlib.metadata
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import qkernels as qk
from support import ROOT, require, run_python

PACKAGE = Path(qk.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(PACKAGE)], "qkernels.")
    if not module.name.endswith(("__main__", "._core"))
)
HEAVY = (
    "torch",
    "onnx",
    "onnxruntime",
    "matplotlib",
    "rich",
    "scipy",
    "pandas",
    "tqdm",
    "threadpoolctl",
    "asyncio",
)


def test_importing_loads_numpy_alone_and_starts_nothing():
    code = (
        "import os, sys, json, threading, numpy\n"
        "def tasks():\n"
        "    folder = '/proc/self/task'\n"
        "    return len(os.listdir(folder)) if os.path.isdir(folder) else 0\n"
        "before, environment, tasks_before = set(sys.modules), dict(os.environ), tasks()\n"
        "import qkernels\n"
        "print(json.dumps({\n"
        "    'new': sorted(set(sys.modules) - before),\n"
        "    'threads': threading.active_count(),\n"
        "    'tasks': tasks() - tasks_before,\n"
        "    'changed': dict(os.environ) != environment}))\n"
    )
    done = run_python(code)
    facts = json.loads(done.stdout)
    foreign = (
        {name.split(".")[0] for name in facts["new"]}
        - set(sys.stdlib_module_names)
        - {"qkernels", "numpy"}
    )
    assert not foreign
    assert not {name for name in facts["new"] if name.split(".")[0] in HEAVY}
    assert (facts["threads"], facts["changed"]) == (1, False)
    assert facts["tasks"] == 0


def test_import_time(tmp_path):
    """Below 60 ms of CPU time on top of NumPy, or half of NumPy's own where the machine is slow:
    the best of several runs, from compiled bytecode."""
    code = (
        "import time\n"
        "begin = time.process_time()\n"
        "import numpy\n"
        "middle = time.process_time()\n"
        "import qkernels\n"
        "print(time.process_time() - middle, middle - begin)\n"
    )
    cache = {"PYTHONPYCACHEPREFIX": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    runs = [[float(t) for t in run_python(code, **cache).stdout.split()] for _ in range(6)]
    ours, numpys = (min(times) for times in zip(*runs, strict=True))
    assert ours < max(0.060, numpys / 2), f"{ours * 1e3:.0f} ms"


def test_public_names():
    assert qk.__all__ == sorted(qk.__all__)
    assert len(set(qk.__all__)) == len(qk.__all__)
    for name in qk.__all__:
        assert getattr(qk, name) is not None
        assert name in dir(qk)
    with pytest.raises(AttributeError, match="nonsense"):
        qk.nonsense  # noqa: B018
    bound = {
        "QParams",
        "QKernelsError",
        "PackedConv2d",
        "PackedGemm",
        "PackedLinear",
        "available_isas",
        "choose_qparams",
        "conv2d_int8",
        "dequantize",
        "dynamic_quantize",
        "gemm_int8",
        "get_include",
        "get_num_threads",
        "isa",
        "linear_int8",
        "num_threads",
        "pack_conv2d",
        "pack_gemm",
        "pack_linear",
        "quantize",
        "requantize",
        "set_num_threads",
        "show_config",
        "use_isa",
        "verify",
    }
    assert bound <= set(qk.__all__)


@pytest.mark.parametrize("name", [n for n in qk.__all__ if not n.startswith("_")])
def test_every_public_name_has_a_docstring(name):
    thing = getattr(qk, name)
    if callable(thing) or isinstance(thing, type(qk)):
        assert thing.__doc__, name


def test_version():
    version = qk.__version__.removesuffix("+emulated")
    assert version.count(".") == 2
    try:
        assert importlib.metadata.version("qkernels") == version
    except importlib.metadata.PackageNotFoundError:
        text = (ROOT / "pyproject.toml").read_text()
        assert f'version = "{version}"' in text


@pytest.mark.parametrize("name", ["qkernels", *MODULES])
def test_docstring_examples(name):
    module = importlib.import_module(name)
    report: list[str] = []
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        runner.run(test, out=report.append)
    assert not report, "".join(report)


def test_typed():
    assert (PACKAGE / "py.typed").exists()
    assert (PACKAGE / "_core.pyi").exists()


def test_the_stub_describes_the_compiled_module(tmp_path):
    """mypy.stubtest: every name and signature of _core.pyi against the module itself."""
    require("mypy.stubtest", in_test_extra=False)
    allow = tmp_path / "allow"
    # Names that exist for type checkers alone, and what pybind11 classes cannot express.
    types = ("Activation", "Array", "OutDtype", "Rounding", "XDtype")
    pybind11 = ("Conv2d", "Linear", "Packed", "Packed.__init__")
    allow.write_text("".join(f"qkernels._core.{name}\n" for name in types + pybind11))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy.stubtest",
            "qkernels._core",
            "--ignore-positional-only",
            "--allowlist",
            str(allow),
            "--ignore-unused-allowlist",
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        timeout=300,
        env={
            # mypy refuses site-packages there, and finds what is installed without it.
            "MYPYPATH": "" if "site-packages" in PACKAGE.parts else str(PACKAGE.parent),
            "PYTHONPATH": str(PACKAGE.parent),
            "PATH": "",
        },
    )
    assert done.returncode == 0, done.stdout + done.stderr
