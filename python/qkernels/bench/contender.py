# SPDX-License-Identifier: Apache-2.0
"""What an adapter of a library must offer: the module and its contenders.

An adapter is a module of `qkernels.bench.peers` with three names:

- `LIBRARY`: str, the library's name as tables show it.
- `environment(isa, threads) -> dict[str, str] | None`: environment variables that the worker must
  have before the library is imported, to cap it to a tier of qkernels (isa None: no cap) and to a
  number of threads. None: this library cannot be capped to that tier.
- `discover() -> Sequence[Contender] | str`: what can be timed, or one sentence why nothing can.
  Called in the worker; libraries are imported inside it and nowhere else.

The runner imports adapters without calling `discover`, so a module imports only NumPy and qkernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from .case import Case, Data

Run = Callable[[], object]


@runtime_checkable
class Repeated(Protocol):
    """A run whose loop is inside native code: `repeat(calls)` does the work `calls` times."""

    def __call__(self) -> object: ...

    def repeat(self, calls: int) -> object: ...


class Contender(Protocol):
    """One way to do the work of cases.

    Attributes:
        name: unique in the run, as tables show it: "oneDNN", "ONNX Runtime float32".
        version: of the library.
        dtype: of the arithmetic: "int8", "float32" or "bfloat16".
    """

    name: str
    version: str
    dtype: str

    def supports(self, case: Case) -> str | None:
        """None when it can do the case, otherwise the reason in a few words."""
        ...

    def prepare(self, case: Case, data: Data, threads: int) -> Run:
        """The call to time, with weights packed, buffers aligned and bound ahead, and the
        library's own switch set to `threads`. Replaces what was prepared before."""
        ...

    def answer(self) -> NDArray[Any]:
        """The result of the last run in the shape of `data.expected`: codes as uint8 with
        `out_zero_point`, or as int8 with `out_zero_point - 128`; int32 sums; or float32 in real
        units."""
        ...


class Adapter(Protocol):
    """The module of a library."""

    LIBRARY: str

    def environment(self, isa: str | None, threads: int) -> dict[str, str] | None: ...

    def discover(self) -> Sequence[Contender] | str: ...
