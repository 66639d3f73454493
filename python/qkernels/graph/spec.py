# SPDX-License-Identifier: Apache-2.0
"""The layers of a quantized model as plain data: what is saved, shown and prepared to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from qkernels.conv import PackedConv2d
from qkernels.graph.ir import Activation
from qkernels.linear import PackedLinear
from qkernels.quantization.qparams import QParams

Rounding = Literal["nearest_even", "fixed_point", "fixed_point_single"]
Shape = tuple[int | None, ...]  # None: the batch

# Layers whose output has the scale and zero point of their input.
PRESERVING = frozenset(
    {"max_pool2d", "avg_pool2d", "global_avg_pool2d", "flatten", "relu", "relu6"}
)


@dataclass(frozen=True, eq=False)
class QuantizedLayer:
    """One layer of a `Model`. Feature maps are (batch, height, width, channels).

    Attributes:
        name, op: as in `Model.trace`.
        inputs: names of the model's inputs and earlier layers.
        input_qparams: how each input is quantized; None where the layer reads float32.
        qparams: how the output is quantized; None where it is float32.
        output_shape: on the calibration data, the batch as None.
        activation: fused after the operation, None, "relu" or "relu6".
        rounding: of the sums to the output's integers.
        attributes: geometry by the names of `qkernels.nn` (stride, padding, kernel...).
        weight: packed integers; a float32 array in the layout of `qkernels.nn` in a layer that
            runs in float; None in a layer without weights.
        bias: float32 (channels,) or None.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    input_qparams: tuple[QParams | None, ...]
    qparams: QParams | None
    output_shape: Shape
    activation: Activation | None = None
    rounding: Rounding = "nearest_even"
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    weight: PackedLinear | PackedConv2d | NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None

    @property
    def quantized(self) -> bool:
        """Does the layer compute on integers."""
        return self.qparams is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the weights as they lie in memory, their scales, and the bias."""
        total = 0 if self.bias is None else self.bias.nbytes
        if self.weight is None:
            return total
        if not isinstance(self.weight, np.ndarray):
            total += np.asarray(self.weight.weight_scale).nbytes
        return total + self.weight.nbytes


@dataclass(frozen=True)
class ModelInput:
    """An input of a `Model`.

    Attributes:
        name: the key of `Model.run`.
        qparams: scale and zero point from calibration; integers given as input have them.
        quantized: False where a layer that runs in float reads it: it is kept in float32 then.
        shape: on the calibration data, (batch, height, width, channels), the batch as None.
    """

    name: str
    qparams: QParams
    quantized: bool
    shape: Shape
