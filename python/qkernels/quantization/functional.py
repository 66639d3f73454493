# SPDX-License-Identifier: Apache-2.0
"""quantize, dequantize, dynamic_quantize, requantize.

Each offers its arguments to the core as they come. Plain ones, which is most of them, are done
there; None means that something is not, and only then is it looked at here: refused by name, or
converted and offered again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from qkernels import _core, arrays, checks
from qkernels.arrays import Array
from qkernels.checks import Scale, ZeroPoint
from qkernels.errors import QKernelsTypeError, QKernelsValueError, from_core


def quantize(
    x: Any,
    scale: Any,
    zero_point: Any = 0,
    *,
    axis: int | None = None,
    dtype: Any = "int8",
    out: Any = None,
) -> Any:
    """clamp(rint(x / scale) + zero_point) in float32, ties to even: ONNX QuantizeLinear.

    x: float32, float16 or bfloat16, any shape and strides; infinities saturate.
    scale, zero_point: scalars, or 1-D with one element for each index along `axis`.
    dtype: "int8", "uint8", or "int2".."int7", "uint2".."uint7" (stored one a byte).
    out: where to put the result; shape of x, dtype int8 or uint8.

    Returns an array of x's kind and shape, int8 for signed dtypes and uint8 for others.
    Raises QKernelsError: ValueError for NaN in x, for a scale that is not finite and positive, a
    zero point outside dtype, lengths that do not fit; TypeError for other dtypes of x.

    >>> import numpy as np, qkernels as qk
    >>> qk.quantize(np.array([-1.0, 0.25, 0.75, 9.0], np.float32), 0.5, 1)
    array([-1,  1,  3, 19], dtype=int8)
    """
    done = _core.quantize(x, scale, zero_point, axis, dtype, out)
    if done is not None:
        return done
    source = real_operand(x, "x", "quantize")
    name = checks.dtype_name(dtype, tuple(checks.CODE_RANGES), "dtype")
    scales = checks.scale(scale, "scale")
    zero_points = checks.zero_point(zero_point, "zero_point", *checks.CODE_RANGES[name], name)
    along = _channel_axis(axis, source.data.shape, scale=scales, zero_point=zero_points)
    return _quantize(source, scales, zero_points, along, name, out)


def quantize_operand(x: arrays.Operand, scale: float, zero_point: int) -> Array:
    """int8 codes of a float operand, for the ops that take float x beside x_scale."""
    parameters = np.asarray(scale, np.float32), np.asarray(zero_point, np.int32)
    codes: Array = _quantize(x._replace(wrap=arrays.as_is), *parameters, None, "int8", None)
    return codes


def _quantize(
    source: arrays.Operand,
    scale: Scale,
    zero_point: ZeroPoint,
    axis: int | None,
    dtype: str,
    out: Any,
) -> Any:
    def run(data: Array, along: int | None, result: Array | None) -> Array | None:
        return _core.quantize(data, scale, zero_point, along, dtype, result, source.dtype)

    code = "uint8" if dtype.startswith("u") else "int8"
    return _elementwise(run, source, axis, code, out, "quantize: x", (scale, zero_point))


def dequantize(
    q: Any, scale: Any, zero_point: Any = 0, *, axis: int | None = None, out: Any = None
) -> Any:
    """float32(q - zero_point) * scale: ONNX DequantizeLinear.

    q: int8, uint8 or int32, any shape and strides.
    scale, zero_point: scalars, or 1-D with one element for each index along `axis`; the zero
    points lie in the range of q's dtype.
    out: where to put the result; shape of q, dtype float32.

    Returns float32, of q's kind and shape. Raises QKernelsError as `quantize` does.

    >>> import numpy as np, qkernels as qk
    >>> qk.dequantize(np.array([[1, 2], [3, 4]], np.int8), [0.5, 2.0], axis=0)
    array([[0.5, 1. ],
           [6. , 8. ]], dtype=float32)
    """
    done = _core.dequantize(q, scale, zero_point, axis, out)
    if done is not None:
        return done
    source = arrays.operand(q, "q")
    if source.dtype not in ("int8", "uint8", "int32"):
        raise QKernelsTypeError(f"q must be int8, uint8 or int32, not {source.dtype}")
    low, high = checks.CODE_RANGES.get(source.dtype, (checks.INT32_MIN, checks.INT32_MAX))
    scales = checks.scale(scale, "scale")
    zero_points = checks.zero_point(zero_point, "zero_point", low, high, source.dtype)
    along = _channel_axis(axis, source.data.shape, scale=scales, zero_point=zero_points)

    def run(data: Array, along: int | None, result: Array | None) -> Array | None:
        return _core.dequantize(data, scales, zero_points, along, result)

    return _elementwise(run, source, along, "float32", out, "dequantize: q", (scales, zero_points))


def dynamic_quantize(
    x: Any,
    *,
    granularity: Literal["per_row", "per_tensor"] = "per_row",
    scheme: Literal["symmetric", "asymmetric"] = "symmetric",
) -> tuple[Any, Any, Any]:
    """Quantize x by its own range: (q, scale, zero_point).

    x: float32, float16 or bfloat16, finite. granularity="per_row": a range for each row of the
    last axis, scale and zero_point of shape x.shape[:-1]; "per_tensor": one, and both scalars.

    scheme="symmetric": int8, amax = max |x|, scale = amax / 127, q = rint(x * (127 / amax)); a row
    whose 127 / amax is not finite gives q = 0 and scale 1. scheme="asymmetric": uint8 by ONNX
    DynamicQuantizeLinear. All in float32, and no row depends on another.

    Returns arrays of x's kind: q, float32 scale, zero_point of q's dtype.
    Raises QKernelsError: ValueError for NaN or infinity in x, TypeError for other dtypes of x.

    >>> import numpy as np, qkernels as qk
    >>> q, scale, zero_point = qk.dynamic_quantize(np.array([[-1, 0.5], [127, 1]], np.float32))
    >>> q
    array([[-127,   64],
           [ 127,    1]], dtype=int8)
    >>> scale * 127
    array([  1., 127.], dtype=float32)
    """
    done = _core.dynamic_quantize(x, granularity, scheme)
    if done is not None:
        return done
    checks.choice(granularity, ("per_row", "per_tensor"), "granularity")
    checks.choice(scheme, ("symmetric", "asymmetric"), "scheme")
    source = real_operand(x, "x", "dynamic_quantize")
    if granularity == "per_row" and source.data.ndim == 0:
        raise QKernelsValueError("x has no dimensions: granularity='per_row' needs rows")
    data = _compact(source.data)
    try:
        results = _core.dynamic_quantize(data, granularity, scheme, source.dtype)
    except _core.CoreError as error:
        raise from_core(error, "dynamic_quantize: x") from None
    assert results is not None
    if source.wrap is arrays.as_is:
        return results
    q, scale, zero_point = map(np.asarray, results)
    return source.wrap(q), source.wrap(scale), source.wrap(zero_point)


def requantize(
    acc: Any,
    scale: Any,
    zero_point: Any = 0,
    *,
    axis: int | None = None,
    bias: Any = None,
    dtype: Any = "int8",
    activation: Literal["relu"] | None = None,
    rounding: Literal["nearest_even", "fixed_point", "fixed_point_single"] = "nearest_even",
    out: Any = None,
) -> Any:
    """int32 sums to int8 or uint8: clamp(round((acc + bias) * scale) + zero_point).

    acc: int32, any shape and strides. scale: the multiplier m, x_scale * weight_scale / out_scale;
    scalar, or 1-D along `axis`. bias: integers that fit int32, scalar or 1-D along `axis`; the sum
    saturates. zero_point: a scalar in the range of dtype, "int8" or "uint8".
    activation="relu" keeps real values at 0 or above, so codes at zero_point or above.

    rounding: "nearest_even" multiplies in float32 and rounds half to even (ONNX Runtime);
    "fixed_point" is the arithmetic of TFLite's reference convolution (mantissa and shift, two
    roundings); "fixed_point_single" rounds once, as TOSA's RESCALE without double rounding.

    Returns an array of acc's kind and shape. Raises QKernelsError.

    >>> import numpy as np, qkernels as qk
    >>> qk.requantize(np.array([-300, 25, 75, 99999], np.int32), 0.02)
    array([ -6,   0,   2, 127], dtype=int8)
    """
    done = _core.requantize(acc, scale, zero_point, axis, bias, dtype, activation, rounding, out)
    if done is not None:
        return done
    source = arrays.operand(acc, "acc")
    if source.dtype != "int32":
        raise QKernelsTypeError(f"acc must be int32, not {source.dtype}")
    name = checks.dtype_name(dtype, arrays.CODES, "dtype")
    multiplier = checks.scale(scale, "scale")
    offset = checks.scalar_zero_point(zero_point, "zero_point", name)
    addend = None if bias is None else checks.int32_bias(bias)
    if addend is not None and addend.ndim > 1:
        raise QKernelsValueError(f"bias must be a scalar or 1-D, not of shape {addend.shape}")
    checks.choice(rounding, checks.ROUNDINGS, "rounding")
    if activation is not None:
        checks.choice(activation, ("relu",), "activation")
    parameters = {"scale": multiplier} if addend is None else {"scale": multiplier, "bias": addend}
    along = _channel_axis(axis, source.data.shape, **parameters)

    def run(data: Array, along: int | None, result: Array | None) -> Array | None:
        return _core.requantize(
            data, multiplier, offset, along, addend, name, activation, rounding, result
        )

    inputs = (multiplier,) if addend is None else (multiplier, addend)
    return _elementwise(run, source, along, name, out, "requantize", inputs)


def real_operand(x: Any, name: str, where: str) -> arrays.Operand:
    """A float32, float16 or bfloat16 operand."""
    source = arrays.operand(x, name)
    if source.dtype not in arrays.REALS:
        hint = f": pass {name}.astype('float32')" if source.dtype == "float64" else ""
        raise QKernelsTypeError(
            f"{where}: {name} must be float32, float16 or bfloat16, not {source.dtype}{hint}"
        )
    return source


def _channel_axis(
    axis: int | None, shape: tuple[int, ...], **parameters: Scale | ZeroPoint
) -> int | None:
    """The axis that 1-D parameters run along, or None when all are scalars."""
    if axis is not None:
        axis = checks.normal_axis(axis, len(shape))
    vectors = {name: value for name, value in parameters.items() if value.ndim}
    if not vectors:
        return None
    if axis is None:
        name, value = next(iter(vectors.items()))
        raise QKernelsValueError(f"{name} of shape {value.shape} needs axis")
    for name, value in vectors.items():
        checks.per_channel(value, shape[axis], name, f"the indices along axis {axis}")
    return axis


def _compact(data: Array) -> Array:
    """C-contiguous and aligned."""
    if data.flags.c_contiguous and data.flags.aligned:
        return data
    return np.array(data, order="C", copy=True)


def _elementwise(
    run: Callable[[Array, int | None, Array | None], Array | None],
    source: arrays.Operand,
    axis: int | None,
    out_dtype: str,
    out: Any,
    where: str,
    parameters: tuple[Array, ...],
) -> Any:
    """Run an element-wise core function over an array of any layout.

    A dense array in another order of axes (a transpose, channels_last) is read in its own order
    and its result gets the same one, as in NumPy; only gaps, reversals and misalignment cost a
    copy.
    """
    data = source.data
    destination = None if out is None else arrays.target(out, data.shape, out_dtype)
    order = arrays.dense_order(data)
    if order is None or not data.flags.aligned:
        order = tuple(range(data.ndim))
    straight = order == tuple(range(data.ndim))  # the common case goes without transposes
    view = _compact(data if straight else data.transpose(order))
    result = None
    if destination is not None and not arrays.overlaps(destination, (data, *parameters)):
        result = destination if straight else destination.transpose(order)
        if not (result.flags.c_contiguous and result.flags.aligned):
            result = None
    try:
        result = run(view, None if axis is None else order.index(axis), result)
    except _core.CoreError as error:
        raise from_core(error, where) from None
    assert result is not None  # all is plain by now
    result = result if straight else result.transpose(np.argsort(order))
    if destination is None:
        return source.wrap(result)
    if not np.may_share_memory(result, destination) or result.size == 0:
        np.copyto(destination, result)
    return out
