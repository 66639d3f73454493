# SPDX-License-Identifier: Apache-2.0
"""qkernels with a kernel that takes twice its time."""

from time import perf_counter

from bench_fakes import busy
from qkernels.bench.peers import qkernels_

LIBRARY = "qkernels"
environment = qkernels_.environment


class Slowed(qkernels_.QKernels):
    def prepare(self, case, data, threads):
        run = super().prepare(case, data, threads)

        def twice():
            start = perf_counter()
            run()
            busy(perf_counter() - start)

        return twice


def discover():
    (ours,) = qkernels_.discover()
    return [Slowed(ours.name, ours.version)]
