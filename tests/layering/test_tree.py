# SPDX-License-Identifier: Apache-2.0
"""The shape of the tree: tiers alike, files short, nothing of the machine it was written on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

KERNELS = ROOT / "csrc" / "kernels"
pytestmark = pytest.mark.skipif(
    not KERNELS.is_dir(), reason="the C++ sources are not beside the tests"
)
TEXT = {
    ".py",
    ".pyi",
    ".h",
    ".cc",
    ".c",
    ".cmake",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".txt",
    ".css",
}


def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git clone")
    listing = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def tiers() -> list[Path]:
    return sorted(path for path in KERNELS.iterdir() if path.is_dir() and path.name != "simd")


def test_the_same_file_names_in_every_tier():
    """A reader who knows one folder knows them all; scalar, the definition, has every file."""
    common = {path.name for path in (KERNELS / "scalar").iterdir()}
    for tier in tiers():
        names = {path.name for path in tier.iterdir()}
        assert names <= common, f"{tier.name}: {sorted(names - common)}"
        assert "tier.cc" in names


def test_a_tier_is_one_folder_and_one_line():
    text = (ROOT / "cmake" / "tiers.cmake").read_text()
    table = re.findall(r"^qkernels_tier\((\w+) (\w+) \"?(\w*)\"?", text, re.MULTILINE)
    names = [name for name, _, _ in table]
    assert sorted(names) == [tier.name for tier in tiers()]
    for index, (name, _, parent) in enumerate(table):
        assert parent in names[:index] or name == "scalar", f"{name}: parents come first"


def test_the_same_functions_in_every_vector_vocabulary():
    """What the texts over the vocabulary call, each vec_*.h defines."""

    def functions(path):
        definition = r"^(?:inline|template.*\n\s*inline)[^(;]*?\b(\w+)\("
        return set(re.findall(definition, path.read_text(), re.MULTILINE))

    headers = {path.name: path for path in (KERNELS / "simd").glob("*.h")}
    vocabularies = {
        name: functions(path) for name, path in headers.items() if name.startswith("vec_")
    }
    texts = "".join(path.read_text() for name, path in headers.items() if name not in vocabularies)
    used = {
        word for word in set().union(*vocabularies.values()) if re.search(rf"\b{word}\(", texts)
    }
    assert len(used) > 15
    for name, found in vocabularies.items():
        assert used <= found, f"{name} lacks {sorted(used - found)}"


def test_lengths_licences_and_white_space():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git clone")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check_tree.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_path_of_a_machine():
    """No home folder, temporary folder or drive of whoever wrote a file."""
    home = re.compile(r"(?<![\w./<])/(home|Users|root|work|tmp|mnt|opt)/[\w.-]+|\b[A-Z]:\\\\?\w+")
    allowed = re.compile(r"/tmp/\.\.\.|/home/user|/opt/(hostedtoolcache|intel)")
    for path in tracked():
        if path.suffix in TEXT and path != Path(__file__).resolve():
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                found = home.search(allowed.sub("", line))
                assert not found, f"{path.relative_to(ROOT)}:{number}: {line.strip()}"


def objects() -> dict[str, list[Path]]:
    """Tier: its compiled files, when QKERNELS_BUILD_DIR names a build folder."""
    folder = os.environ.get("QKERNELS_BUILD_DIR")
    if not folder:
        pytest.skip("QKERNELS_BUILD_DIR names no build folder")
    if shutil.which("nm") is None:
        pytest.skip("no nm on this machine")
    found = {
        tier.name: sorted(Path(folder).rglob(f"qkernels_tier_{tier.name}.dir/**/*.o"))
        for tier in tiers()
    }
    found = {name: files for name, files in found.items() if files}
    assert "scalar" in found, f"no objects of a tier in {folder}"
    return found


def test_symbols_stay_in_the_namespace_of_their_tier():
    """A weak or foreign symbol compiled with a tier's flags could be the one that the linker keeps
    for everybody, and run where the CPU lacks the instructions."""
    for tier, files in objects().items():
        own = re.compile(rf"\bqk::{tier}::")
        listing = subprocess.run(
            ["nm", "--demangle", "--defined-only", *map(str, files)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        seen = 0
        for line in listing.splitlines():
            parts = line.split(maxsplit=2)
            if len(parts) == 3 and parts[1] in "TDBRVWu":
                seen += 1
                assert own.search(parts[2]), f"{tier}: {line}"
        assert seen > 0
