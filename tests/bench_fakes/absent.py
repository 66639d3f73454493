# SPDX-License-Identifier: Apache-2.0
"""A library that is not installed."""

from bench_fakes import environment as environment

LIBRARY = "Absent"


def discover():
    return "Absent is not installed."
