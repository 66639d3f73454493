# SPDX-License-Identifier: Apache-2.0
"""The benchmark behind `qkernels bench`: qkernels beside what else is installed, on this machine.

A suite (`suites`) is a list of cases; an adapter (`peers`) makes the contenders of a library; the
runner (`runner`) times them in turns, each in a process of its own, and what comes out is one JSON
document (`results`), from which every table and picture is drawn.
"""
