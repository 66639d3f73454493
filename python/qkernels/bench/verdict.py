# SPDX-License-Identifier: Apache-2.0
"""Is an answer right? Judged before anything is timed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .case import Array, Case, Data

# Root mean square error of a float answer relative to the right one. Eight bits of activations
# cost about 1 %; the digits network has seven layers of them.
TOLERANCE = 0.02
_DIGITS_TOLERANCE = 0.1
_FEW = 0.01  # of the outputs may be a step off where somebody rounds elsewhere


class Verdict(NamedTuple):
    """status: "ok", "rounds elsewhere" or "wrong"; note: what differs, empty when nothing does."""

    status: str
    note: str


def judge(case: Case, data: Data, answer: Array) -> Verdict:
    """Compare an answer with the definition.

    Codes must be equal; at most one step off in under 1 % of the outputs "rounds elsewhere". int8
    codes count as uint8 codes minus 128. int32 sums must be equal. A float answer is compared with
    the real values by its root mean square error.
    """
    expected = data.expected
    if answer.shape != expected.shape:
        return Verdict("wrong", f"shape {answer.shape}, expected {expected.shape}")
    if answer.dtype.kind == "f":
        real = expected if expected.dtype.kind == "f" or not data.real.size else data.real
        return _judge_real(case, answer, real)
    if expected.dtype == np.int32:
        if answer.dtype != np.int32:
            return Verdict("wrong", f"dtype {answer.dtype}, expected int32")
    elif answer.dtype.name not in ("int8", "uint8") or expected.dtype.kind == "f":
        return Verdict("wrong", f"dtype {answer.dtype}, expected {expected.dtype}")
    off = np.abs(_common(answer) - _common(expected))
    wrong = int(np.count_nonzero(off))
    if not wrong:
        return Verdict("ok", "")
    share, largest = wrong / off.size, int(off.max())
    unit = "step" if expected.itemsize == 1 else "unit"
    note = f"{_percent(share)} of the outputs differ, by up to {largest} {unit}{'s'[: largest > 1]}"
    near = expected.itemsize == 1 and largest == 1 and share < _FEW
    return Verdict("rounds elsewhere" if near else "wrong", note)


def _common(codes: Array) -> Array:
    """On one scale: int8 codes are those of uint8 minus 128."""
    wide = codes.astype(np.int64)
    return wide + 128 if codes.dtype == np.int8 else wide


def _judge_real(case: Case, answer: Array, real: Array) -> Verdict:
    size = float(np.sqrt(np.mean(np.square(real, dtype=np.float64))))
    error = answer.astype(np.float64) - real
    relative = float(np.sqrt(np.mean(np.square(error)))) / max(size, 1e-30)
    limit = _DIGITS_TOLERANCE if case.op == "digits" else TOLERANCE
    if relative <= limit:
        return Verdict("ok", "")
    if not np.isfinite(relative):
        return Verdict("wrong", "the answer holds infinities or NaN")
    return Verdict("wrong", f"root mean square error {_percent(relative)} of the answer")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"
