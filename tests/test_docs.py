# SPDX-License-Identifier: Apache-2.0
"""The documents are true: examples run, paths exist, names parse, README and .ci/run agree."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import qkernels as qk
from qkernels import _core
from support import ROOT

DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("tests/**/README.md")],
)
NAME = re.compile(
    r"(?P<op>gemm|dwconv)_(?P<left>s8|u8|s16|x8)(?P<right>s8|s16)_"
    r"(?P<mr>\d+)x(?P<nr>\d+)x(?P<kr>\d+)_(?P<tier>\w+)"
)
LAYOUT = re.compile(r"([knct]\d+)+(s16)?")

pytestmark = pytest.mark.skipif(
    not (ROOT / "docs").is_dir(), reason="the documents are not beside the tests"
)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("document", ["docs/numerics.md"])
def test_examples_run(document: str) -> None:
    # Python fences would be read as expected output: they become blank lines.
    text = (ROOT / document).read_text().replace("```python", "").replace("```", "")
    test = doctest.DocTestParser().get_doctest(text, {}, document, document, 0)
    assert test.examples
    report: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.FAIL_FAST).run(test, out=report.append)
    assert not report, "".join(report)


def test_readme_lines_of_linear_int8_run() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    assert len(blocks[0].splitlines()) == 5
    names: dict[str, object] = {}
    exec(compile(blocks[0], "README.md", "exec"), names)
    x, weight, y = (np.asarray(names[name]) for name in ("x", "weight", "y"))
    assert (y.shape, y.dtype) == ((4, 8), np.float32)
    error = np.abs(y - x @ weight.T).max()
    assert 0 < error < 0.02 * np.abs(x @ weight.T).max() + 0.2


def test_readme_and_ci_run_the_same_commands() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("the source distribution has no .ci")
    readme = (ROOT / "README.md").read_text().splitlines()
    for variable in ("TEST_COMMAND", "DEMO_COMMAND"):
        found = re.search(rf'^{variable}="(.*)"$', script.read_text(), re.MULTILINE)
        assert found is not None
        assert f"    {found[1]}" in readme, f"{variable} of .ci/run is no line of README.md"


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_point_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(document)):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_paths_exist(document: Path) -> None:
    for path in re.findall(
        r"`((?:csrc|python|cmake|tests|bench|docs|scripts)/[^`\s]*)`", prose(document)
    ):
        pattern = re.sub(r"<\w+>", "*", path.rstrip("/"))
        assert list(ROOT.glob(pattern)), f"{path} does not exist"


def test_register_of_kernels_is_complete() -> None:
    text = (ROOT / "docs" / "kernels" / "README.md").read_text()
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
    built = {k["tier"] for k in _core.kernels()}
    documented = [row for row in rows if row[0] in built]
    assert documented == [(k["tier"], k["name"], k["layout"]) for k in _core.kernels()]


def test_kernel_and_layout_names_follow_the_grammar() -> None:
    for kernel in _core.kernels():
        found = NAME.fullmatch(kernel["name"])
        assert found is not None, kernel["name"]
        assert found["op"] == {"gemm": "gemm", "depthwise": "dwconv"}[kernel["op"]]
        assert [int(found[size]) for size in ("mr", "nr", "kr")] == [
            kernel[size] for size in ("mr", "nr", "kr")
        ]
        assert (found["left"], found["tier"]) == (kernel["lhs"], kernel["tier"])
        assert LAYOUT.fullmatch(kernel["layout"]), kernel["layout"]


def test_public_names_of_the_readme_exist() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    table = (ROOT / "cmake" / "tiers.cmake").read_text()
    tiers = set(re.findall(r"^qkernels_tier\((\w+)", table, re.MULTILINE))
    assert len(names - tiers) > 10
    for name in names - tiers:
        assert hasattr(qk, name), f"README names qk.{name}"
