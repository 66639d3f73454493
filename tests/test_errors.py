# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E501 - the table of cases reads better with a case a line
"""One clear exception each: its type, the argument's name, what came, what was expected."""

from __future__ import annotations

import mmap
import pickle

import numpy as np
import pytest

import qkernels as qk

I8, U8, F32 = np.int8, np.uint8, np.float32
A, B = np.ones((3, 4), I8), np.ones((4, 5), I8)
W = np.ones((5, 4), I8)
WF = np.ones((5, 4), F32)
X = np.ones((2, 6, 6, 3), I8)
K = np.ones((4, 3, 3, 3), I8)
PACKED = qk.pack_linear(WF)
PACKED_CONV = qk.pack_conv2d(K, weight_scale=0.1)
ACC = np.ones((3, 5), np.int32)
STATIC = {"x_scale": 0.1, "weight_scale": 0.1, "out_scale": 0.1}


def read_only(array):
    array.flags.writeable = False
    return array


# (call, ValueError or TypeError, words that the message must hold)
CASES = {
    # gemm_int8
    "a of float": (lambda: qk.gemm_int8(WF.T, B), TypeError, "a int8 float32"),
    "b of int32": (lambda: qk.gemm_int8(A, B.astype("i4")), TypeError, "b int8 int32"),
    "inner sizes differ": (lambda: qk.gemm_int8(A, A), ValueError, "a b (3, 4)"),
    "a of one dimension": (lambda: qk.gemm_int8(A[0], B), ValueError, "a (4,)"),
    "b of one dimension": (lambda: qk.gemm_int8(A, B[:, 0]), ValueError, "b (4,)"),
    "batches differ": (lambda: qk.gemm_int8(np.ones((2, 3, 4), I8), np.ones((3, 4, 5), I8)), ValueError, "(2, 3"),
    "a zero point": (lambda: qk.gemm_int8(A, B, a_zero_point=128), ValueError, "a_zero_point 128 -128"),
    "a zero point of uint8": (lambda: qk.gemm_int8(A.view(U8), B, a_zero_point=-1), ValueError, "a_zero_point -1 255"),
    "b zero points": (lambda: qk.gemm_int8(A, B, b_zero_point=[1, 2]), ValueError, "b_zero_point 5 (2,)"),
    "a zero points": (lambda: qk.gemm_int8(A, B, a_zero_point=[1, 2]), ValueError, "a_zero_point 3 (2,)"),
    "a zero point of float": (lambda: qk.gemm_int8(A, B, a_zero_point=0.5), TypeError, "a_zero_point"),
    "gemm out dtype": (lambda: qk.gemm_int8(A, B, out=np.zeros((3, 5), "i8")), TypeError, "out int32 int64"),
    "gemm out shape": (lambda: qk.gemm_int8(A, B, out=np.zeros((5, 3), "i4")), ValueError, "out (3, 5) (5, 3)"),
    "out read-only": (lambda: qk.gemm_int8(A, B, out=read_only(np.zeros((3, 5), "i4"))), ValueError, "out read-only"),
    "out of stride 0": (
        lambda: qk.gemm_int8(A, B, out=np.lib.stride_tricks.as_strided(np.zeros(5, "i4"), (3, 5), (0, 4))),
        ValueError, "out",
    ),
    "out is no array": (lambda: qk.gemm_int8(A, B, out=[1]), TypeError, "out"),
    "pack_gemm of float": (lambda: qk.pack_gemm(WF), TypeError, "b float32 int8"),
    # linear_int8
    "x of float64": (lambda: qk.linear_int8(WF.astype("f8"), WF), TypeError, "x float64 float32"),
    "x of int32": (lambda: qk.linear_int8(ACC, np.ones((2, 5), I8)), TypeError, "x int32 int8"),
    "x of the wrong depth": (lambda: qk.linear_int8(np.ones((2, 7), I8), W), ValueError, "x 4 (2, 7)"),
    "x of no dimensions": (lambda: qk.linear_int8(np.int8(3), W), ValueError, "x"),
    "weight of three dimensions": (lambda: qk.linear_int8(A, np.ones((1, 5, 4), I8)), ValueError, "weight (N, K)"),
    "weight of int16": (lambda: qk.linear_int8(A, W.astype("i2")), TypeError, "weight int8 int16"),
    "weight of NaN": (lambda: qk.pack_linear(WF * np.nan), ValueError, "weight finite"),
    "bias length": (lambda: qk.linear_int8(A, W, np.ones(4, "i4")), ValueError, "bias (5,) (4,)"),
    "bias of NaN": (lambda: qk.pack_linear(WF, np.full(5, np.nan, F32)), ValueError, "bias finite"),
    "bias beyond int32": (lambda: qk.pack_linear(W, np.full(5, 2**40)), ValueError, "bias int32"),
    "bias of text": (lambda: qk.pack_linear(W, ["a"] * 5), TypeError, "bias"),
    "no weight_scale": (lambda: qk.linear_int8(A, W, x_scale=0.1), ValueError, "weight_scale"),
    "no weight_scale, dynamic": (lambda: qk.linear_int8(WF, W), ValueError, "weight_scale"),
    "weight_scale length": (
        lambda: qk.linear_int8(A, W, **STATIC | {"weight_scale": [1, 2]}), ValueError, "weight_scale 5 (2,)",
    ),
    "weight_scale beside float weights": (lambda: qk.pack_linear(WF, weight_scale=1.0), ValueError, "weight_scale"),
    "weight_scale beside packed": (lambda: qk.linear_int8(A, PACKED, x_scale=1.0, weight_scale=1.0), ValueError,
                                   "weight_scale packed"),
    "weight_zero_point beside packed": (lambda: qk.linear_int8(A, PACKED, x_scale=1.0, weight_zero_point=1),
                                        ValueError, "weight_zero_point packed"),
    "bias beside packed": (lambda: qk.linear_int8(A, PACKED, np.zeros(5, F32), x_scale=1.0), ValueError, "bias packed"),
    "weight_zero_point range": (lambda: qk.pack_linear(W, weight_zero_point=200), ValueError, "weight_zero_point 200"),
    "out_scale without x_scale": (lambda: qk.linear_int8(A, PACKED, out_scale=0.1), ValueError, "out_scale x_scale"),
    "int8 out without out_scale": (lambda: qk.linear_int8(A, PACKED, x_scale=1.0, out_dtype="int8"), ValueError,
                                   "out_dtype out_scale"),
    "float bias, no x_scale": (lambda: qk.linear_int8(A, W, np.ones(5, F32)), ValueError, "bias x_scale"),
    "int32 bias, dynamic x": (lambda: qk.linear_int8(WF, WF, np.ones(5, "i4")), ValueError, "bias int32"),
    "activation on int32": (lambda: qk.linear_int8(A, W, activation="relu"), ValueError, "activation int32"),
    "curve on int8": (lambda: qk.linear_int8(A, W, **STATIC, activation="gelu"), ValueError, "activation gelu float32"),
    "unknown activation": (lambda: qk.linear_int8(A, W, activation="relu7"), ValueError, "activation relu7 relu6"),
    "bounds in the wrong order": (lambda: qk.linear_int8(A, W, **STATIC, activation=(2, 1)), ValueError, "activation lo"),
    "bounds of NaN": (lambda: qk.linear_int8(A, W, **STATIC, activation=(np.nan, 1)), ValueError, "activation"),
    "three bounds": (lambda: qk.linear_int8(A, W, **STATIC, activation=(0, 1, 2)), TypeError, "activation"),
    "unknown rounding": (lambda: qk.linear_int8(A, W, **STATIC, rounding="up"), ValueError, "rounding up nearest_even"),
    "unknown out_dtype": (lambda: qk.linear_int8(A, W, out_dtype="int4"), ValueError, "out_dtype int4 int8"),
    "x_scale of zero": (lambda: qk.linear_int8(A, W, x_scale=0.0, weight_scale=1.0), ValueError, "x_scale positive"),
    "x_scale negative": (lambda: qk.linear_int8(A, W, x_scale=-1.0, weight_scale=1.0), ValueError, "x_scale -1"),
    "x_scale of NaN": (lambda: qk.linear_int8(A, W, x_scale=np.nan, weight_scale=1.0), ValueError, "x_scale nan"),
    "x_scale a vector": (lambda: qk.linear_int8(A, W, x_scale=[1, 2], weight_scale=1.0), ValueError, "x_scale scalar"),
    "multiplier overflows": (
        lambda: qk.linear_int8(A, W, x_scale=1e30, weight_scale=1e30, out_scale=1e-10), ValueError, "scale",
    ),
    "multiplier underflows": (
        lambda: qk.linear_int8(A, W, x_scale=1e-30, weight_scale=1e-30, out_scale=1.0), ValueError, "scale",
    ),
    "x_zero_point range": (lambda: qk.linear_int8(A, W, x_zero_point=128), ValueError, "x_zero_point 128"),
    "out_zero_point range": (lambda: qk.linear_int8(A, W, **STATIC, out_zero_point=-129), ValueError, "out_zero_point -129"),
    "out_zero_point of uint8": (
        lambda: qk.linear_int8(A, W, **STATIC, out_zero_point=-1, out_dtype="uint8"), ValueError, "out_zero_point -1",
    ),
    "linear out shape": (lambda: qk.linear_int8(A, W, out=np.zeros((3, 4), "i4")), ValueError, "out (3, 5) (3, 4)"),
    "linear out dtype": (lambda: qk.linear_int8(A, W, out=np.zeros((3, 5), I8)), TypeError, "out int32 int8"),
    "later weight_dtype": (lambda: qk.pack_linear(WF, weight_dtype="int4"), ValueError, "weight_dtype int4"),
    "later group_size": (lambda: qk.pack_linear(WF, group_size=32), ValueError, "group_size 32"),
    "a convolution's weights": (lambda: qk.linear_int8(A, PACKED_CONV), TypeError, "weight PackedConv2d"),
    # conv2d_int8
    "x of two dimensions": (lambda: qk.conv2d_int8(X[0, 0], K), ValueError, "x (6, 3)"),
    "channels differ": (lambda: qk.conv2d_int8(X[..., :2], K), ValueError, "x channels"),
    "weight of two dimensions": (lambda: qk.conv2d_int8(X, W), ValueError, "weight (5, 4)"),
    "unknown layout": (lambda: qk.conv2d_int8(X, K, layout="NHCW"), ValueError, "layout NHCW NHWC"),
    "unknown weight_layout": (lambda: qk.pack_conv2d(K, weight_layout="IOHW"), ValueError, "weight_layout IOHW OIHW"),
    "stride 0": (lambda: qk.pack_conv2d(K, stride=0), ValueError, "stride 0"),
    "three strides": (lambda: qk.pack_conv2d(K, stride=(1, 1, 1)), (ValueError, TypeError), "stride"),
    "dilation 0": (lambda: qk.pack_conv2d(K, dilation=(1, 0)), ValueError, "dilation 0"),
    "padding negative": (lambda: qk.pack_conv2d(K, padding=-1), ValueError, "padding -1"),
    "padding unknown": (lambda: qk.pack_conv2d(K, padding="valid"), (ValueError, TypeError), "padding valid same"),
    "groups 0": (lambda: qk.pack_conv2d(K, groups=0), ValueError, "groups 0"),
    "groups do not divide": (lambda: qk.pack_conv2d(K, groups=3), ValueError, "groups 3 4"),
    "geometry beside packed": (lambda: qk.conv2d_int8(X, PACKED_CONV, stride=2), ValueError, "stride packed"),
    "conv bias length": (lambda: qk.pack_conv2d(K, np.zeros(3, "i4")), ValueError, "bias (4,) (3,)"),
    "a linear layer's weights": (lambda: qk.conv2d_int8(X, PACKED), TypeError, "weight PackedLinear"),
    "kernel larger than the image": (lambda: qk.conv2d_int8(X[:, :2], K), ValueError, "x"),
    "conv out shape": (lambda: qk.conv2d_int8(X, K, out=np.zeros((2, 4, 4, 3), "i4")), ValueError, "out (2, 4, 4, 4)"),
    # quantize, dequantize, requantize, dynamic_quantize
    "quantize float64": (lambda: qk.quantize(np.ones(3), 1.0), TypeError, "x float64 float32"),
    "quantize int": (lambda: qk.quantize(A, 1.0), TypeError, "x int8 float32"),
    "scale without axis": (lambda: qk.quantize(WF, [1, 2, 3, 4]), ValueError, "scale axis"),
    "scale length": (lambda: qk.quantize(WF, [1, 2, 3], axis=1), ValueError, "scale 4 (3,)"),
    "zero_point length": (lambda: qk.quantize(WF, 1.0, [1, 2, 3], axis=1), ValueError, "zero_point 4 (3,)"),
    "scale of zero": (lambda: qk.quantize(WF, [1, 0, 1, 1], axis=1), ValueError, "scale positive 1"),
    "axis out of range": (lambda: qk.quantize(WF, [1, 2], axis=2), ValueError, "axis 2"),
    "axis of text": (lambda: qk.quantize(WF, [1, 2], axis="0"), TypeError, "axis"),
    "unknown dtype": (lambda: qk.quantize(WF, 1.0, dtype="int16"), ValueError, "dtype int16 int8"),
    "zero point of int4": (lambda: qk.quantize(WF, 1.0, 8, dtype="int4"), ValueError, "zero_point 8 -8"),
    "quantize out dtype": (lambda: qk.quantize(WF, 1.0, out=np.zeros((5, 4), U8)), TypeError, "out int8 uint8"),
    "dequantize float": (lambda: qk.dequantize(WF, 1.0), TypeError, "q int8 float32"),
    "requantize int64": (lambda: qk.requantize(ACC.astype("i8"), 1.0), TypeError, "acc int32 int64"),
    "requantize scale": (lambda: qk.requantize(ACC, -1.0), ValueError, "scale positive -1"),
    "requantize dtype": (lambda: qk.requantize(ACC, 1.0, dtype="int4"), ValueError, "dtype int4 int8"),
    "requantize activation": (lambda: qk.requantize(ACC, 1.0, activation="gelu"), ValueError, "activation gelu relu"),
    "requantize bias": (lambda: qk.requantize(ACC, 1.0, bias=[1, 2], axis=1), ValueError, "bias 5 (2,)"),
    "requantize float bias": (lambda: qk.requantize(ACC, 1.0, bias=[0.5] * 5, axis=1), TypeError, "bias integers"),
    "granularity": (lambda: qk.dynamic_quantize(WF, granularity="row"), ValueError, "granularity row per_row"),
    "scheme": (lambda: qk.dynamic_quantize(WF, scheme="affine"), ValueError, "scheme affine symmetric"),
    "dynamic of integers": (lambda: qk.dynamic_quantize(A), TypeError, "x int8 float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_message_and_type(name):
    call, kind, words = CASES[name]
    with pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, qk.QKernelsError)
    message = str(caught.value)
    for word in split(words):
        assert word in message, f"{word!r} is not in {message!r}"


def split(words):
    """Words and shapes: "out (3, 5) (5, 3)" is three."""
    parts, depth = [""], 0
    for letter in words:
        depth += (letter == "(") - (letter == ")")
        if letter == " " and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


@pytest.mark.parametrize(
    "call",
    [
        lambda: qk.linear_int8(A, W, nonsense=1),
        lambda: qk.gemm_int8(A),
        lambda: qk.pack_conv2d(K, pad=1),
    ],
)
def test_a_wrong_keyword_is_pythons_own_type_error(call):
    with pytest.raises(TypeError) as caught:
        call()
    assert not isinstance(caught.value, qk.QKernelsError)


def test_sizes_beyond_memory_are_refused_and_do_not_crash():
    """Broadcast views claim shapes whose results nobody has room for."""
    row = np.broadcast_to(np.int8(1), (2**40, 8))
    with pytest.raises((MemoryError, ValueError)):
        qk.gemm_int8(row, np.ones((8, 64), I8))
    with pytest.raises((MemoryError, ValueError)):
        qk.pack_gemm(np.broadcast_to(np.int8(1), (8, 2**40)))
    with pytest.raises((MemoryError, ValueError)):
        qk.conv2d_int8(X, K, padding=2**30)
    with pytest.raises(qk.QKernelsError):
        qk.pack_conv2d(K, padding=2**62)
    with pytest.raises(qk.QKernelsError):
        qk.conv2d_int8(X, K, dilation=2**62)


def test_an_unpackable_size_is_one_of_our_errors():
    with pytest.raises(qk.QKernelsError, match="pack_linear"):
        qk.pack_linear(np.zeros((2**50, 0), np.int8))


def test_dynamic_rows_whose_multiplier_overflows_are_refused():
    packed = qk.pack_linear(np.full((2, 4), 1e10, np.float32))
    x = np.array([[3e38, -3e38, 0, 0]], np.float32)
    out = np.full((1, 2), 7, np.float32)
    with pytest.raises(qk.QKernelsError, match="finite"):
        qk.linear_int8(x, packed, out=out)
    assert (out == 7).all()


def test_a_convolution_beyond_memory_is_refused():
    c = 2**15
    packed = qk.pack_conv2d(
        np.ones((1, c, 2, 1), np.int8),
        stride=(1, 2**24),
        dilation=(2**24 - 1, 1),
        padding=((2**23, 2**23 - 1), (2**24, 2**24 - 1)),
    )
    with pytest.raises((qk.QKernelsError, MemoryError)):
        qk.conv2d_int8(np.ones((1, 1, 1, c), np.int8), packed)


def test_out_whose_elements_overlap_is_refused():
    out = np.lib.stride_tricks.as_strided(np.zeros(40, np.int32), (3, 5), (4, 4))
    with pytest.raises(qk.QKernelsError, match="out"):
        qk.gemm_int8(np.ones((3, 4), np.int8), np.ones((4, 5), np.int8), out=out)


def test_headers_that_change_after_loading_harm_nothing():
    packed = qk.pack_linear(np.arange(64 * 48).reshape(64, 48).astype(np.int8))
    buffers = []
    data = pickle.dumps(packed, 5, buffer_callback=buffers.append)
    shared = [mmap.mmap(-1, memoryview(buffer).nbytes) for buffer in buffers]
    for memory, buffer in zip(shared, buffers, strict=True):
        memory[:] = memoryview(buffer).cast("B")
    loaded = pickle.loads(data, buffers=shared)
    x = np.ones((3, 48), np.int8)
    expected = qk.linear_int8(x, loaded)
    for offset in range(0, 64, 4):
        before = shared[0][offset : offset + 4]
        shared[0][offset : offset + 4] = b"\xff\xff\xff\x03"
        assert (qk.linear_int8(x, loaded) == expected).all()
        shared[0][offset : offset + 4] = before
