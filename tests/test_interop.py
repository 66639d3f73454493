# SPDX-License-Identifier: Apache-2.0
"""Arrays of every kind in, the kind of the activations out: torch, DLPack, buffers, ml_dtypes."""

from __future__ import annotations

import array

import numpy as np
import pytest

import oracle
import qkernels as qk
from support import integers, require, same


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed (an optional extra)")


class OnlyDLPack:
    """The protocol and nothing else."""

    def __init__(self, data):
        self._data = data

    def __dlpack__(self, **kw):
        return self._data.__dlpack__(**kw)

    def __dlpack_device__(self):
        return self._data.__dlpack_device__()


# torch --------------------------------------------------------------------------------------------
def test_torch_in_torch_out(torch, rng):
    x, weight = integers(rng, (5, 34)), integers(rng, (17, 34))
    bias = rng.normal(0, 1, 17).astype(np.float32)
    tx, tw, tb = torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias)
    kw = {"x_scale": 0.1, "out_scale": 0.5, "weight_scale": 0.01}
    results = {
        "gemm": (qk.gemm_int8(tx, tw.T), oracle.gemm(x, weight.T)),
        "gemm packed": (qk.gemm_int8(tx, qk.pack_gemm(tw.T)), oracle.gemm(x, weight.T)),
        "linear": (qk.linear_int8(tx, tw, tb, **kw), oracle.linear(x, weight, bias, **kw)),
        "numpy weights": (
            qk.linear_int8(tx, weight, bias, **kw),
            oracle.linear(x, weight, bias, **kw),
        ),
        "requantize": (qk.requantize(tx.to(torch.int32), 0.1), oracle.requantize(x, 0.1)),
        "dequantize": (qk.dequantize(tx, 0.1), oracle.dequantize(x, 0.1)),
        "quantize": (qk.quantize(tb, 0.02), oracle.quantize(bias, 0.02)),
    }
    for name, (got, want) in results.items():
        assert isinstance(got, torch.Tensor), name
        same(got.numpy(), want, name)
    assert isinstance(qk.linear_int8(x, tw, tb, **kw), np.ndarray)
    q, scale, zp = qk.dynamic_quantize(tb.reshape(1, -1))
    assert all(isinstance(part, torch.Tensor) for part in (q, scale, zp))
    packed = qk.pack_linear(tw, tb, weight_scale=torch.full((17,), 0.01))
    same(qk.linear_int8(tx, packed, x_scale=0.1, out_scale=0.5).numpy(), results["linear"][1])
    assert float(qk.choose_qparams(tb).scale) == float(qk.choose_qparams(bias).scale)


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
def test_torch_floats_are_dynamic(torch, rng, name):
    real = torch.from_numpy(rng.normal(0, 1, (4, 33)).astype(np.float32)).to(getattr(torch, name))
    weight = rng.normal(0, 1, (9, 33)).astype(np.float32)
    want = oracle.linear(real.to(torch.float32).numpy(), weight)
    got = qk.linear_int8(real, weight)
    assert got.dtype == torch.float32
    same(got.numpy(), want)
    bound = qk.pack_linear(weight).bind()
    assert isinstance(bound(real), torch.Tensor)
    same(bound(real).numpy(), want)


def test_torch_views_gradients_and_out(torch, rng):
    x = torch.from_numpy(integers(rng, (2, 16, 6, 7))).to(memory_format=torch.channels_last)
    weight = integers(rng, (9, 16, 3, 3))
    got = qk.conv2d_int8(x, weight, layout="NCHW", padding=1)
    same(got.numpy(), oracle.conv2d(x.numpy(), weight, layout="NCHW", padding=1))
    real = torch.randn(3, 20, requires_grad=True)
    w = rng.normal(0, 1, (5, 20)).astype(np.float32)
    got = qk.linear_int8(real, w)
    assert not got.requires_grad
    same(got.numpy(), oracle.linear(real.detach().numpy(), w))
    out = torch.zeros(6, 5)[::2]
    assert qk.linear_int8(real, w, out=out) is out
    same(out.numpy(), got.numpy())
    onto = np.zeros((3, 5), np.float32)
    assert qk.linear_int8(real, w, out=onto) is onto
    same(onto, got.numpy())


def test_torch_tensors_that_cannot_be(torch):
    weight = np.ones((3, 4), np.float32)
    refused = [
        torch.zeros(2, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.complex64),
        torch.zeros(2, 4, device="meta"), torch.zeros(2, 4).to_sparse(),
        torch.zeros(2, 4, dtype=torch.bool),
    ]  # fmt: skip
    for x in refused:
        with pytest.raises(qk.QKernelsError, match="x"):
            qk.linear_int8(x, weight)
    with pytest.raises(qk.QKernelsError, match="out"):
        qk.linear_int8(torch.zeros(2, 4), weight, out=torch.zeros(2, 3, requires_grad=True))


# DLPack and buffers -------------------------------------------------------------------------------
def test_dlpack(rng):
    x, weight = integers(rng, (5, 34)), integers(rng, (17, 34))
    got = qk.gemm_int8(OnlyDLPack(x), OnlyDLPack(weight.T))
    same(np.asarray(got), oracle.gemm(x, weight.T))
    real = rng.normal(0, 1, (5, 34)).astype(np.float32)
    same(np.asarray(qk.quantize(OnlyDLPack(real), 0.1)), oracle.quantize(real, 0.1))


def test_dlpack_of_another_device_is_refused():
    class OnGpu(OnlyDLPack):
        def __dlpack_device__(self):
            return (2, 0)

    with pytest.raises(qk.QKernelsError, match="a must be on the CPU"):
        qk.gemm_int8(OnGpu(np.ones((2, 2), np.int8)), np.ones((2, 2), np.int8))


def test_buffers(rng):
    x = integers(rng, (3, 20))
    weight = integers(rng, (20, 7))
    want = oracle.gemm(x, weight)
    same(np.asarray(qk.gemm_int8(memoryview(x), memoryview(weight))), want)
    row = array.array("b", x[0].tolist())
    same(np.asarray(qk.linear_int8(row, weight.T)), want[0])
    raw = bytes(x[0].view(np.uint8))
    same(np.asarray(qk.linear_int8(raw, weight.T)), oracle.gemm(x[:1].view(np.uint8), weight)[0])
    real = array.array("f", [0.5, -1.0, 2.0])
    same(np.asarray(qk.quantize(real, 0.5)), np.array([1, -2, 4], np.int8))


# NumPy's own kinds --------------------------------------------------------------------------------
def test_bfloat16_of_ml_dtypes(rng):
    bfloat16 = require("ml_dtypes").bfloat16
    x = rng.normal(0, 1, (5, 34)).astype(bfloat16)
    weight = rng.normal(0, 1, (9, 34)).astype(bfloat16)
    same(qk.linear_int8(x, weight), oracle.linear(x.astype("f4"), weight.astype("f4")))
    same(qk.quantize(x, 0.1), oracle.quantize(x, 0.1))
    same(qk.dynamic_quantize(x)[0], oracle.dynamic_symmetric(x)[0])
    same(qk.quantize(x.T[::-1], 0.1), oracle.quantize(x.T[::-1], 0.1))


@pytest.mark.parametrize("dtype", [">f4", ">f2", "<f4"])
def test_byte_orders(rng, dtype):
    x = rng.normal(0, 1, (5, 34)).astype(dtype)
    weight = rng.normal(0, 1, (9, 34)).astype(">f8")
    same(qk.linear_int8(x, weight), oracle.linear(x.astype("f4"), weight.astype("f4")))
    acc = integers(rng, (5, 9), "int32").astype(">i4")
    same(qk.requantize(acc, 1e-7), oracle.requantize(acc, 1e-7))


def test_subclasses_scalars_and_parameters_of_any_kind(rng):
    class Sub(np.ndarray):
        pass

    x = integers(rng, (5, 16))
    weight = integers(rng, (3, 16))
    want = oracle.linear(x, weight, x_scale=0.1, weight_scale=np.float32([0.1, 0.2, 0.3]))
    for scale in ([0.1, 0.2, 0.3], (0.1, 0.2, 0.3), np.array([0.1, 0.2, 0.3])):
        same(np.asarray(qk.linear_int8(x.view(Sub), weight, x_scale=0.1, weight_scale=scale)), want)
    for one in (0.5, np.float64(0.5), np.float32(0.5), np.array(0.5)):
        got = qk.linear_int8(
            x, weight, x_scale=one, weight_scale=one, out_scale=one, x_zero_point=np.int8(3)
        )
        case = {"x_scale": 0.5, "weight_scale": 0.5, "out_scale": 0.5, "x_zero_point": 3}
        same(got, oracle.linear(x, weight, **case))
    for dtype in ("uint8", np.uint8, np.dtype("uint8")):
        assert qk.quantize(np.ones(2, np.float32), 0.1, dtype=dtype).dtype == np.uint8


@pytest.mark.parametrize(
    "x", [None, "text", 3, [1, 2], {"a": 1}, object(), np.ma.masked_array([1.0], [True])]
)
def test_what_is_no_array_is_refused(x):
    with pytest.raises(TypeError, match="x") as caught:
        qk.quantize(x, 1.0)
    assert isinstance(caught.value, qk.QKernelsError)
