# SPDX-License-Identifier: Apache-2.0
"""Cannot prepare shallow matrices, and prints where it must not disturb anybody."""

from bench_fakes import Fake, environment

__all__ = ["LIBRARY", "discover", "environment"]
LIBRARY = "Raising"


class Raising(Fake):
    def prepare(self, case, data, threads):
        print("hello from the library")  # noqa: T201
        if case.k <= 64:
            raise RuntimeError("K is too small\nand here is a long story")
        return super().prepare(case, data, threads)


def discover():
    return [Raising("Raising")]
