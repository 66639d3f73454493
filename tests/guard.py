# SPDX-License-Identifier: Apache-2.0
"""Arrays that touch unmapped memory: one byte read or written outside ends the process."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
PROT_NONE = 0


def guarded(array: np.ndarray, *, at_end: bool) -> np.ndarray:
    """A copy of `array` that ends (or begins) exactly where an inaccessible page does."""
    pages = -(-max(array.nbytes, 1) // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    raw = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for page in (0, pages - 1):
        if protect(raw.ctypes.data + page * PAGE, PAGE, PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = (pages - 1) * PAGE - array.nbytes if at_end else PAGE
    result: Any = raw[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    result[...] = array
    return result
