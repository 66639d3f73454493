# SPDX-License-Identifier: Apache-2.0
"""Who may include whom in csrc/: the table of ARCHITECTURE.md as a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support import ROOT

CSRC = ROOT / "csrc"
pytestmark = pytest.mark.skipif(
    not CSRC.is_dir(), reason="the C++ sources are not beside the tests"
)

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)
API = ("qkernels/",)
CONTRACT = ("kernels/contract.h",)
# Room: the prefixes of our own headers that its files may include. The first match counts.
OURS = {
    "include": (),
    "core": ("core/", "tiers.inc", *API, *CONTRACT),
    "kernels/contract.h": (),
    "kernels/tier_decl.h": CONTRACT,
    "kernels/simd": ("kernels/simd/", *CONTRACT),
    "kernels": ("kernels/simd/", "kernels/tier_decl.h", *CONTRACT),
    "pack": ("pack/", "core/", *API, *CONTRACT),
    "ops": ("ops/", "pack/", "core/", *API, *CONTRACT),
    "plan": ("plan/", "ops/", "pack/", "core/", *API, *CONTRACT),
    "python": ("arrays.h", "plain.h", *API),
}
INTRINSICS = {"immintrin.h", "arm_neon.h"}
C_HEADERS = {"stdint.h", "stddef.h", "string.h"}
ISA_MACRO = re.compile(
    r"__(AVX|SSE|AMX|FMA|F16C|ARM_NEON|ARM_FEATURE)\w*|\b_mm\d*_|\bv\w+q?_[fsu](8|16|32)\b"
)


def sources():
    return sorted(p for p in CSRC.rglob("*") if p.suffix in (".h", ".cc", ".c", ".inc"))


def name(path: Path) -> str:
    return path.relative_to(CSRC).as_posix()


def room(path: Path) -> str:
    return next(r for r in OURS if name(path) == r or name(path).startswith(f"{r}/"))


@pytest.mark.parametrize("path", sources(), ids=name)
def test_own_headers(path):
    allowed = OURS[room(path)]
    for quote, header in INCLUDE.findall(path.read_text()):
        own = quote == '"' or header.startswith(API)
        if own:
            assert header.startswith(allowed), f"{room(path)}/ may not include {header}"


@pytest.mark.parametrize("path", [p for p in sources() if name(p).startswith("kernels/")], ids=name)
def test_kernels_use_no_cpp_standard_header(path):
    """An inline function of one, compiled with a tier's flags, may be the copy the linker keeps."""
    allowed = C_HEADERS | (INTRINSICS if room(path) in ("kernels", "kernels/simd") else set())
    for quote, header in INCLUDE.findall(path.read_text()):
        assert quote == '"' or header in allowed, header


@pytest.mark.parametrize(
    "path",
    [p for p in sources() if room(p) in ("ops", "pack", "python", "include", "plan")],
    ids=name,
)
def test_no_instruction_set_outside_kernels(path):
    text = path.read_text()
    assert not INTRINSICS & {header for _, header in INCLUDE.findall(text)}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.lstrip().startswith(("//", "*", "/*")):
            assert not ISA_MACRO.search(line), f"line {number}: {line.strip()}"


@pytest.mark.parametrize(
    "path", [p for p in sources() if room(p) in ("ops", "pack", "python", "core", "plan")], ids=name
)
def test_no_tier_is_named_outside_kernels(path):
    """Code that needs `if (tier == ...)` lacks a field in a descriptor."""
    tiers = [p.name for p in (CSRC / "kernels").iterdir() if p.is_dir() and p.name != "simd"]
    found = re.findall(rf'"({"|".join(tiers)})"', path.read_text())
    assert set(found) <= {"scalar"}
