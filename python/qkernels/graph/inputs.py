# SPDX-License-Identifier: Apache-2.0
"""What callers pass in: float arrays, and names of a model's inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from qkernels import arrays
from qkernels.errors import QKernelsTypeError, QKernelsValueError


def as_float32(x: Any, name: str) -> NDArray[np.float32]:
    """An array of any kind as float32, without a copy where it is; half precision is widened."""
    source = arrays.operand(x, name)
    if source.dtype not in arrays.REALS:
        raise QKernelsTypeError(f"{name} must be {', '.join(arrays.REALS)}, not {source.dtype}")
    return cast(NDArray[np.float32], arrays.widened(source))


def single_name(kind: str, names: Sequence[str]) -> str:
    """The one name in `names`, or an error that sends the caller to run()."""
    if len(names) != 1:
        raise QKernelsValueError(
            f"the model must have one {kind} to be called, not {list(names)}: use run() with a dict"
        )
    return names[0]


def by_name(expected: Sequence[str], inputs: Any) -> Mapping[str, Any]:
    """`inputs` by name: a mapping with exactly the expected names, or the only input itself."""
    if not isinstance(inputs, Mapping):
        return {single_name("input", expected): inputs}
    if set(inputs) != set(expected):
        raise QKernelsValueError(f"inputs must be named {list(expected)}, not {list(inputs)}")
    return inputs
