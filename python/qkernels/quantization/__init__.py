# SPDX-License-Identifier: Apache-2.0
"""Quantization parameters: choosing, applying, verifying them."""

from qkernels.quantization.choose import choose_qparams
from qkernels.quantization.functional import dequantize, dynamic_quantize, quantize, requantize
from qkernels.quantization.histogram import Histogram
from qkernels.quantization.qparams import QParams
from qkernels.quantization.verify import QuantizationError, verify

__all__ = [
    "Histogram",
    "QParams",
    "QuantizationError",
    "choose_qparams",
    "dequantize",
    "dynamic_quantize",
    "quantize",
    "requantize",
    "verify",
]
