# SPDX-License-Identifier: Apache-2.0
"""Orders of a feature map's axes."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qkernels.checks import choice

Layout = Literal["NCHW", "NHWC"]
T = TypeVar("T", bound=np.generic)


def check_layout(layout: Any) -> Layout:
    return cast(Layout, choice(layout, ("NCHW", "NHWC"), "layout"))


def to_layout(x: NDArray[T], have: Layout, want: Layout) -> NDArray[T]:
    """A view of x with the axes of a feature map in order `want`; other ranks as they are."""
    if have == want or x.ndim != 4:
        return x
    view: NDArray[T] = x.transpose(0, 2, 3, 1) if want == "NHWC" else x.transpose(0, 3, 1, 2)
    return view
