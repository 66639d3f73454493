# SPDX-License-Identifier: Apache-2.0
"""gemm_int8 and pack_gemm against exact integer products."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import oracle
import qkernels as qk
from support import EDGES, everywhere, integers, placements, same, zero_point

DTYPES = list(itertools.product(("int8", "uint8"), repeat=2))
N = len(EDGES)
SHAPES = [(EDGES[i], EDGES[(i * 5 + 3) % N], EDGES[(i * 7 + 8) % N]) for i in range(N)]
SHAPES += [(EDGES[(i * 3 + 1) % N], EDGES[i], EDGES[(i * 4 + 9) % N]) for i in range(N)]
SHAPES += [(1, 1, 1), (1, 257, 65), (65, 1, 65), (2, 129, 191), (33, 64, 64), (131, 67, 83)]


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_shapes(rng, m, k, n):
    for (a_dtype, b_dtype), kind in zip(DTYPES, ("none", "scalar", "vector", "mixed"), strict=True):
        a, b = integers(rng, (m, k), a_dtype), integers(rng, (k, n), b_dtype)
        zps = {
            "none": (0, 0),
            "scalar": (zero_point(rng, a_dtype), zero_point(rng, b_dtype)),
            "vector": (zero_point(rng, a_dtype, (m,)), zero_point(rng, b_dtype, (n,))),
            "mixed": (zero_point(rng, a_dtype), zero_point(rng, b_dtype, (n,))),
        }[kind]
        zp = {"a_zero_point": zps[0], "b_zero_point": zps[1]}
        want = oracle.gemm(a, b, **zp)
        same(everywhere(lambda a=a, b=b, zp=zp: qk.gemm_int8(a, b, **zp)), want)
        packed = qk.pack_gemm(b)
        same(everywhere(lambda a=a, p=packed, zp=zp: qk.gemm_int8(a, p, **zp)), want, "packed")
        same(packed.unpack(), b, "unpacked")


@pytest.mark.parametrize(("a_dtype", "b_dtype"), DTYPES)
def test_large_enough_to_split_over_threads(rng, a_dtype, b_dtype):
    a, b = integers(rng, (193, 530), a_dtype), integers(rng, (530, 307), b_dtype)
    zp = {
        "a_zero_point": zero_point(rng, a_dtype),
        "b_zero_point": zero_point(rng, b_dtype, (307,)),
    }
    same(everywhere(lambda: qk.gemm_int8(a, b, **zp)), oracle.gemm(a, b, **zp))


@pytest.mark.parametrize(("a_dtype", "b_dtype"), DTYPES)
def test_corners_of_the_ranges(a_dtype, b_dtype):
    """Constant and alternating extremes: a saturating 16-bit intermediate would show here."""

    def ends(dtype):
        return np.iinfo(dtype).min, np.iinfo(dtype).max

    for m, k, n in ((1, 63, 17), (17, 130, 33)):
        for va, vb in itertools.product(ends(a_dtype), ends(b_dtype)):
            a, b = np.full((m, k), va, a_dtype), np.full((k, n), vb, b_dtype)
            for za, zb in itertools.product((0, *ends(a_dtype)), (0, *ends(b_dtype))):
                zp = {"a_zero_point": za, "b_zero_point": zb}
                got = everywhere(lambda a=a, b=b, zp=zp: qk.gemm_int8(a, b, **zp), threads=(1,))
                same(got, np.full((m, n), k * (va - za) * (vb - zb), np.int32), f"{va, vb, zp}")
            b[1::2] = sum(ends(b_dtype)) - vb
            same(everywhere(lambda a=a, b=b: qk.gemm_int8(a, b), threads=(1,)), oracle.gemm(a, b))


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((2, 3, 5, 7), (7, 4)), ((5, 7), (3, 7, 4)), ((2, 1, 5, 7), (3, 7, 4)),
        ((4, 33, 20), (4, 20, 17)), ((0, 5, 7), (7, 4)), ((2, 0, 7), (2, 7, 4)),
        ((3, 5, 0), (0, 4)), ((2, 5, 7), (2, 7, 0)), ((1, 1, 1, 9), (2, 2, 9, 1)),
    ],
)  # fmt: skip
def test_batches_broadcast_as_in_matmul(rng, a_shape, b_shape):
    a, b = integers(rng, a_shape), integers(rng, b_shape, "uint8")
    zp = {"a_zero_point": -7, "b_zero_point": zero_point(rng, "uint8", b_shape[-1:])}
    want = oracle.gemm(a, b, **zp)
    assert want.shape == np.matmul(a.astype(float), b.astype(float)).shape
    same(everywhere(lambda: qk.gemm_int8(a, b, **zp)), want)
    out = np.full((*want.shape[:-1], 2 * want.shape[-1]), 77, np.int32)[..., ::2]
    assert qk.gemm_int8(a, b, **zp, out=out) is out
    same(out, want)


def test_batches_with_zero_points_of_rows(rng):
    a, b = integers(rng, (2, 5, 7)), integers(rng, (2, 7, 4))
    zp = {"a_zero_point": zero_point(rng, "int8", (5,)), "b_zero_point": 3}
    same(everywhere(lambda: qk.gemm_int8(a, b, **zp)), oracle.gemm(a, b, **zp))
    packed = qk.pack_gemm(b[1])
    same(everywhere(lambda: qk.gemm_int8(a, packed, **zp)), oracle.gemm(a, b[1], **zp))


def test_memory_placements(rng):
    a, b = integers(rng, (34, 67), "uint8"), integers(rng, (67, 49))
    want = oracle.gemm(a, b)
    for name, view in placements(a).items():
        same(everywhere(lambda v=view: qk.gemm_int8(v, b), threads=(2,)), want, f"a {name}")
    for name, view in placements(b).items():
        same(everywhere(lambda v=view: qk.gemm_int8(a, v), threads=(2,)), want, f"b {name}")
        same(everywhere(lambda v=view: qk.gemm_int8(a, qk.pack_gemm(v)), threads=(1,)), want, name)


def test_out_of_any_stride(rng):
    a, b = integers(rng, (33, 40)), integers(rng, (40, 18))
    want = oracle.gemm(a, b)
    canvas = np.full((70, 40), 123456, np.int32)
    views = {
        "rows": canvas[1:34, 2:20], "columns": canvas[:33, :36:2],
        "negative": canvas[32::-1, 17::-1],
        "transposed": np.full((18, 33), 5, np.int32).T,
    }  # fmt: skip
    for name, out in views.items():
        canvas[...] = 123456
        assert qk.gemm_int8(a, b, out=out) is out
        same(out, want, name)
    inside = np.zeros(canvas.shape, bool)
    inside[32::-1, 17::-1] = True
    qk.gemm_int8(a, b, out=views["negative"])
    canvas[inside] = 123456
    assert (canvas == 123456).all(), "written outside of out"


@pytest.mark.parametrize(
    ("a_dtype", "b_dtype", "a_zp", "b_zp", "k"),
    [
        ("int8", "int8", 0, 0, 131071),
        ("int8", "uint8", 0, 0, 65793),
        ("uint8", "uint8", 0, 0, 33025),
        ("uint8", "uint8", 128, 128, 131071),
        ("uint8", "int8", 128, 127, 65793),
        ("int8", "int8", -128, 127, 33025),
    ],
)
def test_depth_up_to_the_bound_and_no_further(a_dtype, b_dtype, a_zp, b_zp, k):
    """K * max|a - a_zp| * max|b - b_zp| <= 2^31 - 1, by dtype and not by data."""

    def farthest(dtype, zp):
        return max(np.iinfo(dtype).min, np.iinfo(dtype).max, key=lambda v: abs(v - zp))

    far_a, far_b = farthest(a_dtype, a_zp), farthest(b_dtype, b_zp)
    product = (far_a - a_zp) * (far_b - b_zp)
    assert k * abs(product) <= 2**31 - 1 < (k + 1) * abs(product)
    a, b = np.full((2, k), far_a, a_dtype), np.full((k, 3), far_b, b_dtype)
    zp = {"a_zero_point": a_zp, "b_zero_point": b_zp}
    same(everywhere(lambda: qk.gemm_int8(a, b, **zp), (1,)), np.full((2, 3), k * product, np.int32))
    a, b = np.zeros((2, k + 1), a_dtype), np.zeros((k + 1, 3), b_dtype)
    with pytest.raises(ValueError, match=str(k + 1)) as caught:
        qk.gemm_int8(a, b, **zp)
    assert isinstance(caught.value, qk.QKernelsError)


def test_the_bound_takes_the_farthest_zero_point_of_a_vector():
    a, b = np.zeros((2, 65793), "int8"), np.zeros((65793, 3), "int8")
    qk.gemm_int8(a, b, b_zero_point=np.array([0, 0, 0]))
    with pytest.raises(qk.QKernelsError, match="65793"):
        qk.gemm_int8(a, b, b_zero_point=np.array([0, 0, 127]), a_zero_point=127)


@given(st.data())
def test_any_shape(data):
    m, k, n = (data.draw(st.integers(0, 70), label=name) for name in "mkn")
    batch = data.draw(st.sampled_from([(), (2,), (1, 3)]), label="batch")
    a_dtype, b_dtype = data.draw(st.sampled_from(DTYPES), label="dtypes")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    a, b = integers(rng, (*batch, m, k), a_dtype), integers(rng, (k, n), b_dtype)
    a_zp = zero_point(rng, a_dtype, data.draw(st.sampled_from([(), (m,)])))
    b_zp = zero_point(rng, b_dtype, data.draw(st.sampled_from([(), (n,)])))
    zp = {"a_zero_point": a_zp, "b_zero_point": b_zp}
    same(everywhere(lambda: qk.gemm_int8(a, b, **zp), threads=(1, 2)), oracle.gemm(a, b, **zp))
