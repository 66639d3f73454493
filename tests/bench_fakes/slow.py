# SPDX-License-Identifier: Apache-2.0
"""Right, a millisecond a call; and half as slow, in the same process."""

from bench_fakes import Fake, busy

LIBRARY = "Slow"


class Slow(Fake):
    def __init__(self, name, seconds):
        super().__init__(name)
        self.seconds = seconds

    def prepare(self, case, data, threads):
        super().prepare(case, data, threads)
        return lambda: busy(self.seconds)


def environment(isa, threads):
    return {"SLOW_CAP": isa or ""}


def discover():
    return [Slow("Slow", 1e-3), Slow("Half as slow", 0.5e-3)]
