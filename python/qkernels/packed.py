# SPDX-License-Identifier: Apache-2.0
"""What PackedGemm, PackedLinear and PackedConv2d share: immutability, facts, pickling, caching."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from qkernels import _core
from qkernels.arrays import Array
from qkernels.checks import Scale
from qkernels.errors import QKernelsError, QKernelsValueError, from_core

_Value = TypeVar("_Value")
_Self = TypeVar("_Self", bound="PackedWeights")

_CACHE_SIZE = 16
_cache_lock = threading.Lock()


def pack_matrix(w: Array, where: str) -> _core.Packed:
    """w (N, K), int8 or uint8, packed; errors of the core as `where` raises them."""
    try:
        return _core.Packed.matrix(w)
    except _core.CoreError as error:
        raise from_core(error, where) from None


class PackedWeights:
    """Base of the packed kinds. Immutable; made by the `pack_*` functions, not directly."""

    __slots__ = ("__weakref__", "_calls", "_info", "_isa", "_packed")

    kinds: ClassVar[dict[str, type[PackedWeights]]] = {}
    """Packed classes by name, for unpickling."""

    _packed: _core.Packed
    _info: dict[str, Any]  # packed.info, which is made anew each time
    _isa: str
    _calls: dict[Hashable, Any]

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        PackedWeights.kinds[cls.__name__] = cls

    @classmethod
    def _make(cls: type[_Self], packed: _core.Packed, **fields: Any) -> _Self:
        """An instance around packed bytes; the only place that sets attributes."""
        self = object.__new__(cls)
        own = {"_packed": packed, "_info": packed.info, "_isa": _core.isa(), "_calls": {}}
        for name, value in {**own, **fields}.items():
            object.__setattr__(self, name, value)
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        raise TypeError(f"{type(self).__name__} objects are made by the pack_* functions")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weights as they were given."""
        raise NotImplementedError

    @property
    def dtype(self) -> np.dtype[Any]:
        """int8 or uint8."""
        return np.dtype(str(self._info["dtype"]))

    @property
    def isa(self) -> str:
        """The tier that was active when the weights were packed."""
        return self._isa

    @property
    def layout(self) -> str:
        """The order of the packed bytes, for example "k4n16"; tiers share layouts."""
        return str(self._info["layout"])

    @property
    def nbytes(self) -> int:
        """Bytes of the packed weights, header and sums included."""
        return int(self._info["size"])

    @property
    def weight_scale(self) -> np.float32 | NDArray[np.float32] | None:
        """float32 scalar or one element a channel; None when the weights have no scale."""
        return None

    def unpack(self) -> Array:
        """The exact integers that were packed, in a new array."""
        raise NotImplementedError

    def __repr__(self) -> str:
        scale = self.weight_scale
        if scale is None:
            shown = "None"
        elif np.ndim(scale):
            shown = f"float32 of shape {np.shape(scale)}"
        else:
            shown = f"{scale:.6g}"
        return (
            f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype}, isa={self.isa!r}, "
            f"layout={self.layout!r}, nbytes={self.nbytes}, weight_scale={shown}{self._more()})"
        )

    def _more(self) -> str:
        """What else `repr` says."""
        return ""

    def _meta(self) -> dict[str, Any]:
        """What a pickle holds beside the packed bytes: plain values and small arrays."""
        return {}

    @classmethod
    def _rebuild(cls: type[_Self], packed: _core.Packed, meta: dict[str, Any]) -> _Self:
        """The inverse of `_meta`, with every check of the pack function."""
        raise NotImplementedError

    def __copy__(self: _Self) -> _Self:
        return self

    def __deepcopy__(self: _Self, memo: dict[int, Any]) -> _Self:
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        # From protocol 5 on the bytes may travel out of band, and an unpickled object uses them
        # where they are: processes that map one piece of shared memory share the weights.
        blob = self._packed.buffer()
        data = pickle.PickleBuffer(blob) if protocol >= 5 else bytes(blob)
        return _restore, (type(self).__name__, data, self._meta())


def _restore(kind: Any, data: Any, meta: Any) -> PackedWeights:
    """Unpickle; QKernelsError for anything that is not what `__reduce_ex__` wrote."""
    try:
        return PackedWeights.kinds[kind]._rebuild(_core.Packed.from_buffer(data), dict(meta))
    except (_core.CoreError, QKernelsError, KeyError, TypeError, ValueError) as error:
        reason = error.args[-1] if error.args else type(error).__name__
        raise QKernelsValueError(f"damaged pickle of packed weights: {reason}") from None


def field(packed: _core.Packed, name: str, expected: str) -> None:
    """Packed bytes must be of the kind that their class wants."""
    if packed.info["kind"] not in expected.split():
        raise QKernelsValueError(
            f"{name} needs bytes of kind {expected}, not {packed.info['kind']}"
        )


def shared_scale(scale: Scale | None) -> np.float32 | Scale | None:
    """A scale as the attribute `weight_scale`: a 0-D array as its scalar."""
    return scale if scale is None or scale.ndim else scale[()]


def remember(cache: dict[Hashable, Any], key: Hashable, make: Callable[[], _Value]) -> _Value:
    """cache[key], made when missing; the oldest entry goes when the cache is full."""
    found = cache.get(key)
    if found is None:
        found = make()
        with _cache_lock:
            if len(cache) >= _CACHE_SIZE:
                del cache[next(iter(cache))]
            cache[key] = found
    result: _Value = found
    return result
