# SPDX-License-Identifier: Apache-2.0
"""`qkernels bench` as a user meets it, and `run_bench` behind it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import qkernels as qk
from bench_document import document
from qkernels.bench import results, run_bench, session
from qkernels.bench.suites import SUITES
from qkernels.cli import main
from report_html import parse_report
from test_cli import BARE, OPTIONAL, command, environment

QUICK = ("--peers", "none", "--threads", "1", "--quick", "--seconds", "0.02")


@pytest.fixture(name="kept", scope="module")
def kept_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The file and the output of a run with NumPy alone."""
    path = tmp_path_factory.mktemp("bench") / "run.json"
    done = command(
        "bench",
        *("--suite", "overhead,gemv", "--shapes", "1,64,64;3,40,24", "--peers", "numpy"),
        *("--threads", "1,2", "--seconds", "0.02", "--quick"),
        *("--json", str(path), "--html", str(path.with_suffix(".html"))),
        start=("-c", BARE.format(blocked=OPTIONAL)),
    )
    assert done.returncode == 0, done.stderr
    assert "[1/10] limits of this machine, 1 thread\n" in done.stderr
    assert done.stderr.count("\n") == 10
    return path, done.stdout


def test_with_numpy_alone(kept):
    path, output = kept
    value = results.read(path)
    assert value["versions"].keys() == {"qkernels", "NumPy"}
    assert value["settings"]["suites"] == ["overhead", "gemv"]
    assert value["settings"]["interrupted"] is False
    assert value["machine"]["isas"] == qk.available_isas()
    assert value["limits"].keys() == {"1", "2"}
    rows = value["rows"]
    assert len(rows) == 2 * 2 * 2 * 2
    for row in rows:
        assert row["status"] == "ok"
        assert row["isa"] == (qk.isa() if row["library"] == "qkernels" else None)
        assert row["share"] == pytest.approx(row["limit"] / row["seconds"])
        assert row["bound"]
        assert (row["ratio"] is None) == (row["library"] == "qkernels")
    for words in ("3x40x24", "NumPy float32", "bound 1x64x64", f"written: {path}"):
        assert words in output
    assert "GMAC/s over MAC a byte" in output
    assert "time of the peer over that of qkernels" in output
    assert parse_report(path.with_suffix(".html")).resources == []


def test_a_kept_run_gives_the_same_again(kept, tmp_path):
    path, output = kept
    done = command("bench", "--from", str(path), "--html", str(tmp_path / "again.html"))
    assert (done.returncode, done.stderr) == (0, "")
    body, _, _ = output.partition("\nwritten: ")
    assert done.stdout.partition("\nwritten: ")[0] == body
    assert (tmp_path / "again.html").read_bytes() == path.with_suffix(".html").read_bytes()


def test_help_teaches():
    done = command("bench", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    text = " ".join(done.stdout.split())
    for word in (*SUITES, "--compare BEFORE AFTER", "--why", "--threshold", "Exit codes", "130"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "1,none"], "--threads: must be an integer of at least 1, not 'none'"),
        (["--shapes", "1,2"], "--shapes: must be M,K,N, not '1,2'"),
        (["--shapes", "1,2,0"], "--shapes: must be an integer of at least 1, not '0'"),
        (["--seconds", "nan"], "--seconds: must be a number above 0, not 'nan'"),
        (["--suite", "gemm,"], "--suite: must be names separated by commas, not 'gemm,'"),
        (["--from", "a", "--compare", "b", "c"], "not allowed with argument"),
        (["--suite", "gem"], "suite must be among gemm, gemm_s32"),
        (["--suite", "conv", "--shapes", "1,2,3"], "which suite 'conv' has not"),
        (["--shapes", "1,2,3;1,2,3"], "shapes must be at least one, each once"),
        (["--isa", "sse9"], "isa must be one of"),
        (["--peers", "numpy,fast"], "peers must be 'auto', 'none' or among numpy, .*, not 'fast'"),
        (["--threshold", "0.2"], "--threshold goes with --compare"),
        (["--compare", "a", "b", "--quick"], "--quick does not go with --compare"),
        (["--from", "a", "--suite", "gemm"], "--suite does not go with --from"),
        (["--compare", "a", "b", "--peers", "none"], "--peers does not go with --compare"),
        (["--why", "1,2,3", "--json", "a.json"], "--json does not go with --why"),
        (
            ["--why", "1,2"],
            "the path of a saved model or M,K,N; '1,2' is no file and must be M,K,N",
        ),
        (["--from", "missing.json"], "No such file or directory"),
        (["--json", "missing/run.json"], "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message, tmp_path):
    done = command("bench", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(message, done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr


def test_a_plot_without_matplotlib_is_refused_before_the_run(tmp_path):
    code = "import importlib.util as u; find = u.find_spec\n"
    code += "u.find_spec = lambda n, *a: None if n == 'matplotlib' else find(n, *a)\n"
    done = command(
        "bench", "--plot", str(tmp_path / "a.png"), start=("-c", code + BARE.format(blocked=[]))
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("qkernels bench: error: --plot needs matplotlib: pip install")


@pytest.mark.parametrize("damage", ["", "[]", '{"format": "qkernels-bench", "version": 1}'])
def test_a_damaged_document_is_refused(tmp_path, damage):
    path = tmp_path / "run.json"
    path.write_text(damage)
    done = command("bench", "--from", str(path))
    assert (done.returncode, done.stdout) == (2, "")
    assert "run.json is not a bench document: " in done.stderr.splitlines()[-1]


def test_compare(tmp_path, capsys):
    before, after, out = (tmp_path / name for name in ("before.json", "after.json", "out.json"))
    value: dict[str, Any] = document()
    results.write(value, before)
    for row in value["rows"]:
        if row["library"] == "qkernels":
            row["samples"] = [1.5 * sample for sample in row["samples"]]
        elif row["ratio"]:
            row["ratio"] = {name: each / 1.5 for name, each in row["ratio"].items()}
    results.write(value, after)
    assert main(["bench", "--compare", str(before), str(before)]) == 0
    assert "no case is slower by more than 10 %" in capsys.readouterr().out
    assert main(["bench", "--compare", str(before), str(after), "--json", str(out)]) == 1
    assert "REGRESSION: 36 slower by more than 10 %" in capsys.readouterr().out
    assert json.loads(out.read_text())["regressions"] == 36
    assert main(["bench", "--compare", str(before), str(after), "--threshold", "0.6"]) == 0
    assert main(["bench", "--compare", str(after), str(before)]) == 0


# A job in the background of a shell starts with SIGINT ignored, and so do its children.
HEARS_CTRL_C = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from qkernels.cli import main
sys.exit(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_keeps_what_was_measured(tmp_path):
    path = tmp_path / "run.json"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HEARS_CTRL_C, "bench", "--suite", "gemm"]
        + ["--shapes", "4,32,32;8,32,32;8,64,32", "--peers", "none", "--threads", "1", "--quick"]
        + ["--seconds", "1", "--json", str(path)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("[3/4]"):
            process.send_signal(signal.SIGINT)
            break
    output, rest = process.communicate(timeout=60)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "qkernels bench: interrupted"
    assert "Traceback" not in rest
    value = results.read(path)
    assert value["settings"]["interrupted"] is True
    assert value["rows"][0]["case"] == "4x32x32"
    assert len(value["rows"]) < 3
    assert "interrupted: not all cases were measured" in " ".join(output.split())


def test_a_wrong_answer_of_ours_is_exit_code_1(monkeypatch, capsys):
    adapters = {"qkernels": "bench_fakes.wrong_ours"}
    monkeypatch.setattr(session, "ADAPTERS", adapters)
    assert main(["bench", "--suite", "gemm", "--shapes", "4,64,8", *QUICK]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_why(capsys):
    assert (
        main(["bench", "--why", "2,64,32", "--quick", "--threads", "1,2", "--isa", "scalar"]) == 0
    )
    output = capsys.readouterr().out
    for threads in ("1 thread", "2 threads"):
        assert f"linear, 2 rows, 64 deep, 32 columns, scalar, {threads}\n" in output
    assert output.count("times float32") == 2


def test_who_cannot_be_capped_is_said():
    """No BLAS has a switch for plain scalar code."""
    value = run_bench(
        ["gemm"], shapes=[(2, 16, 16)], threads=[1], peers=["numpy"], isas=["scalar"], seconds=0.02
    )
    assert [(row["contender"], row["isa"]) for row in value["rows"]] == [
        ("qkernels", "scalar"),
        ("NumPy float32", None),
    ]
    assert "NumPy float32 could not be capped to a tier" in value["conditions"]["warnings"]


def test_run_bench_reports_progress_and_checks_its_arguments():
    seen = []
    value = run_bench(
        ["gemm"],
        shapes=[(2, 16, 16)],
        threads=[1],
        peers="none",
        isas=qk.available_isas(),
        quick=True,
        seconds=0.02,
        progress=lambda *step: seen.append(step),
    )
    tiers = qk.available_isas()
    results.check(value)
    assert [row["isa"] for row in value["rows"]] == tiers
    assert [done for done, _, _ in seen] == list(range(len(tiers) + 1))
    assert {steps for _, steps, _ in seen} == {len(tiers) + 1}
    for bad in (
        {"threads": []},
        {"threads": [0]},
        {"isas": []},
        {"isas": ["neon"]},
        {"shapes": []},
        {"shapes": [(1, 2)]},
        {"seconds": 0.0},
        {"suites": []},
        {"peers": ["qkernels"]},
    ):
        with pytest.raises(qk.QKernelsError):
            run_bench(**{"peers": "none", **bad})
