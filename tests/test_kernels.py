# SPDX-License-Identifier: Apache-2.0
"""Every kernel of the registry, with shapes from its own descriptor. No kernel is named here."""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import qkernels as qk
from qkernels import _core
from support import integers, same, zero_point

KERNELS = _core.kernels()
HERE = [k for k in KERNELS if k["available"]]
GEMM = [k for k in HERE if k["op"] == "gemm"]
DEPTHWISE = [k for k in HERE if k["op"] == "depthwise"]


def around(size, *, limit=200):
    """0, 1, and a tile size less one to twice plus one, with a prime."""
    return sorted({n for n in (1, size - 1, size, size + 1, 2 * size + 1, 37) if 0 <= n <= limit})


def test_names_are_unique_and_every_tier_is_there():
    names = [k["name"] for k in KERNELS]
    assert len(set(names)) == len(names)
    for op in ("gemm", "depthwise"):
        assert any(k["op"] == op and k["tier"] == "scalar" for k in KERNELS)
    available = {tier["name"]: tier["available"] for tier in _core.isas()}
    for kernel in KERNELS:
        assert kernel["available"] == available[kernel["tier"]]


@pytest.mark.parametrize("kernel", GEMM, ids=lambda k: k["name"])
def test_gemm_around_its_tile(rng, kernel):
    with qk.use_isa(kernel["tier"]), qk.num_threads(1):
        assert qk.isa() == kernel["tier"]
        for m in around(kernel["mr"]):
            for n in around(kernel["nr"]):
                for k in (*around(kernel["kr"]), 3 * 64 + 5):
                    dtype = ("int8", "uint8")[(m + n + k) % 2]
                    a, b = integers(rng, (m, k), dtype), integers(rng, (k, n))
                    zp = {
                        "a_zero_point": zero_point(rng, dtype),
                        "b_zero_point": zero_point(rng, "int8"),
                    }
                    same(qk.gemm_int8(a, b, **zp), oracle.gemm(a, b, **zp), f"{m, k, n}")


@pytest.mark.parametrize("kernel", GEMM, ids=lambda k: k["name"])
def test_convolution_around_its_tile(rng, kernel):
    with qk.use_isa(kernel["tier"]), qk.num_threads(2):
        for width in around(kernel["mr"], limit=70):
            for channels in around(kernel["kr"], limit=70):
                x = integers(rng, (1, 3, width, channels), "uint8")
                weight = integers(rng, (kernel["nr"] + 1, channels, 3, 3))
                kw = {"padding": 1, "x_zero_point": zero_point(rng, "uint8")}
                same(qk.conv2d_int8(x, weight, **kw), oracle.conv2d(x, weight, **kw))


@pytest.mark.parametrize("kernel", DEPTHWISE, ids=lambda k: k["name"])
def test_depthwise_around_its_tile(rng, kernel):
    with qk.use_isa(kernel["tier"]), qk.num_threads(2):
        for width in around(kernel["mr"]):
            for channels in around(kernel["nr"]):
                for size in ((1, 1), (1, 2), (3, 3), (5, 5)):
                    dtype = ("int8", "uint8")[(width + channels) % 2]
                    x = integers(rng, (1, 2, width, channels), dtype)
                    weight = integers(rng, (channels, 1, *size))
                    kw = {
                        "padding": "same",
                        "groups": channels,
                        "x_zero_point": zero_point(rng, dtype),
                        "weight_zero_point": zero_point(rng, "int8", (channels,)),
                    }
                    same(qk.conv2d_int8(x, weight, **kw), oracle.conv2d(x, weight, **kw))


@pytest.mark.parametrize("kernel", GEMM, ids=lambda k: k["name"])
def test_portions_equal_the_whole(rng, kernel):
    """Random rows and columns computed alone have the bits of the whole."""
    with qk.use_isa(kernel["tier"]):
        m, n, k = 3 * kernel["mr"] + 2, 3 * kernel["nr"] + 5, 5 * kernel["kr"] + 1
        a, b = integers(rng, (m, k)), integers(rng, (k, n))
        whole = qk.gemm_int8(a, b)
        for _ in range(12):
            r0, r1 = sorted(rng.integers(0, m + 1, 2))
            c0, c1 = sorted(rng.integers(0, n + 1, 2))
            with qk.num_threads(int(rng.integers(1, 6))):
                same(qk.gemm_int8(a[r0:r1], b[:, c0:c1]), np.ascontiguousarray(whole[r0:r1, c0:c1]))
