# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: B023 - every lambda is called in the turn of the loop that makes it
"""Every public kernel with its arrays against unmapped pages: an over-read is a crash here."""

from __future__ import annotations

import signal
import sys

import numpy as np
import pytest

import qkernels as qk
from guard import guarded
from support import everywhere, integers, run_python, same, scales

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mprotect through glibc")
SIZES = (1, 3, 15, 16, 17, 31, 33, 63, 65)


def check(call, *arrays, out_dtype=None):
    """`call(*arrays, out=...)` on ordinary memory gives the answer; then against a page."""
    want = everywhere(lambda: call(*arrays), (1,))
    for at_end in (True, False):
        held = [guarded(a, at_end=at_end) for a in arrays]
        same(everywhere(lambda h=held: call(*h), (1, 2)), want)
        if out_dtype is not None:
            out = guarded(np.zeros(want.shape, out_dtype), at_end=at_end)

            def into(h=held, out=out):
                out[...] = 1
                return call(*h, out=out)

            same(everywhere(into, (1, 2)), want)


@pytest.mark.parametrize("place", ["size", "-1"])
def test_the_guard_guards(place):
    code = (
        "import ctypes, resource, numpy as np\n"
        "from guard import guarded\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "size = 100\n"
        f"a = guarded(np.zeros(size, np.int8), at_end={place == 'size'})\n"
        f"ctypes.string_at(a.ctypes.data + {place}, 1)\n"
    )
    assert run_python(code).returncode == -signal.SIGSEGV


@pytest.mark.parametrize("k", SIZES)
@pytest.mark.parametrize("n", [1, 16, 17, 33])
def test_gemm(rng, k, n):
    for m in (1, 5, 17):
        for dtype in ("int8", "uint8"):
            a, b = integers(rng, (m, k), dtype), integers(rng, (k, n))
            check(
                lambda a, b, out=None: qk.gemm_int8(a, b, a_zero_point=3, out=out),
                a,
                b,
                out_dtype="int32",
            )
            padded = integers(rng, (m, k + 5), dtype)[:, 5:]
            check(lambda a: qk.gemm_int8(a[:, 5:], b), padded.base)


@pytest.mark.parametrize("k", SIZES)
def test_linear(rng, k):
    for m, n in ((1, 17), (4, 31), (18, 16)):
        weight, bias = integers(rng, (n, k)), rng.normal(0, 1, n).astype(np.float32)
        scale = scales(rng, (n,))
        packed = qk.pack_linear(weight, bias, weight_scale=scale)
        kw = {"x_scale": 0.1, "out_scale": 0.4}
        x = integers(rng, (m, k))
        check(lambda x, out=None: qk.linear_int8(x, packed, **kw, out=out), x, out_dtype="int8")
        check(
            lambda x, out=None: qk.linear_int8(x, packed, x_scale=0.1, out=out),
            x,
            out_dtype="float32",
        )
        check(
            lambda x, w, b, s: qk.linear_int8(x, w, b, weight_scale=s, **kw), x, weight, bias, scale
        )
        for dtype in ("float32", "float16"):
            real = rng.normal(0, 1, (m, k)).astype(dtype)
            check(lambda x, out=None: qk.linear_int8(x, packed, out=out), real, out_dtype="float32")


@pytest.mark.parametrize("channels", [1, 3, 16, 17, 33])
@pytest.mark.parametrize("depthwise", [False, True])
def test_conv2d(rng, channels, depthwise):
    groups = channels if depthwise else 1
    out = channels if depthwise else 18
    for kernel, geometry in (((3, 3), {"padding": 1}), ((2, 3), {"stride": 2}), ((1, 1), {})):
        weight = integers(rng, (out, channels // groups, *kernel))
        geometry |= {"groups": groups}
        packed = qk.pack_conv2d(weight, weight_scale=0.01, **geometry)
        x = integers(rng, (2, 5, 6, channels))
        kw = {"x_scale": 0.1, "out_scale": 0.4}
        check(lambda x, out=None: qk.conv2d_int8(x, packed, **kw, out=out), x, out_dtype="int8")
        check(lambda x, w: qk.conv2d_int8(x, w, **geometry), x, weight)
        real = rng.normal(0, 1, (2, channels, 5, 6)).astype(np.float32)
        check(
            lambda x, out=None: qk.conv2d_int8(x, packed, layout="NCHW", out=out),
            real,
            out_dtype="float32",
        )


@pytest.mark.parametrize("n", [*SIZES, 127, 129, 4096])
def test_elementwise(rng, n):
    for dtype in ("float32", "float16"):
        x = rng.normal(0, 1, (2, n)).astype(dtype)
        check(lambda x, out=None: qk.quantize(x, 0.02, out=out), x, out_dtype="int8")
        check(qk.dynamic_quantize, x)
        check(lambda x: qk.dynamic_quantize(x, scheme="asymmetric"), x)
        check(lambda x: np.asarray(qk.choose_qparams(x, axis=0).scale), x)
    scale = scales(rng, (n,))
    x = rng.normal(0, 1, (2, n)).astype(np.float32)
    check(lambda x, s: qk.quantize(x, s, axis=1), x, scale)
    for dtype in ("int8", "uint8", "int32"):
        q = integers(rng, (2, n), dtype)
        check(
            lambda q, s, out=None: qk.dequantize(q, s, axis=1, out=out),
            q,
            scale,
            out_dtype="float32",
        )
    acc = integers(rng, (2, n), "int32")
    for rounding in ("nearest_even", "fixed_point", "fixed_point_single"):
        check(
            lambda acc, s, out=None, r=rounding: qk.requantize(
                acc, s * np.float32(1e-6), axis=1, rounding=r, out=out
            ),
            acc,
            scale,
            out_dtype="int8",
        )
