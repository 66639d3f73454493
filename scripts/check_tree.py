# SPDX-License-Identifier: Apache-2.0
"""Rules of the tree that no linter knows: lengths, sizes, licence lines, line ends.

Prints each breach as path: reason and exits with 1 when there is one.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CODE = {".py", ".pyi", ".h", ".cc", ".c", ".cmake"}
TEXT = CODE | {".md", ".toml", ".yaml", ".yml", ".json", ".txt"}
LICENSED = {".h", ".cc", ".c"}
MAX_LINES = 600
MAX_BYTES = 400_000
LICENCE = "SPDX-License-Identifier: Apache-2.0"


def tracked() -> list[Path]:
    """Files of the repository, new ones included, ignored ones not."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "-co", "--exclude-standard", "-z"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    paths = sorted({ROOT / name for name in listing.stdout.split("\0") if name})
    return [path for path in paths if path.is_file()]


def breaches(path: Path) -> Iterator[str]:
    """What is wrong with one file, a sentence each."""
    data = path.read_bytes()
    if len(data) > MAX_BYTES:
        yield f"{len(data)} bytes, at most {MAX_BYTES}"
    if path.suffix not in TEXT:
        return
    lines = data.decode().split("\n")
    if data and lines[-1]:
        yield "no newline at the end"
    if path.suffix in CODE and len(lines) - 1 > MAX_LINES:
        yield f"{len(lines) - 1} lines, at most {MAX_LINES}"
    if path.suffix in LICENSED and data and not any(LICENCE in line for line in lines[:2]):
        yield f"no line '{LICENCE}' at the top"
    for number, line in enumerate(lines, start=1):
        if line != line.rstrip():
            yield f"line {number} ends in white space"


def main() -> int:
    found = [f"{path.relative_to(ROOT)}: {text}" for path in tracked() for text in breaches(path)]
    sys.stdout.writelines(f"{line}\n" for line in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
