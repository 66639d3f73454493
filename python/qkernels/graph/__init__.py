# SPDX-License-Identifier: Apache-2.0
"""Models: fusing float graphs, calibration, the quantized model, and its file.

`ir` fuses a `qkernels.nn` graph into the layers a quantized model has; `float_ops` computes them in
float32 and `reference_ops` the integer ones that have no kernel; `quantize` chooses scales and
integers; `spec` is a quantized layer as plain data, `prepare` binds one to the kernels, `model`
runs them; `container` reads and writes safetensors files and `serialize` puts a model into one.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qkernels.graph.config import QuantConfig
    from qkernels.graph.model import LayerOutput, Model
    from qkernels.graph.quantize import quantize_model
    from qkernels.graph.serialize import load

__all__ = ["LayerOutput", "Model", "QuantConfig", "load", "quantize_model"]

# Loaded when asked for: `qkernels.nn` needs parts of this package, and these need `qkernels.nn`.
_LAZY = {
    "LayerOutput": "model",
    "Model": "model",
    "QuantConfig": "config",
    "load": "serialize",
    "quantize_model": "quantize",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
