# SPDX-License-Identifier: Apache-2.0
"""A library whose import ends the process."""

import os

from bench_fakes import environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Dying"


def discover():
    os._exit(3)
