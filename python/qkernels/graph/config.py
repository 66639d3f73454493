# SPDX-License-Identifier: Apache-2.0
"""How a model is quantized."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from qkernels import checks
from qkernels.errors import QKernelsTypeError, QKernelsValueError
from qkernels.graph.spec import Rounding
from qkernels.quantization.histogram import METHODS, SCHEMES, check_choice

_PER_LAYER = ("activation_scheme", "method", "percentile", "rounding")


@dataclass(frozen=True)
class QuantConfig:
    """Choices of `qkernels.quantize_model`. Weights are int8, symmetric, a scale a channel.

    Attributes:
        activation_scheme: "asymmetric" (uint8, a zero point) or "symmetric" (int8, zero point 0).
        method: how a range is chosen from the values seen in calibration: "minmax" keeps all of
            them, "percentile" drops the outermost, "mse" minimises the squared error, "entropy"
            the Kullback-Leibler divergence.
        percentile: of "percentile", above 50 and at most 100.
        rounding: of sums to codes: "nearest_even" as ONNX Runtime, "fixed_point" as TFLite's
            reference, "fixed_point_single" as TOSA.
        skip: names of layers that run in float32.
        per_layer: other choices for single layers, {name: {"method": "minmax", ...}} with the
            four choices above; the name of a graph input sets its scheme and method.

    Layers are named as in `Model.trace`. Raises QKernelsError for what is not listed here.

    >>> import qkernels as qk
    >>> qk.QuantConfig(method="mse", per_layer={"conv2d1": {"method": "minmax"}}).method
    'mse'
    """

    activation_scheme: Literal["asymmetric", "symmetric"] = "asymmetric"
    method: Literal["minmax", "percentile", "mse", "entropy"] = "minmax"
    percentile: float = 99.99
    rounding: Rounding = "nearest_even"
    skip: Sequence[str] = ()
    per_layer: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.choice(self.activation_scheme, SCHEMES, "activation_scheme")
        checks.choice(self.method, METHODS, "method")
        check_choice(self.method, self.activation_scheme, self.activation_dtype, self.percentile)
        checks.choice(self.rounding, checks.ROUNDINGS, "rounding")
        names = self.skip if isinstance(self.skip, Iterable) else [None]
        if isinstance(self.skip, str) or not all(isinstance(name, str) for name in names):
            raise QKernelsTypeError(f"skip must be a sequence of layer names, not {self.skip!r}")
        object.__setattr__(self, "skip", tuple(self.skip))
        if not isinstance(self.per_layer, Mapping) or not all(
            isinstance(choices, Mapping) for choices in self.per_layer.values()
        ):
            raise QKernelsTypeError(
                f"per_layer must map layer names to dicts of choices, not {self.per_layer!r}"
            )
        for name, choices in self.per_layer.items():
            unknown = set(choices) - set(_PER_LAYER)
            if unknown:
                raise QKernelsValueError(
                    f"per_layer[{name!r}] must have keys among {_PER_LAYER}, not {sorted(unknown)}"
                )
            QuantConfig(**choices)
        object.__setattr__(self, "per_layer", {k: dict(v) for k, v in self.per_layer.items()})

    def of(self, name: str) -> QuantConfig:
        """The choices for one layer."""
        return replace(self, per_layer={}, **self.per_layer.get(name, {}))

    @property
    def activation_dtype(self) -> str:
        """The dtype of activations: "uint8" or "int8"."""
        return "uint8" if self.activation_scheme == "asymmetric" else "int8"

    def check_names(self, layers: Sequence[str], inputs: Sequence[str]) -> None:
        """Every name in skip and per_layer must be one of the model's."""
        known = {"skip": list(layers), "per_layer": [*inputs, *layers]}
        for argument, names in known.items():
            unknown = [name for name in getattr(self, argument) if name not in names]
            if unknown:
                raise QKernelsValueError(f"{argument} must name some of {names}, not {unknown}")
