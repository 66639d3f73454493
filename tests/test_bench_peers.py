# SPDX-License-Identifier: Apache-2.0
"""The adapters of libraries: each in a worker of its own, as `qkernels bench` runs them."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import qkernels as qk
from qkernels.bench.case import Case
from qkernels.bench.contender import Repeated
from qkernels.bench.peers import ADAPTERS, base, litert, onednn
from qkernels.bench.problem import make_data
from qkernels.bench.process import Worker, WorkerFailed
from qkernels.bench.suites.layers import Layer, layer_case
from qkernels.bench.suites.shapes import matrix_case

PASSES = ("quantize", "dequantize", "requantize", "dynamic_quantize")
CASES = [
    matrix_case("gemm", "linear", (37, 64, 48)),
    matrix_case("gemv", "linear", (1, 131, 59)),
    matrix_case("gemv", "linear", (1, 2048, 72)),
    Case("overhead", "function", "linear", {"m": 1, "k": 64, "n": 64, "call": "function"}),
    matrix_case("gemm_s32", "linear_s32", (33, 128, 24)),
    matrix_case("dynamic", "dynamic", (20, 128, 48)),
    layer_case("conv", Layer(3, 16, kernel=7, size=22, stride=2)),
    layer_case("conv", Layer(16, 32, kernel=3, size=9), batch=2),
    layer_case("conv", Layer(16, 24, kernel=1, size=7)),
    layer_case("conv", Layer(16, 16, kernel=3, size=8, groups=4)),
    layer_case("depthwise", Layer(24, 24, kernel=3, size=10, stride=2, groups=24)),
    layer_case("depthwise", Layer(16, 16, kernel=5, size=7, groups=16)),
    *(Case("elementwise", op, op, {"rows": 7, "columns": 96}) for op in PASSES),
    Case("model", "digits", "digits", {"batch": 2}),
]
LAYERS = {"linear", "dynamic", "conv"}
# What each library is timed at, by the type of its arithmetic.
OFFERED = {
    "qkernels": {"int8": {case.op for case in CASES}},
    "numpy": {"float32": {"linear", "linear_s32", "dynamic", "digits"}},
    "onednn": {
        "int8": LAYERS | {"linear_s32", "quantize", "dequantize"},
        "float32": LAYERS,
        "bfloat16": LAYERS,
    },
    "openvino": {"int8": LAYERS, "float32": LAYERS - {"linear"}, "bfloat16": LAYERS - {"linear"}},
    "onnxruntime": {
        "int8": LAYERS | {"linear_s32", "quantize", "dequantize", "digits"},
        "float32": LAYERS | {"digits"},
    },
    "litert": {"int8": LAYERS | {"quantize", "dequantize"}},
    "torch": {"int8": LAYERS | {"linear_s32", "quantize", "dequantize"}},
    "ncnn": {"int8": {"linear", "conv"}},
}
# What they lack beyond: (library, case).
LACKING = {("ncnn", "3x3 16->32 @9"), ("ncnn", "3x3 16->16 g=4 @8")}
# Without these some libraries saturate 16-bit sums of 8-bit products: a wrong answer is theirs.
EXACT_PRODUCTS = bool({"avxvnni", "avx512vnni", "neon_dotprod"} & set(qk.available_isas()))


@pytest.fixture(scope="module", params=ADAPTERS)
def library(request):
    """A worker with the library's contenders; skipped where it is not installed."""
    module = ADAPTERS[request.param]
    worker = Worker(module, importlib.import_module(module).environment(None, 1))
    try:
        found = worker.ask(300, do="discover")
        if "absent" in found:
            assert request.param not in ("qkernels", "numpy")
            pytest.skip(found["absent"])
        yield SimpleNamespace(
            name=request.param,
            contenders=found["contenders"],
            ask=lambda **question: worker.ask(120, **question),
        )
    finally:
        worker.end()


def test_contenders(library):
    dtypes = {c["dtype"] for c in library.contenders}
    assert dtypes | {"bfloat16"} == set(OFFERED[library.name]) | {"bfloat16"}  # CPUs may lack it
    assert len({c["name"] for c in library.contenders}) == len(library.contenders)
    assert all(c["version"][0].isdigit() for c in library.contenders)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.op} {case.name}")
def test_answers(library, case, tmp_path):
    make_data(case).save(tmp_path)
    question = {"case": case.to_json(), "folder": str(tmp_path), "threads": 1}
    for contender in library.contenders:
        name, dtype = contender["name"], contender["dtype"]
        verdict = library.ask(do="load", contender=name, **question)
        lacking = (library.name, case.name) in LACKING
        older = name == "PyTorch FBGEMM" and case.op not in LAYERS
        if lacking or older or case.op not in OFFERED[library.name][dtype]:
            assert verdict["status"] == "unsupported"
            assert verdict["note"]
            continue
        allowed = {"ok"} if library.name == "qkernels" else {"ok", "rounds elsewhere"}
        saturates = not EXACT_PRODUCTS or (name, case.suite) == ("PyTorch FBGEMM", "depthwise")
        if library.name != "qkernels" and dtype == "int8" and saturates:
            allowed |= {"wrong"}
        assert verdict["status"] in allowed, (name, verdict)
        timed = library.ask(do="time", contender=name, calls=3)
        assert 0 < timed["seconds"] < 60
    library.ask(do="unload")


def test_two_threads(library, tmp_path):
    case = matrix_case("gemm", "linear", (64, 256, 192))
    make_data(case).save(tmp_path)
    question = {"case": case.to_json(), "folder": str(tmp_path), "threads": 2}
    for contender in library.contenders:
        verdict = library.ask(do="load", contender=contender["name"], **question)
        if "linear" in OFFERED[library.name][contender["dtype"]] and EXACT_PRODUCTS:
            assert verdict["status"] in ("ok", "rounds elsewhere"), contender


def test_adapters_import_no_library():
    """The runner imports them all, and must not pay for what it only starts workers of."""
    names = "torch", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "ncnn", "threadpoolctl"
    program = (
        "import importlib, sys\n"
        f"for name in {list(ADAPTERS.values())!r}:\n"
        "    module = importlib.import_module(name)\n"
        "    assert module.LIBRARY and callable(module.discover)\n"
        f"print(*sorted(set(sys.modules) & set({names!r})))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr


@pytest.mark.parametrize("name", ADAPTERS)
def test_environment(name):
    adapter = importlib.import_module(ADAPTERS[name])
    free = adapter.environment(None, 3)
    assert all(isinstance(text, str) for pair in free.items() for text in pair)
    capped = adapter.environment("avx2", 3)
    if name in ("onnxruntime", "litert", "ncnn"):
        assert capped is None
    else:
        assert len(capped) > len(free)
        assert "3" in capped.values()
    if name != "qkernels":
        assert adapter.environment("scalar", 1) is None


def test_onednn_is_capped():
    assert base.onednn_environment("avx512vnni", 2) == {
        "OMP_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI",
    }


def test_onednn_says_why_not(monkeypatch, tmp_path):
    monkeypatch.delenv("ONEDNN_ROOT", raising=False)
    assert "ONEDNN_ROOT does not name" in onednn.discover()
    monkeypatch.setenv("ONEDNN_ROOT", str(tmp_path))
    assert "dnnl.hpp" in onednn.discover()
    header = tmp_path / "include" / "oneapi" / "dnnl" / "dnnl.hpp"
    header.parent.mkdir(parents=True)
    header.write_text('#error "broken on purpose"\n')
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(onednn.shutil, "which", lambda name: None)
    assert "no C++ compiler" in onednn.discover()


@pytest.mark.skipif(os.name == "nt", reason="the compiler is a shell script")
def test_onednn_reports_the_compiler(monkeypatch, tmp_path):
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho the compiler says no >&2\nexit 1\n")
    compiler.chmod(0o755)
    header = tmp_path / "include" / "oneapi" / "dnnl" / "dnnl.hpp"
    header.parent.mkdir(parents=True)
    header.touch()
    (tmp_path / "lib").mkdir()
    monkeypatch.setenv("ONEDNN_ROOT", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    assert "the compiler says no" in onednn.discover()
    assert not list((tmp_path / "cache" / "qkernels" / "bench").iterdir())


def test_a_float_layer_is_no_int8_contender():
    data = make_data(matrix_case("dynamic", "dynamic", (4, 64, 8)))
    base.refuse_float(data.expected * np.float32(1.004), data)
    with pytest.raises(RuntimeError, match="float32, not int8"):
        base.refuse_float(data.expected, data)


def test_what_is_not_offered():
    peer = base.Peer("name", "1")
    assert peer.supports(matrix_case("gemm", "linear", (1, 2, 3))) == "linear is not offered"


def test_a_repeated_run_loops_inside():
    assert issubclass(onednn._Primitive, Repeated)


@pytest.mark.parametrize(
    ("layer", "padding"),
    [
        (Layer(3, 8, kernel=1, size=9), ("VALID", False)),
        (Layer(3, 8, kernel=3, size=9), ("SAME", False)),
        (Layer(3, 8, kernel=3, size=9, stride=2), ("SAME", False)),
        (Layer(3, 8, kernel=3, size=8, stride=2), ("SAME", True)),
        (Layer(3, 8, kernel=7, size=224, stride=2), ("SAME", True)),
    ],
)
def test_litert_padding(layer, padding):
    assert litert.padding(layer_case("conv", layer)) == padding


def test_litert_padding_that_it_has_not():
    case = layer_case("conv", Layer(3, 8, kernel=3, size=9))
    wide = Case(case.suite, case.name, case.op, {**case.params, "pad": 2})
    assert litert.padding(wide) is None


def test_an_exception_of_a_library_is_a_sentence(tmp_path):
    """A layer that oneDNN cannot have (no channels) fails in words, and the worker goes on."""
    worker = Worker(ADAPTERS["qkernels"], {})
    try:
        worker.ask(60, do="discover")
        case = matrix_case("gemm", "linear", (2, 4, 3))
        data = make_data(case)
        data.save(tmp_path)
        np.save(tmp_path / "w.npy", data.w[:, :2])
        question = {"case": case.to_json(), "folder": str(tmp_path), "threads": 1}
        with pytest.raises(WorkerFailed, match="4"):
            worker.ask(60, do="load", contender="qkernels", **question)
        data.save(tmp_path)
        assert worker.ask(60, do="load", contender="qkernels", **question)["status"] == "ok"
    finally:
        worker.end()
