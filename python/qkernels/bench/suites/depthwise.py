# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolutions of MobileNet, batch 1, NHWC, uint8 in and out, bias, relu."""

from __future__ import annotations

from qkernels.bench.case import Case

from .layers import Layer, layer_case

ABOUT = "depthwise convolutions, int8 in and out"
LAYERS = (
    Layer(32, 32, kernel=3, size=112, groups=32),
    Layer(96, 96, kernel=3, size=112, stride=2, groups=96),
    Layer(144, 144, kernel=3, size=56, groups=144),
    Layer(384, 384, kernel=3, size=14, groups=384),
    Layer(960, 960, kernel=3, size=7, groups=960),
    Layer(120, 120, kernel=5, size=28, groups=120),
)
QUICK = (LAYERS[0], LAYERS[3], LAYERS[5])


def cases(quick: bool) -> list[Case]:
    return [layer_case("depthwise", layer) for layer in (QUICK if quick else LAYERS)]
