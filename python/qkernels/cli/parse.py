# SPDX-License-Identifier: Apache-2.0
"""Types of arguments: argparse turns what they raise into one line that names the option."""

from __future__ import annotations

import argparse
import errno
import math
import os
from collections.abc import Iterable
from pathlib import Path


def count(text: str) -> int:
    """An integer of at least 1."""
    if not (text.isascii() and text.isdecimal()) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def counts(text: str) -> list[int]:
    """Integers of at least 1, separated by commas."""
    return [count(part.strip()) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Names separated by commas."""
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"must be names separated by commas, not {text!r}")
    return found


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


def shape(text: str) -> tuple[int, int, int]:
    """M,K,N (or MxKxN)."""
    sizes = text.replace("x", ",").split(",")
    if len(sizes) != 3:
        raise argparse.ArgumentTypeError(f"must be M,K,N, not {text!r}")
    m, k, n = (count(size.strip()) for size in sizes)
    return m, k, n


def shapes(text: str) -> list[tuple[int, int, int]]:
    """M,K,N separated by semicolons."""
    return [shape(part) for part in text.split(";")]


def check_folders(paths: Iterable[Path | None]) -> None:
    """Raises FileNotFoundError for a file to write whose folder is not there: before the work,
    not after it."""
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
