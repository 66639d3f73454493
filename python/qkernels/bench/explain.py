# SPDX-License-Identifier: Apache-2.0
"""Why int8 is no faster here than it is: where the time of a linear layer goes.

The layer is the drop-in one: float32 in, quantized a row at a time, float32 out. Its pieces come
from differences of measured calls, which take turns:

- call: a prepared call on next to no data;
- quantize: the layer less the same layer on rows that are int8 already, and no more than
  `dynamic_quantize` of those rows takes;
- dots and memory: what the depth costs, twice the difference to half the depth; of it as much as
  the tier's peak needs is dots, and the rest waiting for memory, where bandwidth binds;
- epilogue: what is left, which does not grow with the depth: scaling sums, storing them, blocking.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from qkernels import checks, machine
from qkernels.display.table import Column, byte_size, plain_table, three_digits
from qkernels.linear import pack_linear
from qkernels.quantization.functional import dynamic_quantize

from . import limits, roofline
from .peers.numpy_ import limit_blas

SECONDS, QUICK_SECONDS = 1.0, 0.2
_TURN_SECONDS = 1e-3
_MIN_ROUNDS = 7
_LARGE = 0.25  # share of the time that deserves a sentence
_VALUES = 1 << 31  # of all operands together, at most

Call = Callable[[], object]


@dataclass(frozen=True)
class Piece:
    """A part of the time of a call."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Explanation:
    """What `explain_linear` found. Times are seconds of a call.

    Attributes:
        m, k, n, threads, isa: what was measured.
        float32: the product by NumPy with its bias. int8: float32 in and out. static: int8 in and
            out.
        pieces: of `int8`; they add up to it.
        sentences: what follows from them.
    """

    m: int
    k: int
    n: int
    threads: int
    isa: str
    float32: float
    int8: float
    static: float
    pieces: tuple[Piece, ...]
    sentences: tuple[str, ...]

    def piece(self, name: str) -> float:
        return next(piece.seconds for piece in self.pieces if piece.name == name)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        columns: list[Column[Piece]] = [
            Column(("piece", ""), lambda piece: piece.name, right=False),
            Column(("us", ""), lambda piece: three_digits(1e6 * piece.seconds)),
            Column(("share", ""), lambda piece: f"{100 * piece.seconds / self.int8:.0f} %"),
        ]
        title = (
            f"linear, {self.m} rows, {self.k} deep, {self.n} columns, {self.isa}, "
            f"{self.threads} thread{'s'[: self.threads != 1]}"
        )
        whole = Piece("int8, float32 in and out", self.int8)
        table = plain_table(columns, [*self.pieces, whole])
        return "\n".join([title, "", table, "", *self.sentences])


def explain_linear(
    m: int, k: int, n: int, *, threads: int | None = None, quick: bool = False
) -> Explanation:
    """Measure a linear layer of (m, k) @ (k, n) and say where its time goes.

    threads: default those of this call. quick: a fifth of a second for each measurement instead of
    one. Raises QKernelsError for sizes that cannot be.
    """
    for name, value in (("m", m), ("k", k), ("n", n)):
        checks.integer(value, name, 1, _VALUES)
    checks.integer(m * k + k * n + m * n, "m * k + k * n + m * n", 1, _VALUES)
    threads = (
        machine.get_num_threads() if threads is None else checks.integer(threads, "threads", 1)
    )
    with machine.num_threads(threads):
        measured = limits.measure(threads, quick=True)
        times = _measure(m, k, n, threads, QUICK_SECONDS if quick else SECONDS)
    return interpret(m, k, n, threads, machine.isa(), times, measured)


def _measure(m: int, k: int, n: int, threads: int, seconds: float) -> dict[str, float]:
    """Seconds of a call of each kind that `interpret` needs."""
    rng = np.random.default_rng(m * 1_000_003 + k * 1009 + n)
    x = rng.standard_normal((m, k), dtype=np.float32)
    weight = rng.standard_normal((n, k), dtype=np.float32)
    bias = rng.standard_normal(n, dtype=np.float32)
    codes = rng.integers(-127, 128, (m, k)).astype(np.int8)
    half = (k + 1) // 2
    packed, shallow = pack_linear(weight, bias), pack_linear(weight[:, :half].copy(), bias)
    out, out8 = np.empty((m, n), np.float32), np.empty((m, n), np.int8)
    right = np.ascontiguousarray(weight.T)
    short = np.ascontiguousarray(codes[:, :half])
    dynamic, real = packed.bind(), packed.bind(x_scale=0.02)
    static = packed.bind(x_scale=0.02, out_scale=0.1)
    half_real = shallow.bind(x_scale=0.02)

    def product() -> None:
        np.matmul(x, right, out=out)
        np.add(out, bias, out=out)

    held = limit_blas(threads)
    try:
        return in_turns(
            {
                "float32": product,
                "rows": lambda: dynamic_quantize(x),
                "dynamic": lambda: dynamic(x, out),
                "real": lambda: real(codes, out),
                "static": lambda: static(codes, out8),
                "half": lambda: half_real(short, out),
            },
            seconds,
        )
    finally:
        if held is not None:
            held.restore_original_limits()


def in_turns(calls: Mapping[str, Call], seconds: float) -> dict[str, float]:
    """Seconds of each call in the best of many rounds, in which they take turns; `seconds` is for
    each. The best, because pieces are differences: what disturbs a round would swamp them."""
    counts = {}
    for name, call in calls.items():
        call()
        once = limits.least_time(call, calls=1, tries=3)
        counts[name] = max(1, math.ceil(_TURN_SECONDS / max(once, 1e-9)))
    best = dict.fromkeys(calls, math.inf)
    names = list(calls)
    deadline = time.perf_counter() + seconds * len(calls)
    rounds = 0
    while rounds < _MIN_ROUNDS or time.perf_counter() < deadline:
        for name in names:
            calls[name]()  # what ran before has filled the caches
            once = limits.least_time(calls[name], counts[name], tries=1)
            best[name] = min(best[name], once)
        names.append(names.pop(0))  # nobody always follows the same one
        rounds += 1
    return best


def interpret(
    m: int,
    k: int,
    n: int,
    threads: int,
    isa: str,
    times: Mapping[str, float],
    measured: Mapping[str, Any],
) -> Explanation:
    """The pieces and sentences from the limits and the seconds of each call: "float32", "dynamic",
    "rows" (`dynamic_quantize`), "real" (int8 in, float32 out), "static", and "half" ("real" with
    half the depth)."""
    whole = times["dynamic"]
    call = min(measured["overhead"], whole)
    quantize = min(max(whole - times["real"], 0.0), times["rows"], whole - call)
    rest = whole - call - quantize
    least = m * k * n / (1e9 * measured["dots"][isa])
    size = m * k + k * n + 4 * m * n
    moves = roofline.memory_times(size, threads, measured)
    level = max(moves, key=lambda name: moves[name])
    moving = moves[level]
    # Half the depth of 1 is 1: then the depth costs what the dots cost at least.
    half = k - (k + 1) // 2
    depth = (times["real"] - times["half"]) * k / half if half else least
    depth = min(rest, max(depth, least, moving))
    dots = min(depth, least) if moving > least else depth
    pieces = (
        Piece("call", call),
        Piece("quantize", quantize),
        Piece("dots", dots),
        Piece("memory", depth - dots),
        Piece("epilogue", rest - depth),
    )
    found = Explanation(m, k, n, threads, isa, times["float32"], whole, times["static"], pieces, ())
    sentences = tuple(_sentences(found, measured, level))
    return Explanation(**{**found.__dict__, "sentences": sentences})


def _sentences(e: Explanation, measured: Mapping[str, Any], level: str) -> Sequence[str]:
    ratio = measured["dots"][e.isa] / measured["float32"]
    found = [
        f"int8 takes {_us(e.int8)}, float32 by NumPy {_us(e.float32)}: "
        f"{compared(e.float32, e.int8)}.",
        f"With int8 in and out, scales calibrated ahead, it takes {_us(e.static)}: "
        f"{compared(e.float32, e.static)}.",
        f"The most that dots alone could give here is {three_digits(ratio)} times float32: "
        f"{three_digits(measured['dots'][e.isa])} against {three_digits(measured['float32'])} "
        f"GMAC/s.",
    ]
    if ratio < 2:
        found.append(
            f"The {e.isa} tier has no instruction that multiplies and adds bytes exactly: it "
            "widens them first, and that holds the gain down."
        )
    for piece in sorted(e.pieces, key=lambda piece: -piece.seconds):
        share = piece.seconds / e.int8
        if share >= _LARGE:
            reason = _reason(piece, e, measured, level)
            found.append(f"{100 * share:.0f} % of the int8 time {reason}")
    return found


def _reason(piece: Piece, e: Explanation, measured: Mapping[str, Any], level: str) -> str:
    """What a large piece means, and what would help."""
    if piece.name == "call":
        return "is the call itself, whatever the layer: more rows a call are the remedy."
    if piece.name == "quantize":
        return (
            "goes into quantizing float32 rows: a calibrated x_scale, and layers that hand int8 to "
            "each other, save it."
        )
    if piece.name == "dots":
        rate = e.m * e.k * e.n / piece.seconds / 1e9
        reach = 100 * rate / measured["dots"][e.isa]
        return (
            f"is dots, at {three_digits(rate)} GMAC/s, {reach:.0f} % of the tier's peak: only a "
            "faster tier or more threads would help."
        )
    if piece.name == "memory":
        return (
            f"is waiting for memory: {byte_size(e.k * e.n)} of weights come from {level} at "
            f"{three_digits(measured['read'][level])} GB/s at most, and int8 can gain no more than "
            "a factor of 4, the bytes it saves. More rows a call use each weight more often."
        )
    return (
        "is outside the depth: scaling and storing sums, and handing out work; each output has "
        f"{e.k} products to share it."
    )


def compared(float32: float, int8: float) -> str:
    """ "2.31 times as fast", "1.40 times as slow", or "the same", within 5 %."""
    ratio = float32 / int8
    if abs(ratio - 1) < 0.05:
        return "the same"
    if ratio > 1:
        return f"{three_digits(ratio)} times as fast"
    return f"{three_digits(1 / ratio)} times as slow"


def _us(seconds: float) -> str:
    return f"{three_digits(1e6 * seconds)} us"
