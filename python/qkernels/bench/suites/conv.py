# SPDX-License-Identifier: Apache-2.0
"""Convolutions of ResNet and MobileNet, batch 1, NHWC, uint8 in and out, bias, relu."""

from __future__ import annotations

from qkernels.bench.case import Case

from .layers import Layer, layer_case

ABOUT = "dense and grouped convolutions, int8 in and out"
LAYERS = (
    Layer(3, 64, kernel=7, size=224, stride=2),
    Layer(64, 64, kernel=3, size=56),
    Layer(128, 128, kernel=3, size=28),
    Layer(256, 256, kernel=3, size=14),
    Layer(512, 512, kernel=3, size=7),
    Layer(128, 128, kernel=3, size=56, stride=2),
    Layer(64, 256, kernel=1, size=56),
    Layer(256, 64, kernel=1, size=56),
    Layer(512, 128, kernel=1, size=28),
    Layer(1024, 256, kernel=1, size=14),
    Layer(2048, 512, kernel=1, size=7),
    Layer(320, 1280, kernel=1, size=7),
    Layer(128, 128, kernel=3, size=56, groups=32),
)
QUICK = (LAYERS[0], LAYERS[1], LAYERS[3], LAYERS[6])


def cases(quick: bool) -> list[Case]:
    return [layer_case("conv", layer) for layer in (QUICK if quick else LAYERS)]
