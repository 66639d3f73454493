# SPDX-License-Identifier: Apache-2.0
"""Tiers, threads, configuration, environment variables, threadpoolctl."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

import qkernels as qk
from qkernels import _core
from support import require, run_python

NAMES = {"scalar", "avx2", "avxvnni", "avx512vnni", "amx", "neon", "neon_dotprod", "neon_i8mm"}


def printed(code, **env):
    done = run_python(code, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


# Tiers --------------------------------------------------------------------------------------------
def test_tiers():
    available = qk.available_isas()
    assert "scalar" in available
    assert set(available) <= NAMES
    assert qk.isa() in available
    built = {tier["name"]: tier for tier in _core.isas()}
    assert set(available) == {name for name, tier in built.items() if tier["available"]}
    for tier in built.values():
        assert tier["parent"] in built or tier["name"] == "scalar"
        assert bool(tier["missing"]) != tier["available"], (
            "what is missing is why it is not available"
        )


@pytest.mark.parametrize("isa", qk.available_isas())
def test_use_isa_restores_also_after_an_error(isa):
    before = qk.isa()
    with qk.use_isa(isa):
        assert qk.isa() == isa
        with qk.use_isa("scalar"):
            assert qk.isa() == "scalar"
        assert qk.isa() == isa
    assert qk.isa() == before
    with pytest.raises(KeyError), qk.use_isa(isa):
        raise KeyError
    assert qk.isa() == before


@pytest.mark.parametrize("isa", sorted(NAMES - set(qk.available_isas())))
def test_a_tier_that_is_not_here_is_refused(isa):
    built = isa in {tier["name"] for tier in _core.isas()}
    with pytest.raises(ValueError, match=isa) as caught:
        qk.use_isa(isa)
    assert isinstance(caught.value, qk.QKernelsError)
    assert ("CPU" if built else "built") in str(caught.value)
    assert ", ".join(qk.available_isas()) in str(caught.value)


@pytest.mark.parametrize("name", ["", "AVX2", "sse2", None, 3, b"scalar"])
def test_an_unknown_tier_is_refused(name):
    with pytest.raises(qk.QKernelsError, match="scalar"):
        qk.use_isa(name)


def test_use_isa_is_process_wide():
    seen = []
    with qk.use_isa("scalar"):
        thread = threading.Thread(target=lambda: seen.append(qk.isa()))
        thread.start()
        thread.join()
    assert seen == ["scalar"]


# Threads ------------------------------------------------------------------------------------------
def test_thread_counts():
    before = qk.get_num_threads()
    try:
        for n in (1, 2, 7, 300):
            qk.set_num_threads(n)
            assert qk.get_num_threads() == n
    finally:
        qk.set_num_threads(before)


def test_num_threads_is_for_the_calling_thread():
    before = qk.get_num_threads()
    seen = []
    with qk.num_threads(before + 3):
        thread = threading.Thread(target=lambda: seen.append(qk.get_num_threads()))
        thread.start()
        thread.join()
        assert qk.get_num_threads() == before + 3
        with qk.num_threads(1):
            assert qk.get_num_threads() == 1
        assert qk.get_num_threads() == before + 3
    assert seen == [before]
    assert qk.get_num_threads() == before


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", None, True, 2**40])
@pytest.mark.parametrize("function", [qk.set_num_threads, qk.num_threads])
def test_a_bad_thread_count_is_refused(function, n):
    before = qk.get_num_threads()
    with pytest.raises(qk.QKernelsError, match="n must"):
        function(n)
    assert qk.get_num_threads() == before


# Configuration ------------------------------------------------------------------------------------
def test_show_config(capsys):
    qk.show_config()
    text = capsys.readouterr().out
    for fact in (qk.__version__, qk.isa(), *qk.available_isas()):
        assert fact in text


def test_get_include():
    header = Path(qk.get_include()) / "qkernels" / "qkernels.h"
    assert "qk_linear_run" in header.read_text()


def test_versions_agree():
    assert qk.__version__ == _core.__version__


# Environment --------------------------------------------------------------------------------------
SHOW = "import qkernels as qk; print(qk.isa(), qk.get_num_threads())"


@pytest.mark.parametrize("isa", qk.available_isas())
def test_environment_isa(isa):
    assert printed(SHOW, QKERNELS_ISA=isa)[0] == isa


def test_environment_threads():
    assert printed(SHOW, QKERNELS_NUM_THREADS="3")[1] == "3"
    assert printed(SHOW, QKERNELS_NUM_THREADS="64")[1] == "64"


def test_empty_counts_as_unset():
    assert printed(SHOW, QKERNELS_ISA="", QKERNELS_NUM_THREADS="") == printed(SHOW)


@pytest.mark.parametrize(
    ("name", "value"),
    [("QKERNELS_ISA", "avx9"), ("QKERNELS_ISA", "AVX2"), ("QKERNELS_ISA", "neon,scalar"),
     ("QKERNELS_NUM_THREADS", "0"), ("QKERNELS_NUM_THREADS", "-2"),
     ("QKERNELS_NUM_THREADS", "two"), ("QKERNELS_NUM_THREADS", "1.5"),
     ("QKERNELS_NUM_THREADS", "99999999999999999999")],
)  # fmt: skip
def test_a_bad_environment_value_is_an_import_error(name, value):
    done = run_python("import qkernels", **{name: value})
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert name in last
    assert value in last


def test_an_isa_of_another_cpu_is_an_import_error():
    for isa in sorted(NAMES - set(qk.available_isas())):
        done = run_python("import qkernels", QKERNELS_ISA=isa)
        assert "ImportError" in done.stderr
        assert isa in done.stderr


# threadpoolctl ------------------------------------------------------------------------------------
LIMIT = """
import numpy as np
a = np.ones((300, 300), np.int8)
def check():
    qk.gemm_int8(a, a)
    qk.set_num_threads(4)
    assert qk.get_num_threads() == 4
    infos = [i for i in threadpoolctl.threadpool_info() if "qkernels" in i["filepath"]]
    assert len(infos) == 1 and infos[0]["num_threads"] == 4, infos
    with threadpoolctl.threadpool_limits(limits=1):
        assert qk.get_num_threads() == 1
        qk.gemm_int8(a, a)
    assert qk.get_num_threads() == 4
    with threadpoolctl.threadpool_limits(limits={"qkernels": 2}):
        assert qk.get_num_threads() == 2
    assert qk.get_num_threads() == 4
check()
print("passed")
"""


@pytest.mark.parametrize(
    "imports",
    ["import qkernels as qk, threadpoolctl", "import threadpoolctl; import qkernels as qk"],
)
def test_threadpoolctl_limits_hold_in_either_order(imports):
    require("threadpoolctl")
    assert printed(imports + LIMIT) == ["passed"]
