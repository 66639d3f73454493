# SPDX-License-Identifier: Apache-2.0
"""An aarch64 CPython from Debian's arm64 packages, for an x86-64 machine with qemu-user.

    python scripts/arm_root.py FOLDER

The packages are unpacked into FOLDER, not installed, by an apt with a state of its own: nothing
changes outside and nothing needs root. FOLDER/usr/bin/python3 starts the interpreter under qemu,
from a shell or as its own sys.executable; QEMU_CPU names the CPU model (default: max).
"""

from __future__ import annotations

import compileall
import re
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = ("python3", "libpython3-dev", "libstdc++6")
EMULATOR = "qemu-aarch64-static"


def run(*command: str | Path) -> None:
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}{command[0]} failed: Debian's arm64 packages were not to be had")


def download(state: Path) -> list[Path]:
    """The packages and all that they depend on, as for a machine that has nothing."""
    for name in ("lists/partial", "archives/partial"):
        (state / name).mkdir(parents=True)
    (state / "status").touch()
    settings = (
        "APT::Architecture=arm64",
        "APT::Architectures=arm64",
        "APT::Sandbox::User=",
        f"Dir::State={state}",
        f"Dir::State::status={state / 'status'}",
        f"Dir::Cache={state}",
    )
    apt = ["apt-get", "--quiet", *(f"--option={setting}" for setting in settings)]
    run(*apt, "update")
    run(*apt, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES)
    return sorted((state / "archives").glob("*.deb"))


def interpreter(root: Path) -> Path:
    """usr/bin/python3.N."""
    found = [p for p in root.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", p.name)]
    if len(found) != 1:
        sys.exit(f"{root}: expected one python3.N in usr/bin, found {len(found)}")
    return found[0]


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    complete = root / "complete"
    if not complete.exists():
        shutil.rmtree(root, ignore_errors=True)
        for package in download(root / "apt"):
            run("dpkg-deb", "--extract", package, root)
        shutil.rmtree(root / "apt")
        python = interpreter(root)
        # Compiled here where the versions agree: under emulation that takes minutes.
        if python.name == f"python3.{sys.version_info.minor}":
            compileall.compile_dir(root / "usr/lib" / python.name, quiet=2)
        start = root / "usr/bin/python3"
        start.unlink(missing_ok=True)
        start.write_text(
            f'#!/bin/sh\nexec {EMULATOR} -0 "$0" -L "{root}" "{python}" "$@"\n', encoding="utf-8"
        )
        start.chmod(0o755)
        complete.touch()
    done = subprocess.run(
        [root / "usr/bin/python3", "-c", "import platform; print(platform.machine())"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.strip() != "aarch64":
        sys.exit(f"{root / 'usr/bin/python3'} does not run: {done.stderr}")
    sys.stdout.write(f"{interpreter(root).name} for aarch64 in {root}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
