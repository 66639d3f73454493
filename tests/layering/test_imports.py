# SPDX-License-Identifier: Apache-2.0
"""Who may import what in python/qkernels."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from support import ROOT

PACKAGE = ROOT / "python" / "qkernels"
pytestmark = pytest.mark.skipif(not PACKAGE.is_dir(), reason="the package's sources are not here")
# Optional package: the rooms whose functions may import it. Nobody may at module level.
OPTIONAL = {
    "torch": ("frontends", "integrations"),
    "onnx": ("frontends", "integrations"),
    "matplotlib": ("comparison", "bench"),
    "rich": ("cli", "bench"),
    "onnxruntime": ("bench",),
    "threadpoolctl": ("integrations", "bench"),
}


def imports(path: Path):
    """(top-level package, is it imported at module level, by `if TYPE_CHECKING` or not)."""
    tree = ast.parse(path.read_text())

    def visit(node, top):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name.split(".")[0], top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module and not child.level:
                yield child.module.split(".")[0], top
            elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            else:
                inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, top and not inside)

    return list(visit(tree, True))


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_imports(path):
    room = path.relative_to(PACKAGE).parts[0]
    for package, top in imports(path):
        if package in sys.stdlib_module_names or package in ("qkernels", "numpy"):
            continue
        assert package in OPTIONAL, f"{package} is no dependency of qkernels"
        assert room in OPTIONAL[package], f"{package} may be imported in {OPTIONAL[package]} only"
        assert not top, f"{package} is optional: import it inside the function that needs it"


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.relative_to(PACKAGE).as_posix()
)
def test_importing_changes_nothing_in_the_environment(path):
    text = path.read_text()
    for call in ("os.environ[", "os.putenv", "environ.update", "environ.setdefault"):
        assert call not in text
