# SPDX-License-Identifier: Apache-2.0
"""Convolution layers and how they are called: "3x3/2 128->128 @56"."""

from __future__ import annotations

from typing import NamedTuple

from qkernels.bench.case import Case


class Layer(NamedTuple):
    """A square convolution of a square image, padded so that stride 1 keeps the size."""

    channels: int
    out_channels: int
    kernel: int
    size: int
    stride: int = 1
    groups: int = 1

    @property
    def name(self) -> str:
        kernel = f"{self.kernel}x{self.kernel}" + (f"/{self.stride}" if self.stride > 1 else "")
        if self.groups == self.channels:
            return f"{kernel} {self.channels} @{self.size}"
        groups = f" g={self.groups}" if self.groups > 1 else ""
        return f"{kernel} {self.channels}->{self.out_channels}{groups} @{self.size}"


def layer_case(suite: str, layer: Layer, batch: int = 1) -> Case:
    return Case(
        suite,
        layer.name,
        "conv",
        {
            "batch": batch,
            "h": layer.size,
            "w": layer.size,
            "c": layer.channels,
            "oc": layer.out_channels,
            "kh": layer.kernel,
            "kw": layer.kernel,
            "stride": layer.stride,
            "pad": layer.kernel // 2,
            "dilation": 1,
            "groups": layer.groups,
        },
    )
