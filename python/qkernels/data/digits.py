# SPDX-License-Identifier: Apache-2.0
"""Handwritten digits: a float32 network trained on them, and images it has not seen.

>>> from qkernels.data import digits
>>> images, labels = digits.held_out()
>>> float((digits.network()(images).argmax(1) == labels).mean()) > 0.98
True

The images are from UCI Optical Recognition of Handwritten Digits (E. Alpaydin and C. Kaynak, 1998,
CC BY 4.0); `examples/train_digits.py` trains the network and writes the file read here.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from qkernels import nn

Float = NDArray[np.float32]


class Labelled(NamedTuple):
    """Images float32 (n, 1, 8, 8) in [0, 1] and their classes int64 (n,), 0 to 9."""

    images: Float
    labels: NDArray[np.int64]


def network() -> nn.Graph:
    """The trained network: images float32 (n, 1, 8, 8) in [0, 1] to scores float32 (n, 10)."""
    arrays = _arrays()

    def conv(name: str, padding: int = 0, groups: int = 1) -> nn.Conv2d:
        weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
        return nn.Conv2d(weight, bias, padding=padding, groups=groups)

    classifier = nn.Linear(arrays["classifier.weight"], arrays["classifier.bias"])
    return nn.Graph(
        [
            ("stem", conv("stem", padding=1), "image"),
            ("stem_relu", nn.ReLU(), "stem"),
            ("depthwise", conv("depthwise", padding=1, groups=24), "stem_relu"),
            ("depthwise_relu", nn.ReLU(), "depthwise"),
            ("pointwise", conv("pointwise"), "depthwise_relu"),
            ("pointwise_relu", nn.ReLU(), "pointwise"),
            ("pool", nn.MaxPool2d(2), "pointwise_relu"),
            ("body", conv("body", padding=1), "pool"),
            ("residual", nn.Add(), ("body", "pool")),
            ("residual_relu", nn.ReLU(), "residual"),
            ("head", conv("head", padding=1), "residual_relu"),
            ("head_relu", nn.ReLU(), "head"),
            ("flatten", nn.Flatten(), "head_relu"),
            ("classifier", classifier, "flatten"),
        ],
        inputs="image",
    )


def calibration() -> Float:
    """256 of the training images, to calibrate activations with: float32 (256, 1, 8, 8)."""
    return _scaled("calibration_images")


def held_out() -> Labelled:
    """The 720 images that training has not seen, about 72 of each class, in random order."""
    return Labelled(_scaled("held_out_images"), _arrays()["held_out_labels"].astype(np.int64))


def facts() -> dict[str, Any]:
    """Where the file comes from: source, seed, the build that trained it, its float accuracy."""
    return cast("dict[str, Any]", json.loads(_arrays()["facts"].tobytes()))


def _scaled(name: str) -> Float:
    images: Float = _arrays()[name].astype(np.float32) / np.float32(16)
    return images


@cache
def _arrays() -> dict[str, NDArray[Any]]:
    with (
        resources.files("qkernels.data").joinpath("digits.npz").open("rb") as file,
        np.load(file, allow_pickle=False) as archive,
    ):
        return {name: archive[name] for name in archive.files}
