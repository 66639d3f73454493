# SPDX-License-Identifier: Apache-2.0
"""Right, but the process dies after some calls on deep matrices."""

import os
import sys

from bench_fakes import Fake, environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Crashing"


class Crashing(Fake):
    def prepare(self, case, data, threads):
        super().prepare(case, data, threads)
        left = [5000 if case.k > 64 else -1]

        def run():
            left[0] -= 1
            if left[0] == 0:
                sys.stderr.write("the stack of the library\nfatal: out of luck\n")
                sys.stderr.flush()
                os.abort()

        return run


def discover():
    return [Crashing("Crashing")]
