# SPDX-License-Identifier: Apache-2.0
"""A progress bar on stderr, drawn only when that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType

_WIDTH = 30


class Progress:
    """Counts `total` steps under a label; a context manager that removes its line at the end."""

    def __init__(self, label: str, total: int, *, shown: bool = True) -> None:
        self._label, self._total, self._done = label, total, 0
        self._shown = shown and sys.stderr is not None and sys.stderr.isatty()

    def advance(self) -> None:
        """One step done."""
        self._done += 1
        self._draw()

    def _draw(self) -> None:
        if self._shown:
            filled = _WIDTH * self._done // max(self._total, 1)
            bar = "#" * filled + "." * (_WIDTH - filled)
            sys.stderr.write(f"\r{self._label}  [{bar}] {self._done}/{self._total}")
            sys.stderr.flush()

    def __enter__(self) -> Progress:
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
