# SPDX-License-Identifier: Apache-2.0
"""Right, but a call never comes back after some."""

import time

from bench_fakes import Fake, environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Hanging"


class Hanging(Fake):
    def prepare(self, case, data, threads):
        super().prepare(case, data, threads)
        left = [5000]

        def run():
            left[0] -= 1
            if left[0] == 0:
                time.sleep(3600)

        return run


def discover():
    return [Hanging("Hanging")]
