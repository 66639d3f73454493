# SPDX-License-Identifier: Apache-2.0
"""pack_linear, linear_int8 and their prepared form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import _core, arrays, checks, forms
from qkernels.arrays import Array
from qkernels.checks import Scale, ZeroPoint
from qkernels.errors import QKernelsTypeError, QKernelsValueError, from_core
from qkernels.packed import PackedWeights, field, pack_matrix, remember, shared_scale
from qkernels.quantization.functional import quantize_operand

Call = Callable[..., Any]

# What cannot change under the key of a kept call.
PLAIN = (int, float, str, type(None), tuple, np.generic)


class PackedLinear(PackedWeights):
    """Weights of a linear layer, packed by `pack_linear`. Immutable, picklable.

    `.shape` (N, K), `.dtype`, `.isa`, `.layout`, `.nbytes`, `.weight_scale`, `.weight_zero_point`,
    `.bias`, `.unpack()`, `.bind(...)`.
    """

    __slots__ = ("_bias", "_scale", "_zero_point")

    _scale: Scale | None
    _zero_point: ZeroPoint
    _bias: Array | None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        info = self._info
        return info["n"], info["k"]

    @property
    def weight_scale(self) -> np.float32 | NDArray[np.float32] | None:
        """float32 scalar or (N,); None for integer weights given without a scale."""
        return shared_scale(self._scale)

    @property
    def weight_zero_point(self) -> np.int32 | NDArray[np.int32]:
        """int32 scalar or (N,)."""
        return self._zero_point if self._zero_point.ndim else self._zero_point[()]

    @property
    def bias(self) -> Array | None:
        """float32 or int32 of shape (N,), or None."""
        return self._bias

    def unpack(self) -> Array:
        """The exact integers, (N, K)."""
        return self._packed.unpack()

    def bind(
        self,
        *,
        x_scale: Any = None,
        x_zero_point: Any = 0,
        out_scale: Any = None,
        out_zero_point: Any = 0,
        out_dtype: Any = None,
        activation: Any = None,
        rounding: str = "nearest_even",
    ) -> Call:
        """`linear_int8` with everything but the data decided: a callable (x, out=None) for hot
        loops. Arguments, results and errors are those of `linear_int8`.

        >>> import numpy as np, qkernels as qk
        >>> packed = qk.pack_linear(np.eye(2, dtype=np.float32))
        >>> layer = packed.bind(x_scale=0.5, activation="relu")
        >>> layer(np.array([[4, -4]], np.int8))
        array([[2., 0.]], dtype=float32)
        """
        wanted = forms.request(
            x_scale, x_zero_point, out_scale, out_zero_point, out_dtype, activation, rounding
        )
        return remember(self._calls, wanted, lambda: _bound(self, wanted))

    def _more(self) -> str:
        bias = "None" if self._bias is None else self._bias.dtype
        return f", bias={bias}"

    def _meta(self) -> dict[str, Any]:
        return {
            "weight_scale": self._scale,
            "weight_zero_point": self._zero_point,
            "bias": self._bias,
        }

    @classmethod
    def _rebuild(cls, packed: _core.Packed, meta: dict[str, Any]) -> PackedLinear:
        if not packed.native:
            packed = pack_matrix(packed.unpack(), "pack_linear")
        return _assemble(packed, meta["weight_scale"], meta["weight_zero_point"], meta["bias"])


def pack_linear(
    weight: Any,
    bias: Any = None,
    *,
    weight_scale: Any = None,
    weight_zero_point: Any = 0,
    weight_dtype: str = "int8",
    group_size: int | None = None,
) -> PackedLinear:
    """Pack the weights of a linear layer, once, for any number of calls.

    weight: (N, K). Floating point: quantized here, symmetric by the row, scale[n] = amax / 127,
    q = rint(w / scale), all float32; a row of zeros has scale 1. int8 or uint8: taken as they are,
    with `weight_scale`, scalar or (N,), and `weight_zero_point`, scalar or (N,). Integer weights
    without a scale serve int32 output only.
    bias: (N,), float (of real units) or integer (of accumulators: x_scale * weight_scale).
    weight_dtype, group_size: only "int8" and None so far.

    Raises QKernelsError: ValueError for shapes and values that do not fit, a weight_scale or
    weight_zero_point beside float weights; TypeError for other dtypes.

    >>> import numpy as np, qkernels as qk
    >>> packed = qk.pack_linear(np.array([[1.27, -0.5], [0.0, 0.0]], np.float32))
    >>> packed.unpack()
    array([[127, -50],
           [  0,   0]], dtype=int8)
    >>> packed.weight_scale
    array([0.01, 1.  ], dtype=float32)
    """
    if not (isinstance(weight_dtype, str) and weight_dtype == "int8"):
        raise QKernelsValueError(
            f"weight_dtype must be 'int8', not {checks.shown(weight_dtype)}: others are not "
            "supported yet"
        )
    if group_size is not None:
        raise QKernelsValueError(
            f"group_size must be None, not {checks.shown(group_size)}: scales for groups of K are "
            "not supported yet"
        )
    codes, scale = integer_weights(weight, weight_scale, weight_zero_point, 2, "(N, K)")
    return _assemble(pack_matrix(codes, "pack_linear"), scale, weight_zero_point, bias)


def integer_weights(
    weight: Any, weight_scale: Any, weight_zero_point: Any, ndim: int, form: str
) -> tuple[Array, Any]:
    """Weights as integers, channels first, and their scale; float weights are quantized."""
    array = arrays.parameter(weight, "weight")
    if array.ndim != ndim:
        raise QKernelsValueError(f"weight must have shape {form}, not {array.shape}")
    if array.dtype.kind != "f":
        if array.dtype.name not in arrays.CODES:
            raise QKernelsTypeError(f"weight must be int8, uint8 or float, not {array.dtype}")
        return array, weight_scale
    if weight_scale is not None:
        raise QKernelsValueError(
            "weight_scale goes with integer weights: float weights are quantized by their range"
        )
    if checks.zero_point(weight_zero_point, "weight_zero_point", -128, 127, "int8").any():
        raise QKernelsValueError(
            "weight_zero_point goes with integer weights: float weights are quantized symmetrically"
        )
    return quantize_rows(array)


def quantize_rows(weight: Array) -> tuple[NDArray[np.int8], Scale]:
    """Each index of the first axis by its own scale, amax / 127 in float32; of zeros: scale 1.
    The codes lie in memory as the weights do."""
    with np.errstate(over="ignore"):
        rows = weight.astype(np.float32, order="K", copy=False)
    order = sorted(range(rows.ndim), key=lambda axis: -rows.strides[axis])
    if not rows.transpose(order).flags.c_contiguous:
        rows, order = np.ascontiguousarray(rows), list(range(rows.ndim))
    dense = rows.transpose(order)
    axis = order.index(0)
    codes = np.empty(dense.shape, np.int8)
    scale = np.ones(rows.shape[0], np.float32)
    shape3 = (math.prod(dense.shape[:axis]), dense.shape[axis], math.prod(dense.shape[axis + 1 :]))
    try:
        _core.quantize_weights(dense, shape3, codes, scale)
    except _core.CoreError as error:
        if error.args[0] != "not_finite":
            raise from_core(error, "weight") from None
        raise QKernelsValueError(
            "weight must be finite in float32, but holds an infinity or NaN"
        ) from None
    return codes.transpose(np.argsort(order)), scale


def channel_parameters(
    channels: int, dtype: str, weight_scale: Any, weight_zero_point: Any, bias: Any
) -> dict[str, Any]:
    """The fields that linear and convolution weights share, checked."""
    scale = None if weight_scale is None else checks.scale(weight_scale, "weight_scale")
    zero_point = checks.zero_point(
        weight_zero_point, "weight_zero_point", *checks.CODE_RANGES[dtype], f"{dtype} weights"
    )
    if scale is not None:
        checks.per_channel(scale, channels, "weight_scale", "the output channels")
    checks.per_channel(zero_point, channels, "weight_zero_point", "the output channels")
    return {"_scale": scale, "_zero_point": zero_point, "_bias": checks.bias(bias, channels)}


def _assemble(
    packed: _core.Packed, weight_scale: Any, weight_zero_point: Any, bias: Any
) -> PackedLinear:
    field(packed, "PackedLinear", "matrix")
    info = packed.info
    return PackedLinear._make(
        packed,
        **channel_parameters(info["n"], info["dtype"], weight_scale, weight_zero_point, bias),
    )


def linear_int8(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    x_scale: Any = None,
    x_zero_point: Any = 0,
    weight_scale: Any = None,
    weight_zero_point: Any = 0,
    out_scale: Any = None,
    out_zero_point: Any = 0,
    out_dtype: Any = None,
    activation: Any = None,
    rounding: str = "nearest_even",
    out: Any = None,
) -> Any:
    """y = x @ weight.T + bias in int8: exact int32 sums, one rounding to the output.

    x: (..., K) or (K,). weight: packed by `pack_linear`, or (N, K) with bias, weight_scale and
    weight_zero_point as there (packed on the fly). Returns (..., N), of x's kind:

    - float32, float16, bfloat16 x: quantized by the row on the fly, symmetric; float32 out. With
      x_scale (and x_zero_point of int8): quantized with it, then as below, float32 by default.
    - int8, uint8 x with x_scale and out_scale: x's dtype, or out_dtype "int8" or "uint8".
    - int8, uint8 x with x_scale: float32.
    - int8, uint8 x without x_scale, or out_dtype="int32": the int32 accumulators plus bias.

    activation: None, "relu", "relu6", (lo, hi) in real units; on float32 output also "gelu" (erf),
    "silu", "tanh", "sigmoid", "hardswish". None on int32 output.
    rounding, on int8 and uint8 output: "nearest_even" (a float32 multiplier, as ONNX Runtime),
    "fixed_point" (TFLite's reference convolution) or "fixed_point_single" (TOSA, one rounding).
    out: where to put the result; any strides; it is returned, and may overlap an input.

    Raises QKernelsError: TypeError for dtypes (float64 among them), ValueError for shapes, values,
    combinations that have no meaning, K beyond the bound of exact int32 sums, non-finite float x.

    >>> import numpy as np, qkernels as qk
    >>> x = np.array([[10, -20, 30]], np.int8)
    >>> w = np.array([[1, 2, 3], [4, 5, 6]], np.int8)
    >>> qk.linear_int8(x, w)
    array([[ 60, 120]], dtype=int32)
    >>> qk.linear_int8(x, w, x_scale=0.1, weight_scale=0.5)
    array([[3., 6.]], dtype=float32)
    >>> qk.linear_int8(x, w, x_scale=0.1, weight_scale=0.5, out_scale=0.25)
    array([[12, 24]], dtype=int8)
    >>> qk.linear_int8(np.array([1.0, 0.5], np.float32), np.eye(2, dtype=np.float32))
    array([1.      , 0.503937], dtype=float32)
    """
    if type(weight) is not PackedLinear:
        packed = pack_linear(
            weight, bias, weight_scale=weight_scale, weight_zero_point=weight_zero_point
        )
        call: Call = packed.bind(
            x_scale=x_scale,
            x_zero_point=x_zero_point,
            out_scale=out_scale,
            out_zero_point=out_zero_point,
            out_dtype=out_dtype,
            activation=activation,
            rounding=rounding,
        )
        return call(x, out)
    if (
        bias is not None
        or weight_scale is not None
        or type(weight_zero_point) is not int
        or weight_zero_point
    ):
        refuse_beside_packed(
            bias=bias, weight_scale=weight_scale, weight_zero_point=weight_zero_point
        )
    key = (x_scale, x_zero_point, out_scale, out_zero_point, out_dtype, activation, rounding)
    try:
        found = weight._calls.get(key)
    except TypeError:  # something unhashable, for example an array
        found = None
    if found is not None:
        return found(x, out)
    call = weight.bind(
        x_scale=x_scale,
        x_zero_point=x_zero_point,
        out_scale=out_scale,
        out_zero_point=out_zero_point,
        out_dtype=out_dtype,
        activation=activation,
        rounding=rounding,
    )
    if all(isinstance(part, PLAIN) for part in key):
        remember(weight._calls, key, lambda: call)
    return call(x, out)


def refuse_beside_packed(**arguments: Any) -> None:
    """These belong to the packed weights; a zero point of 0 is no argument."""
    for name, value in arguments.items():
        if value is not None and not (type(value) is int and value == 0):
            raise QKernelsValueError(
                f"{name} is given beside a packed weight: it belongs in the pack function"
            )


def prepare(
    make: Callable[..., Any], where: str, wanted: forms.Request, dtype: str, weights: forms.Weights
) -> tuple[Any, forms.Form]:
    """The prepared op of the core for an x of `dtype`, and its form."""
    form = forms.resolve(wanted, dtype, weights)
    try:
        return make(**form.arguments), form
    except _core.CoreError as error:
        raise from_core(error, f"{where}{forms.described(form)}") from None


def _bound(weights: PackedLinear, wanted: forms.Request) -> Call:
    """The callable of `bind`. What it learns about a dtype of x is kept: the prepared op, and its
    `call`, which takes plain arrays whole in the core and gives None for any other x or out."""
    columns, depth = weights.shape
    packed, given = (
        weights._packed,
        forms.Weights(weights._scale, weights._zero_point, weights._bias),
    )
    del weights  # the callable is kept by the weights: no cycle
    known: dict[str, tuple[_core.Linear, forms.Form]] = {}
    direct: list[Callable[[Any, Any], Array | None]] = []
    empty, core_error = np.empty, _core.CoreError

    def linear(x: Any, out: Any = None) -> Any:
        for call in direct:
            try:
                result = call(x, out)
            except core_error as error:
                raise from_core(error, "linear_int8") from None
            if result is not None:
                return result
        return general(x, out)

    def general(x: Any, out: Any) -> Any:
        source = arrays.operand(x, "x")
        if source.dtype not in known:
            known[source.dtype] = prepare(
                lambda **arguments: _core.Linear(packed, **arguments),
                "linear_int8",
                wanted,
                source.dtype,
                given,
            )
            op, form = known[source.dtype]
            if form.quantize is None:
                direct.append(op.call)
        op, form = known[source.dtype]
        data = source.data
        if data.ndim == 0 or data.shape[-1] != depth:
            raise QKernelsValueError(
                f"x must have shape (..., {depth}) for a weight of shape ({columns}, {depth}), "
                f"not {data.shape}"
            )
        if form.quantize is not None:
            data = quantize_operand(source, *form.quantize)
        shape = (*data.shape[:-1], columns)
        into = None if out is None else arrays.target(out, shape, form.out_dtype)
        flat = arrays.rows(data, depth)
        result = None
        if into is not None and not arrays.overlaps(into, (data,)):
            result = arrays.rows_in_place(into, columns)
        written = result is not None
        if result is None:
            result = empty((flat.shape[0], columns), form.out_dtype)
        try:
            op.run(flat, result)
        except core_error as error:
            raise from_core(error, "linear_int8") from None
        if into is None:
            return source.wrap(result.reshape(shape))
        if not written:
            np.copyto(into, result.reshape(shape))
        return out

    return linear
