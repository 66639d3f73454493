# SPDX-License-Identifier: Apache-2.0
"""verify: what a quantization did to a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import arrays, checks
from qkernels.errors import QKernelsTypeError, QKernelsValueError
from qkernels.quantization.functional import dequantize, real_operand
from qkernels.quantization.qparams import QParams

_ERROR_BINS = 32


@dataclass(frozen=True, eq=False)
class QuantizationError:
    """The error of a quantized tensor; `str` gives a table.

    max_abs_error, mean_abs_error, mse: of (q - zero_point) * scale - x, in real units.
    sqnr_db: 10 log10(sum x^2 / sum error^2), infinite when there is no error.
    cosine: between x and its dequantized form; 1 when both are zero.
    clipped_share: part of the elements whose code lay outside the dtype before clamping.
    unused_codes: how many codes of the dtype q never uses.
    histogram, histogram_edges: counts of the error in 32 bins over [-max, max], and their edges.
    """

    max_abs_error: float
    mean_abs_error: float
    mse: float
    sqnr_db: float
    cosine: float
    clipped_share: float
    unused_codes: int
    histogram: NDArray[np.int64]
    histogram_edges: NDArray[np.float64]

    def __str__(self) -> str:
        rows = {
            "max abs error": self.max_abs_error,
            "mean abs error": self.mean_abs_error,
            "MSE": self.mse,
            "SQNR dB": self.sqnr_db,
            "cosine": self.cosine,
            "clipped share": self.clipped_share,
            "unused codes": self.unused_codes,
        }
        lines = [f"{name:<16}{value:>14.6g}" for name, value in rows.items()]
        return "\n".join([*lines, "error histogram", *self._bars()])

    def _bars(self) -> list[str]:
        # Pairs of bins: 16 lines, the longest bar 40 wide.
        counts = self.histogram.reshape(-1, 2).sum(axis=1)
        edges = self.histogram_edges[::2]
        peak = max(int(counts.max()), 1)
        return [
            f"{edges[i]:>12.4g} .. {edges[i + 1]:<12.4g}{count:>10d} {'#' * (40 * count // peak)}"
            for i, count in enumerate(counts.tolist())
        ]


def verify(x: Any, q: Any, qparams: QParams) -> QuantizationError:
    """Compare x with q, its quantized form under qparams.

    x: float32, float16 or bfloat16, finite; q: int8 or uint8, the same shape, codes in the range
    of qparams.dtype. Raises QKernelsError when they do not fit each other.

    >>> import numpy as np, qkernels as qk
    >>> x = np.linspace(-1, 1, 101, dtype=np.float32)
    >>> qparams = qk.choose_qparams(x)
    >>> error = qk.verify(x, qk.quantize(x, qparams.scale), qparams)
    >>> error.max_abs_error < 0.008, error.clipped_share, error.sqnr_db > 40
    (True, 0.0, True)
    """
    if not isinstance(qparams, QParams):
        raise QKernelsTypeError(f"qparams must be a QParams, not {checks.shown(qparams)}")
    real = arrays.widened(real_operand(x, "x", "verify")).astype(np.float64)
    codes = arrays.operand(q, "q")
    low, high = checks.CODE_RANGES[qparams.dtype]
    expected = "int8" if low < 0 else "uint8"
    if codes.dtype != expected:
        raise QKernelsTypeError(f"q must be {expected} for {qparams.dtype}, not {codes.dtype}")
    if codes.data.shape != real.shape:
        raise QKernelsValueError(f"q has shape {codes.data.shape}, but x has {real.shape}")
    if real.size == 0 or not np.isfinite(real).all():
        raise QKernelsValueError("x must be finite and not empty")
    if codes.data.min() < low or codes.data.max() > high:
        raise QKernelsValueError(f"q must lie in [{low}, {high}] for {qparams.dtype}")

    back = dequantize(codes.data, qparams.scale, qparams.zero_point, axis=qparams.axis)
    back = back.astype(np.float64)
    error = back - real
    worst = float(np.abs(error).max())
    noise, signal, power = (float(np.vdot(v, v)) for v in (error, real, back))
    norm = np.sqrt(signal) * np.sqrt(power)
    edge = worst or 1.0
    counts, edges = np.histogram(error, bins=_ERROR_BINS, range=(-edge, edge))
    return QuantizationError(
        max_abs_error=worst,
        mean_abs_error=float(np.abs(error).mean()),
        mse=noise / real.size,
        sqnr_db=float(10 * np.log10(signal / noise)) if noise and signal else _no_ratio(noise),
        cosine=float(np.vdot(real, back) / norm) if norm else float(signal == power),
        clipped_share=_clipped_share(real.astype(np.float32), qparams, low, high),
        unused_codes=high - low + 1 - len(np.unique(codes.data)),
        histogram=counts,
        histogram_edges=edges,
    )


def _no_ratio(noise: float) -> float:
    return -np.inf if noise else np.inf


def _clipped_share(x: NDArray[np.float32], qparams: QParams, low: int, high: int) -> float:
    shape = [1] * x.ndim
    if qparams.axis is not None:
        shape[qparams.axis] = -1
    scale, zero_point = (
        np.reshape(part, shape) if np.ndim(part) else part
        for part in (qparams.scale, qparams.zero_point)
    )
    with np.errstate(over="ignore"):
        code = np.rint(x / scale) + zero_point
    return float(np.mean((code < low) | (code > high)))
