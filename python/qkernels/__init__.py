# SPDX-License-Identifier: Apache-2.0
"""qkernels: exact int8 inference kernels for Python, the same bits on every CPU.

Kernels take NumPy arrays (or torch CPU tensors, or anything with DLPack or the buffer protocol)
and return the same kind, without copies. Quantize a layer's weights once, then call it:

>>> import numpy as np
>>> import qkernels as qk
>>> rng = np.random.default_rng(0)
>>> weight = rng.standard_normal((64, 128), dtype=np.float32)  # (N, K)
>>> x = rng.standard_normal((4, 128), dtype=np.float32)
>>> packed = qk.pack_linear(weight)
>>> y = qk.linear_int8(x, packed, activation="relu")  # x is quantized by the row, on the fly
>>> bool(np.abs(y - np.maximum(x @ weight.T, 0)).max() < 0.5)
True

With calibrated scales everything stays in int8, and sums are exact:

>>> x_params = qk.choose_qparams(x, scheme="asymmetric", dtype="uint8")
>>> q = qk.quantize(x, x_params.scale, x_params.zero_point, dtype="uint8")
>>> out = qk.linear_int8(
...     q, packed, x_scale=x_params.scale, x_zero_point=x_params.zero_point, out_scale=0.3,
...     out_zero_point=128)
>>> out.dtype, out.shape
(dtype('uint8'), (4, 64))

Quantization: `QParams`, `choose_qparams`, `quantize`, `dequantize`, `dynamic_quantize`, `verify`.
Kernels: `gemm_int8`, `linear_int8`, `conv2d_int8`, `requantize`; `pack_gemm`, `pack_linear` and
`pack_conv2d` prepare weights, and `packed.bind(...)` prepares whole calls.
Models: `quantize_model`, `Model`, `load`, `compare`, the layers of `qkernels.nn`.
Machine: `isa`, `available_isas`, `use_isa`, `set_num_threads`, `get_num_threads`, `num_threads`,
`show_config`, `get_include`; the environment variables QKERNELS_ISA and QKERNELS_NUM_THREADS.

Everything the library detects is a `QKernelsError` that is also a ValueError or a TypeError.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from qkernels import _core, machine
from qkernels.conv import PackedConv2d, conv2d_int8, pack_conv2d
from qkernels.errors import QKernelsError
from qkernels.gemm import PackedGemm, gemm_int8, pack_gemm
from qkernels.integrations import threadpoolctl as _threadpoolctl
from qkernels.linear import PackedLinear, linear_int8, pack_linear
from qkernels.machine import (
    available_isas,
    get_include,
    get_num_threads,
    isa,
    num_threads,
    set_num_threads,
    show_config,
    use_isa,
)
from qkernels.quantization import (
    QParams,
    QuantizationError,
    choose_qparams,
    dequantize,
    dynamic_quantize,
    quantize,
    requantize,
    verify,
)

if TYPE_CHECKING:
    from qkernels import nn
    from qkernels.comparison import Comparison, compare
    from qkernels.graph import Model, QuantConfig, load, quantize_model

__version__ = _core.__version__

__all__ = [
    "Comparison",
    "Model",
    "PackedConv2d",
    "PackedGemm",
    "PackedLinear",
    "QKernelsError",
    "QParams",
    "QuantConfig",
    "QuantizationError",
    "__version__",
    "available_isas",
    "choose_qparams",
    "compare",
    "conv2d_int8",
    "dequantize",
    "dynamic_quantize",
    "gemm_int8",
    "get_include",
    "get_num_threads",
    "isa",
    "linear_int8",
    "load",
    "nn",
    "num_threads",
    "pack_conv2d",
    "pack_gemm",
    "pack_linear",
    "quantize",
    "quantize_model",
    "requantize",
    "set_num_threads",
    "show_config",
    "use_isa",
    "verify",
]

# Names that cost an import of their own: loaded when first asked for.
_LAZY = {
    "nn": "qkernels.nn",
    "Model": "qkernels.graph",
    "QuantConfig": "qkernels.graph",
    "load": "qkernels.graph",
    "quantize_model": "qkernels.graph",
    "Comparison": "qkernels.comparison",
    "compare": "qkernels.comparison",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'qkernels' has no attribute {name!r}")
    module = importlib.import_module(_LAZY[name])
    value = module if module.__name__ == f"{__name__}.{name}" else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


machine.apply_environment()
_threadpoolctl.install()
