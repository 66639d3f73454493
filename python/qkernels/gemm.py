# SPDX-License-Identifier: Apache-2.0
"""gemm_int8 and pack_gemm: exact int32 products of 8-bit matrices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from qkernels import _core, arrays, checks
from qkernels.arrays import Array
from qkernels.checks import ZeroPoint
from qkernels.errors import QKernelsTypeError, QKernelsValueError, from_core
from qkernels.forms import at_least_one
from qkernels.packed import PackedWeights, field, pack_matrix, remember


class PackedGemm(PackedWeights):
    """A right-hand matrix packed by `pack_gemm`. Immutable, picklable.

    `.shape` (K, N), `.dtype`, `.isa`, `.layout`, `.nbytes`, `.unpack()`, `.bind(...)`;
    `.weight_scale` is None.
    """

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(K, N)."""
        info = self._info
        return info["k"], info["n"]

    def unpack(self) -> Array:
        """The exact integers, (K, N)."""
        integers = np.empty(self.shape, self.dtype)
        self._packed.unpack(integers.T)
        return integers

    def bind(self, *, a_zero_point: Any = 0, b_zero_point: Any = 0) -> Callable[..., Any]:
        """`gemm_int8` with the zero points decided: a callable (a, out=None).

        >>> import numpy as np, qkernels as qk
        >>> product = qk.pack_gemm(np.eye(2, dtype=np.int8)).bind(a_zero_point=1)
        >>> product(np.array([[1, 2]], np.int8))
        array([[0, 1]], dtype=int32)
        """
        a_zero_point = checks.zero_point(a_zero_point, "a_zero_point", -128, 255, "int8 and uint8")
        b_zero_point = _zero_point(b_zero_point, "b_zero_point", self.dtype.name, self.shape[1])
        a_zero_point = a_zero_point if a_zero_point.ndim else int(a_zero_point)
        b_zero_point = b_zero_point if b_zero_point.ndim else int(b_zero_point)

        def product(a: Any, out: Any = None) -> Any:
            return gemm_int8(a, self, a_zero_point=a_zero_point, b_zero_point=b_zero_point, out=out)

        return product

    @classmethod
    def _rebuild(cls, packed: _core.Packed, meta: dict[str, Any]) -> PackedGemm:
        field(packed, "PackedGemm", "matrix")
        return cls._make(packed if packed.native else pack_matrix(packed.unpack(), "gemm_int8"))


def pack_gemm(b: Any) -> PackedGemm:
    """Pack the right-hand matrix of `gemm_int8`, once, for any number of calls.

    b: (K, N), int8 or uint8, any strides. Raises QKernelsError.

    >>> import numpy as np, qkernels as qk
    >>> qk.pack_gemm(np.ones((3, 5), np.uint8)).shape
    (3, 5)
    """
    source = _codes(b, "b")
    if source.data.ndim != 2:
        raise QKernelsValueError(f"b must have shape (K, N), not {source.data.shape}")
    return PackedGemm._make(pack_matrix(source.data.T, "pack_gemm"))


def gemm_int8(
    a: Any, b: Any, *, a_zero_point: Any = 0, b_zero_point: Any = 0, out: Any = None
) -> Any:
    """(a - a_zero_point) @ (b - b_zero_point), exact in int32.

    a: (..., M, K), b: (..., K, N), int8 or uint8 each; batch dimensions broadcast as in np.matmul.
    b may be packed by `pack_gemm`. a_zero_point: scalar or (M,), in the range of a's dtype;
    b_zero_point: scalar or (N,), in that of b's. out: int32 (..., M, N), any strides; it is
    returned, and may overlap an input.

    Returns int32 (..., M, N) of a's kind. Raises QKernelsError: TypeError for dtypes, ValueError
    for shapes and when K * max|a - a_zero_point| * max|b - b_zero_point| over the dtypes' ranges
    exceeds 2^31 - 1, as the sums could leave int32.

    >>> import numpy as np, qkernels as qk
    >>> a = np.array([[255, 0], [1, 2]], np.uint8)
    >>> b = np.array([[-128, 1], [3, 4]], np.int8)
    >>> qk.gemm_int8(a, b, a_zero_point=1)
    array([[-32515,    250],
           [     3,      4]], dtype=int32)
    """
    if (
        type(b) is PackedGemm
        and type(a_zero_point) is type(b_zero_point) is int
        and type(a) is np.ndarray
        and a.ndim > 1
    ):
        done = _plain(a, b._calls.get((a_zero_point, b_zero_point)), out)
        if done is not None:
            return done
    left = _codes(a, "a")
    if left.data.ndim < 2:
        raise QKernelsValueError(f"a must have shape (..., M, K), not {left.data.shape}")
    packed: _core.Packed | None = None
    right: Array | None = None
    if isinstance(b, PackedGemm):
        packed, b_dtype, b_shape = b._packed, b._info["dtype"], b.shape
    else:
        source = _codes(b, "b")
        right, b_dtype, b_shape = source.data, source.dtype, source.data.shape
        if right.ndim < 2:
            raise QKernelsValueError(f"b must have shape (..., K, N), not {right.shape}")
    (rows, depth), columns = left.data.shape[-2:], b_shape[-1]
    if b_shape[-2] != depth:
        raise QKernelsValueError(
            f"a of shape {left.data.shape} and b of shape {b_shape} differ in K: "
            f"{depth} and {b_shape[-2]}"
        )
    a_zero = _zero_point(a_zero_point, "a_zero_point", left.dtype, rows)
    b_zero = _zero_point(b_zero_point, "b_zero_point", b_dtype, columns)
    batch = left.data.shape[:-2]
    if len(b_shape) > 2:
        try:
            batch = np.broadcast_shapes(batch, b_shape[:-2])
        except ValueError:
            raise QKernelsValueError(
                f"the batch dimensions of a {left.data.shape} and b {b_shape} do not broadcast"
            ) from None
    shape = (*batch, rows, columns)
    into = None if out is None else arrays.target(out, shape, "int32")
    inputs = [left.data] if right is None else [left.data, right]
    in_place = into is not None and not arrays.overlaps(into, inputs)
    try:
        if right is not None and right.ndim > 2:
            result = _batched(left, right, a_zero, b_zero, shape, into if in_place else None)
        else:
            if packed is None:
                packed = pack_matrix(inputs[1].T, "gemm_int8")
            run = _prepared(packed, b if right is None else None, left.dtype, a_zero, b_zero).run
            flat = arrays.rows(left.data, depth)
            target = arrays.rows_in_place(into, columns) if in_place and into is not None else None
            result = np.empty((flat.shape[0], columns), np.int32) if target is None else target
            if a_zero.ndim:
                run(flat, result, np.resize(a_zero, flat.shape[0]))
            else:
                run(flat, result)
            if target is not None:
                return out
            result = result.reshape(shape)
    except _core.CoreError as error:
        raise from_core(error, "gemm_int8") from None
    if into is None:
        return left.wrap(result)
    if result is not into:
        np.copyto(into, result)
    return out


def _codes(value: Any, name: str) -> arrays.Operand:
    source = arrays.operand(value, name)
    if source.dtype not in arrays.CODES:
        raise QKernelsTypeError(f"{name} must be int8 or uint8, not {source.dtype}")
    return source


def _zero_point(value: Any, name: str, dtype: str, length: int) -> ZeroPoint:
    result = checks.zero_point(value, name, *checks.CODE_RANGES[dtype], dtype)
    checks.per_channel(result, length, name, "the rows of a" if name[0] == "a" else "b's columns")
    return result


def _plain(a: Array, ops: dict[str, _core.Linear] | None, out: Any) -> Array | None:
    """The product of plain arrays by the op prepared for their dtype; None for any other."""
    if ops is None:
        return None
    for dtype in arrays.CODES:
        op = ops.get(dtype)
        if op is None:
            continue
        try:
            result = op.call(a, out)
        except _core.CoreError as error:
            raise from_core(error, "gemm_int8") from None
        if result is not None:
            return result
    return None


def _prepared(
    packed: _core.Packed,
    owner: PackedGemm | None,
    a_dtype: str,
    a_zero: ZeroPoint,
    b_zero: ZeroPoint,
) -> _core.Linear:
    """The prepared product; kept on the packed matrix when there is one, by zero points and then
    by the dtype of a."""

    def make() -> _core.Linear:
        return _core.Linear(
            packed,
            x_dtype=a_dtype,  # type: ignore[arg-type]
            out_dtype="int32",
            x_zero_point=0 if a_zero.ndim else int(a_zero),
            w_zero_point=at_least_one(b_zero, np.int32(0)) if b_zero.any() else None,
        )

    if owner is None:
        return make()
    row = None if a_zero.ndim else int(a_zero)
    column = b_zero.tobytes() if b_zero.ndim else int(b_zero)
    ops: dict[Any, Any] = remember(owner._calls, (row, column), dict)
    return remember(ops, a_dtype, make)


def _batched(
    left: arrays.Operand,
    right: Array,
    a_zero: ZeroPoint,
    b_zero: ZeroPoint,
    shape: tuple[int, ...],
    into: Array | None,
) -> Array:
    """A product for each matrix of a batch of right-hand sides."""
    batch = shape[:-2]
    a = np.broadcast_to(
        left.data if arrays.last_axis_ready(left.data) else np.ascontiguousarray(left.data),
        (*batch, *left.data.shape[-2:]),
    )
    b = np.broadcast_to(right, (*batch, *right.shape[-2:]))
    result = (
        into if into is not None and arrays.last_axis_ready(into) else np.empty(shape, np.int32)
    )
    if not math.prod(batch):  # nothing will run, so the bound on K is checked here
        empty = pack_matrix(np.empty((shape[-1], a.shape[-1]), right.dtype), "gemm_int8")
        _prepared(empty, None, left.dtype, a_zero, b_zero)
    elif a_zero.ndim == 0 and b_zero.ndim == 0:
        _core.gemm_batch(a, b, int(a_zero), int(b_zero), result)
        return result
    # Zero points a row or a column are rare beside a batch of right-hand sides: one by one.
    for index in np.ndindex(*batch):
        op = _prepared(pack_matrix(b[index].T, "gemm_int8"), None, left.dtype, a_zero, b_zero)
        rows, target = arrays.rows(a[index], a.shape[-1]), result[index]
        if a_zero.ndim:
            op.run(rows, target, a_zero)
        else:
            op.run(rows, target)
    return result
