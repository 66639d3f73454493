# SPDX-License-Identifier: Apache-2.0
"""An installed qkernels beside NumPy alone: it imports, computes exactly on every tier, says so."""

from __future__ import annotations

import sys
from importlib.metadata import distributions
from importlib.util import find_spec

import numpy as np

import qkernels as qk


def main() -> int:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (7, 65), dtype=np.int8)
    w = rng.integers(-128, 128, (19, 65), dtype=np.int8)
    exact = x.astype(np.int64) @ w.astype(np.int64).T
    for isa in qk.available_isas():
        with qk.use_isa(isa):
            if not np.array_equal(qk.linear_int8(x, w), exact):
                sys.exit(f"{isa}: wrong sums")
    extras = [name for name in ("torch", "onnx", "matplotlib", "rich") if find_spec(name)]
    if extras:
        sys.exit(f"this environment is not clean: it has {', '.join(extras)}")
    names = sorted({str(d.metadata["Name"]) for d in distributions()} - {"pip", "setuptools"})
    sys.stdout.write(
        f"qkernels {qk.__version__}: exact on {', '.join(qk.available_isas())}; "
        f"installed: {', '.join(names)}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
