# SPDX-License-Identifier: Apache-2.0
"""qkernels with a kernel that saturates."""

from bench_fakes.wrong import Wrong, environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "qkernels"


def discover():
    return [Wrong("qkernels")]
