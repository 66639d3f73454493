# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: in a process of its own, with warnings as errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import qkernels as qk
from qkernels import _core
from qkernels.cli import demo, main
from report_html import parse_report

BARE = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
from qkernels.cli import main
sys.exit(main(sys.argv[1:]))
"""
OPTIONAL = ["matplotlib", "rich", "torch", "onnx", "safetensors", "threadpoolctl", "sklearn"]


def environment(**variables: str) -> dict[str, str]:
    """That of this process with the package found from any folder, and only these QKERNELS_*."""
    base = {k: v for k, v in os.environ.items() if not k.startswith("QKERNELS_")}
    return base | {"PYTHONPATH": str(Path(qk.__file__).parents[1])} | variables


def command(
    *arguments: str,
    start: tuple[str, ...] = ("-m", "qkernels"),
    cwd: Path | None = None,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", *start, *arguments],
        env=environment(**variables),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["info", "demo", "bench", "Exit codes"]),
        (["info", "--help"], ["--json", "QKERNELS_ISA", "bug report"]),
        (["demo", "--help"], ["--method", "--report", "Exit code 1", "isolated", "0.3 points"]),
        (["selftest", "--help"], ["--json", "scalar tier", "NumPy", "Exit code 1"]),
        (["--version"], [f"qkernels {qk.__version__}"]),
    ],
)
def test_help_teaches(arguments: list[str], words: list[str]) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stderr) == (0, "")
    for word in words:
        assert word in done.stdout


def test_help_lists_only_what_exists() -> None:
    listed = command("--help").stdout
    for name in ("quantize ", "compare ", "run "):
        assert f"\n    {name}" not in listed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["demo", "--method", "best"], "invalid choice: 'best'"),
        (["demo", "--threads", "many"], "--threads: must be an integer of at least 1, not 'many'"),
        (["demo", "--threads", "0"], "--threads: must be an integer of at least 1, not '0'"),
        (["demo", "--report", "a", "--no-report"], "not allowed with argument"),
        (["info", "--loud"], "unrecognized arguments: --loud"),
        (["selftest", "now"], "unrecognized arguments: now"),
    ],
)
def test_bad_usage(arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--isa", "sse9"], "isa must be one of"),
        (["--save", "{missing}/model.safetensors"], "No such file or directory"),
        (["--report", "{missing}/report.html"], "No such file or directory"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    filled = [text.replace("{missing}", str(tmp_path / "missing")) for text in arguments]
    done = command("demo", *filled, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("qkernels demo: error: ")
    assert message in last
    assert "Traceback" not in done.stderr


def test_info() -> None:
    done = command("info")
    assert (done.returncode, done.stderr) == (0, "")
    for tier in _core.isas():
        assert tier["name"] in done.stdout
        if not tier["available"]:
            assert f"lacks {tier['missing']}" in done.stdout
    for kernel in _core.kernels():
        assert (f"  {kernel['name']}" in done.stdout) == kernel["available"]


def test_info_json() -> None:
    done = command("info", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert facts["version"] == qk.__version__
    assert facts["isa"]["available"] == qk.available_isas()
    assert [tier["name"] for tier in facts["tiers"]] == [tier["name"] for tier in _core.isas()]
    assert [t["name"] for t in facts["tiers"] if t["active"]] == [facts["isa"]["active"]]
    assert facts["kernels"] == _core.kernels()
    assert facts["packages"]["numpy"]
    assert facts["cpu"]["model"]
    for cache in facts["cpu"]["caches"]:
        assert cache["level"] in {1, 2, 3, 4}
        assert cache["bytes"] >= 1024
        assert 1 <= cache["cpus"] <= facts["cpu"]["cpus"]
    assert facts["isa"]["built"] == [tier["name"] for tier in _core.isas()]
    assert facts["threads"]["cpus"] <= facts["cpu"]["cpus"]


def test_info_says_what_the_environment_chose() -> None:
    done = command("info", "--json", QKERNELS_ISA="scalar", QKERNELS_NUM_THREADS="3")
    facts = json.loads(done.stdout)
    assert facts["isa"]["active"] == "scalar"
    assert facts["threads"]["calling_thread"] == 3


def test_info_into_a_closed_pipe_is_quiet() -> None:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "qkernels", "info"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 0


def test_selftest_with_numpy_alone() -> None:
    done = command("selftest", "--json", start=("-c", BARE.format(blocked=OPTIONAL)))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["passed"] is True
    assert [tier["name"] for tier in found["tiers"]] == qk.available_isas()
    assert found["seconds"] < 20


def test_demo_with_numpy_alone(tmp_path: Path) -> None:
    done = command(
        "demo",
        "--isa",
        "scalar",
        "--threads",
        "1",
        start=("-c", BARE.format(blocked=OPTIONAL)),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for layer in ("stem", "depthwise", "pointwise", "pool", "body", "residual", "head"):
        assert sum(line.startswith(layer) for line in lines) == 1
    assert "ran on           scalar kernels, 1 thread" in lines
    assert "report           qkernels-report.html" in lines
    assert any(line.startswith("accuracy         float 99.44 %, int8 99.") for line in lines)
    assert parse_report(tmp_path / "qkernels-report.html").resources == []
    assert [path.name for path in tmp_path.iterdir()] == ["qkernels-report.html"]
    assert "quantizing" in done.stderr
    assert "comparing" in done.stderr


def test_demo_json_is_all_that_stdout_has(tmp_path: Path) -> None:
    done = command("demo", "--json", "--no-report", "--method", "mse", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert done.returncode == 0
    assert (result["method"], result["report"], result["saved"]) == ("mse", None, None)
    assert list(tmp_path.iterdir()) == []


def test_demo_fails_when_accuracy_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Calibrated on images that are nearly black, every layer saturates.
    dark = demo.digits.calibration() / 100
    monkeypatch.setattr(demo.digits, "calibration", lambda: dark)
    assert main(["demo", "--no-report"]) == 1
    assert "int8 loses more than 0.3 points of accuracy." in capsys.readouterr().out


def test_settings_of_the_demo_do_not_stay(capsys: pytest.CaptureFixture[str]) -> None:
    before = qk.isa(), qk.get_num_threads()
    assert main(["demo", "--isa", "scalar", "--threads", "7", "--no-report", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)["comparison"]
    assert (comparison["isa"], comparison["threads"]) == ("scalar", 7)
    assert (qk.isa(), qk.get_num_threads()) == before
