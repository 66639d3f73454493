# SPDX-License-Identifier: Apache-2.0
"""A whole network: the digits CNN of `qkernels.data.digits`, quantized, against its float32."""

from __future__ import annotations

from qkernels.bench.case import Case

ABOUT = "a small convolutional network from end to end"


def cases(quick: bool) -> list[Case]:
    return [Case("model", f"digits batch {n}", "digits", {"batch": n}) for n in (1, 32)]
