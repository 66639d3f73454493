# SPDX-License-Identifier: Apache-2.0
"""The forms of a linear or convolution call: which inputs give which output.

    x                   x_scale  out_scale  output
    float               no       no         float32, quantized by the row or image (dynamic)
    float               yes      no         float32, or int32 if out_dtype says so; x to int8 first
    float               yes      yes        int8, or uint8 if out_dtype says so; x to int8 first
    int8, uint8         no       no         int32
    int8, uint8         yes      no         float32, or int32 if out_dtype says so
    int8, uint8         yes      yes        x's dtype, or what out_dtype says of int8 and uint8

Everything else is refused here, with the arguments named. What does not depend on the dtype of x
is settled once, in a `Request`; the rest when a dtype comes for the first time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from qkernels import arrays, checks
from qkernels.arrays import Array
from qkernels.errors import QKernelsTypeError, QKernelsValueError

OUT_DTYPES = ("int8", "uint8", "int32", "float32")
CURVES = ("gelu", "silu", "tanh", "sigmoid", "hardswish")
CLIPS = {"relu": (0.0, math.inf), "relu6": (0.0, 6.0)}


class Weights(NamedTuple):
    """What packed weights bring along; without them, so that a cached call makes no cycle."""

    scale: Any  # float32 scalar or (N,), or None
    zero_point: Any  # int32 scalar or (N,)
    bias: Array | None  # float32 or int32 (N,)


class Request(NamedTuple):
    """The arguments of a call, checked as far as x does not matter. Hashable."""

    x_scale: float | None
    x_zero_point: int
    out_scale: float | None
    out_zero_point: int
    out_dtype: str | None
    activation: str  # "identity", "clip" or a curve
    bounds: tuple[float, float]  # of "clip"
    rounding: str


class Form(NamedTuple):
    """A request resolved for one dtype of x."""

    arguments: dict[str, Any]  # of the core's prepared op
    out_dtype: str
    quantize: tuple[float, int] | None  # scale and zero point that turn a float x into int8 first


def request(
    x_scale: Any = None,
    x_zero_point: Any = 0,
    out_scale: Any = None,
    out_zero_point: Any = 0,
    out_dtype: Any = None,
    activation: Any = None,
    rounding: Any = "nearest_even",
) -> Request:
    """Check the arguments that linear and convolution share."""
    x_scale = None if x_scale is None else checks.scalar_scale(x_scale, "x_scale")
    out_scale = None if out_scale is None else checks.scalar_scale(out_scale, "out_scale")
    # The dtypes that zero points belong to are not known yet: both ranges are allowed here.
    x_zero_point = _any_zero_point(x_zero_point, "x_zero_point")
    out_zero_point = _any_zero_point(out_zero_point, "out_zero_point")
    checks.choice(rounding, checks.ROUNDINGS, "rounding")
    if out_dtype is not None:
        out_dtype = checks.dtype_name(out_dtype, OUT_DTYPES, "out_dtype")
    if out_scale is not None:
        if x_scale is None:
            raise QKernelsValueError("out_scale needs x_scale: the scale of x is not known")
        if out_dtype in ("float32", "int32"):
            raise QKernelsValueError(
                f"out_scale belongs to int8 and uint8 output, not to out_dtype={out_dtype!r}"
            )
    else:
        if out_dtype in arrays.CODES:
            raise QKernelsValueError(f"out_dtype={out_dtype!r} needs out_scale")
        if out_zero_point:
            raise QKernelsValueError(f"out_zero_point={out_zero_point} needs out_scale")
    kind, bounds = _activation(activation)
    if kind in CURVES and out_scale is not None:
        raise QKernelsValueError(f"activation={kind!r} needs float32 output: leave out_scale away")
    if kind != "identity" and out_dtype == "int32":
        raise QKernelsValueError("activation does not go with out_dtype='int32'")
    return Request(
        x_scale, x_zero_point, out_scale, out_zero_point, out_dtype, kind, bounds, rounding
    )


def resolve(wanted: Request, x_dtype: str, weights: Weights) -> Form:
    """The form of a call for an x of `x_dtype`."""
    if x_dtype in arrays.REALS:
        if wanted.x_scale is None:
            return _dynamic(wanted, x_dtype, weights)
        quantize: tuple[float, int] | None = (
            wanted.x_scale,
            checks.scalar_zero_point(wanted.x_zero_point, "x_zero_point", "int8"),
        )
        default, code = "float32", "int8"
    elif x_dtype in arrays.CODES:
        quantize, code = None, x_dtype
        default = "int32" if wanted.x_scale is None else "float32"
    else:
        hint = ": pass x.astype('float32')" if x_dtype == "float64" else ""
        raise QKernelsTypeError(
            f"x must be int8, uint8, float32, float16 or bfloat16, not {x_dtype}{hint}"
        )
    if wanted.out_scale is not None:
        default = code
    out_dtype = wanted.out_dtype or default
    _static_checks(wanted, out_dtype, weights)
    x_zero_point = checks.scalar_zero_point(wanted.x_zero_point, "x_zero_point", code)
    arguments = _common(wanted, code, out_dtype, weights) | {"x_zero_point": x_zero_point}
    if wanted.x_scale is not None and "w_scale" in arguments:
        arguments["x_scale"] = wanted.x_scale
    if wanted.out_scale is not None:
        arguments["out_scale"] = wanted.out_scale
        arguments["out_zero_point"] = checks.scalar_zero_point(
            wanted.out_zero_point, "out_zero_point", out_dtype
        )
    return Form(arguments, out_dtype, quantize)


def _dynamic(wanted: Request, x_dtype: str, weights: Weights) -> Form:
    """A float x without x_scale."""
    if wanted.x_zero_point:
        raise QKernelsValueError(
            f"x_zero_point={wanted.x_zero_point} needs x_scale: without it a float x is quantized "
            "symmetrically by its own range"
        )
    if wanted.out_dtype == "int32":
        raise QKernelsValueError(
            f"out_dtype='int32' needs x_scale for a {x_dtype} x, which is quantized on the fly"
        )
    if weights.scale is None:
        raise QKernelsValueError(
            f"weight_scale is needed for integer weights and a {x_dtype} x: the output is float32"
        )
    if weights.bias is not None and weights.bias.dtype == np.int32:
        raise QKernelsValueError(
            f"an int32 bias does not go with a {x_dtype} x without x_scale, whose scale changes "
            "with the data: give a float bias"
        )
    return Form(_common(wanted, x_dtype, "float32", weights), "float32", None)


def _static_checks(wanted: Request, out_dtype: str, weights: Weights) -> None:
    """An x of known scale, or of none."""
    float_bias = weights.bias is not None and weights.bias.dtype == np.float32
    if wanted.x_scale is None:
        if out_dtype == "float32":
            raise QKernelsValueError("out_dtype='float32' needs x_scale for an integer x")
        if float_bias:
            raise QKernelsValueError("a float bias needs x_scale: give x_scale or an int32 bias")
    if out_dtype == "int32" and wanted.activation != "identity":
        raise QKernelsValueError("activation does not go with int32 output: give x_scale")
    if weights.scale is None and (out_dtype != "int32" or float_bias):
        why = f"{out_dtype} output" if out_dtype != "int32" else "a float bias"
        raise QKernelsValueError(f"weight_scale is needed for integer weights and {why}")


def _common(wanted: Request, x_dtype: str, out_dtype: str, weights: Weights) -> dict[str, Any]:
    """Arguments of the core that every form has."""
    arguments: dict[str, Any] = {"x_dtype": x_dtype, "out_dtype": out_dtype}
    bias = weights.bias
    # Plain sums have no use for scales.
    if out_dtype != "int32" or (bias is not None and bias.dtype == np.float32):
        arguments["w_scale"] = at_least_one(weights.scale, np.float32(1))
    zero_point = np.asarray(weights.zero_point, np.int32)
    if zero_point.any():
        arguments["w_zero_point"] = np.atleast_1d(zero_point)
    if bias is not None:
        arguments["bias"] = bias
    if out_dtype in arrays.CODES:
        arguments["rounding"] = wanted.rounding
    if wanted.activation != "identity":
        arguments["activation"] = wanted.activation
        if wanted.activation == "clip":
            arguments["activation_lo"], arguments["activation_hi"] = wanted.bounds
    return arguments


def at_least_one(values: Any, filler: Any) -> Array:
    """(1,) or (N,); a lone filler for no channels at all, as the core takes no empty array."""
    array = np.atleast_1d(np.asarray(values))
    return array if array.size else np.atleast_1d(filler)


def described(form: Form) -> str:
    """The scales of a form, for the message of a core failure."""
    parts = [
        f"{name}={form.arguments[key]:g}"
        for name, key in (("x_scale", "x_scale"), ("out_scale", "out_scale"))
        if key in form.arguments
    ]
    scale = form.arguments.get("w_scale")
    if scale is not None:
        parts.append(f"weight_scale in [{scale.min():g}, {scale.max():g}]")
    return f" ({', '.join(parts)})" if parts else ""


def _any_zero_point(value: Any, name: str) -> int:
    if type(value) is int and -128 <= value <= 255:
        return value
    result = checks.zero_point(value, name, -128, 255, "int8 and uint8")
    if result.ndim:
        raise QKernelsValueError(f"{name} must be a scalar, not of shape {result.shape}")
    return int(result)


def _activation(value: Any) -> tuple[str, tuple[float, float]]:
    if value is None:
        return "identity", (-math.inf, math.inf)
    if isinstance(value, str):
        checks.choice(value, (*CLIPS, *CURVES), "activation")
        return ("clip", CLIPS[value]) if value in CLIPS else (value, (-math.inf, math.inf))
    return "clip", checks.bounds(value)
