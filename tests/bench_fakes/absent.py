# SPDX-License-Identifier: Apache-2.0
"""A library that is not installed."""

from bench_fakes import environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Absent"


def discover():
    return "Absent is not installed."
