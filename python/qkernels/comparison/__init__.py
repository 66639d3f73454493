# SPDX-License-Identifier: Apache-2.0
"""A quantized model beside its float reference: what `qkernels.compare` measures and shows.

`compare` runs both and fills `results`; `metrics` has the error measures; `table`, `report` (with
`svg`) and `plot` are three ways to look at the result.
"""

from .measure import compare
from .metrics import ErrorStats, Histogram
from .results import Accuracy, Comparison, LayerComparison, Sample

__all__ = [
    "Accuracy",
    "Comparison",
    "ErrorStats",
    "Histogram",
    "LayerComparison",
    "Sample",
    "compare",
]
