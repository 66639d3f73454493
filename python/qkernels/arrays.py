# SPDX-License-Identifier: Apache-2.0
"""Arrays of any kind in, results of the same kind out, no copy where none is needed.

Taken: NumPy arrays and scalars, torch CPU tensors, objects with DLPack, the buffer protocol or
`__array__`. float16 and bfloat16 travel to the core as uint16 beside the name of their dtype,
because NumPy has no bfloat16 of its own.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkernels.errors import QKernelsTypeError, QKernelsValueError

Array = NDArray[Any]
Wrap = Callable[[Array], Any]

REALS = ("float32", "float16", "bfloat16")
CODES = ("int8", "uint8")
# dtype.name is slow; these are all that most calls see.
_NAMES = {np.dtype(name): name for name in ("int8", "uint8", "int32", "float32", "float16")}
_DLPACK_CPU = (1, 3)  # kDLCPU, and kDLCUDAHost, which the CPU can read


class Operand(NamedTuple):
    """An input as the core wants it."""

    data: Array  # native byte order; float16 and bfloat16 as uint16
    dtype: str  # the name of the dtype that came in
    wrap: Wrap  # turns a NumPy result into the kind of array that came in


def as_is(array: Array) -> Array:
    """The `wrap` of what comes from NumPy."""
    return array


def _torch_tensor(value: Any) -> bool:
    """Is it a torch tensor? Without importing torch: who holds a tensor has done so."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    return tensor is not None and isinstance(value, tensor)


def is_array(value: Any) -> bool:
    """Has `value` a dtype and a shape."""
    return hasattr(value, "dtype") and hasattr(value, "shape")


def dtype_of(value: Any) -> str:
    """The dtype of an array of any kind, by name."""
    return str(value.dtype).removeprefix("torch.")


def operand(value: Any, name: str) -> Operand:
    """`value`, an array of any kind, for the core. Copies only to mend the byte order."""
    array, dtype, wrap = _numpy_view(value, name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if dtype == "float16":
        array = array.view(np.uint16)
    return Operand(array, dtype, wrap)


def parameter(value: Any, name: str) -> Array:
    """A weight, scale, bias or zero point: as `operand`, but numbers and lists will do, and
    float16 and bfloat16 come back as float32."""
    if isinstance(value, bool | int | float | list | tuple):
        try:
            return np.asarray(value)
        except ValueError:
            raise QKernelsValueError(f"{name} is not rectangular") from None
    return widened(operand(value, name))


def widened(source: Operand) -> Array:
    """The numbers of an operand in a dtype that NumPy computes with."""
    if source.dtype == "float16":
        return source.data.view(np.float16).astype(np.float32)
    if source.dtype == "bfloat16":
        # A bfloat16 is the upper half of a float32.
        return (source.data.astype(np.uint32) << 16).view(np.float32)
    return source.data


def _numpy_view(value: Any, name: str) -> tuple[Array, str, Wrap]:
    """A NumPy view of any array, the name of its dtype, and the way back to its kind."""
    wrap: Wrap = as_is
    if isinstance(value, np.ndarray | np.generic):
        if isinstance(value, np.ma.MaskedArray):
            raise QKernelsTypeError(
                f"{name} is a masked array: fill it first, e.g. {name}.filled(0)"
            )
        array: Array = np.asarray(value)
    elif _torch_tensor(value):
        return _torch_view(value, name)
    elif hasattr(value, "__dlpack__"):
        array = _dlpack_view(value, name)
        namespace = getattr(value, "__array_namespace__", None)
        if namespace is not None and hasattr(namespace(), "from_dlpack"):
            wrap = namespace().from_dlpack
    else:
        array = _buffer_view(value, name)
    dtype = _NAMES.get(array.dtype) or array.dtype.name
    if dtype == "bfloat16" and array.dtype.itemsize == 2:  # as ml_dtypes registers it
        array = array.view(np.uint16)
    return array, dtype, wrap


def _torch_view(tensor: Any, name: str) -> tuple[Array, str, Wrap]:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_quantized:
        raise QKernelsTypeError(
            f"{name} must be a dense, unquantized tensor on the CPU, not {tensor.layout} "
            f"{tensor.dtype} on {tensor.device}"
        )
    tensor = tensor.detach().resolve_conj().resolve_neg()
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16), dtype, torch.from_numpy
    try:
        return tensor.numpy(), dtype, torch.from_numpy
    except TypeError:
        raise QKernelsTypeError(f"{name} has dtype {tensor.dtype}, which NumPy lacks") from None


def _dlpack_view(value: Any, name: str) -> Array:
    device = value.__dlpack_device__()[0] if hasattr(value, "__dlpack_device__") else 1
    if device not in _DLPACK_CPU:
        raise QKernelsTypeError(f"{name} must be on the CPU, not on DLPack device {int(device)}")
    try:
        return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        if hasattr(value, "__array__"):  # for example a JAX array of bfloat16
            return np.asarray(value)
        raise QKernelsTypeError(f"{name} cannot be read through DLPack: {error}") from None


def _buffer_view(value: Any, name: str) -> Array:
    try:
        return np.asarray(memoryview(value))
    except (TypeError, ValueError, NotImplementedError):
        if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
            return np.asarray(value)
    raise QKernelsTypeError(
        f"{name} must be an array (NumPy, torch, DLPack or the buffer protocol), "
        f"not {type(value).__name__}"
    )


def target(out: Any, shape: tuple[int, ...], dtype: str, name: str = "out") -> Array:
    """The memory of an `out` argument as a NumPy array, after all its checks."""
    if getattr(out, "requires_grad", False):
        raise QKernelsValueError(f"{name} requires a gradient: pass {name}.detach()")
    array, came, _ = _numpy_view(out, name)
    if came != dtype or not array.dtype.isnative:
        order = "" if array.dtype.isnative else "byte-swapped "
        raise QKernelsTypeError(f"{name} must have dtype {dtype}, not {order}{came}")
    if array.shape != shape:
        raise QKernelsValueError(f"{name} must have shape {shape}, not {array.shape}")
    if not array.flags.writeable:
        raise QKernelsValueError(f"{name} is read-only")
    if array.size and not _disjoint(array):
        raise QKernelsValueError(f"{name} has elements that share memory: strides {array.strides}")
    return array


def _disjoint(array: Array) -> bool:
    """Do the elements lie apart? Right for every view that slicing and transposing can make."""
    extent = array.itemsize
    steps = sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1)
    for step, count in steps:
        if step < extent:
            return False
        extent = step * (count - 1) + extent
    return True


def overlaps(array: Array, others: Iterable[Array]) -> bool:
    """May writing `array` change any of `others`?"""
    return any(np.may_share_memory(array, other) for other in others)


def rows(array: Array, columns: int) -> Array:
    """(..., columns) as (M, columns): a view where the strides allow it, else a copy; elements
    aligned and contiguous in the last axis, rows at any stride."""
    flat = array.reshape(math.prod(array.shape[:-1]), columns)
    if columns > 1 and flat.strides[1] != flat.itemsize or not flat.flags.aligned:
        return np.ascontiguousarray(flat) if flat.flags.aligned else flat.copy()
    return flat


def rows_in_place(array: Array, columns: int) -> Array | None:
    """As `rows`, but only when no copy is needed: for outputs."""
    flat = rows(array, columns)
    return flat if flat.size and np.may_share_memory(flat, array) else None


def last_axis_ready(array: Array) -> bool:
    """Aligned elements, contiguous in the last axis, as the core reads and writes them."""
    return array.flags.aligned and (array.shape[-1] <= 1 or array.strides[-1] == array.itemsize)


def dense_order(array: Array) -> tuple[int, ...] | None:
    """The order of axes in which a dense array is C-contiguous; None when it is not dense."""
    if array.flags.c_contiguous:
        return tuple(range(array.ndim))
    order = tuple(sorted(range(array.ndim), key=lambda axis: -array.strides[axis]))
    return order if array.transpose(order).flags.c_contiguous else None
