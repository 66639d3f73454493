# SPDX-License-Identifier: Apache-2.0
"""The numerics against ONNX: the reference evaluator and ONNX Runtime, bit for bit.

ONNX Runtime's u8 x s8 product on x86 without VNNI adds pairs of 16-bit products with saturation
(vpmaddubsw), so it is right only where 2 * 255 * |w| fits in 16 bits. Weights for it are therefore
kept within 7 bits; the reference evaluator, which sums in int32, gets the whole range.
The reference evaluator divides and multiplies scales in its own order, so for the Q* operators
ONNX Runtime, which docs/numerics.md follows, is the oracle.
"""

from __future__ import annotations

import numpy as np
import pytest

import oracle
import qkernels as qk
from support import everywhere, integers, require, same, scales, zero_point

onnx = require("onnx")
ort = require("onnxruntime")
helper = require("onnx.helper")
reference = require("onnx.reference")

SIGNS = [("uint8", "int8"), ("uint8", "uint8"), ("int8", "int8")]


def model(op, inputs, n_outputs=1, opset=21, **attributes):
    """A model of one node whose inputs are all graph inputs."""
    node = helper.make_node(op, list(inputs), [f"y{i}" for i in range(n_outputs)], **attributes)
    kinds = {name: helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in inputs.items()}
    graph = helper.make_graph(
        [node],
        op,
        [helper.make_tensor_value_info(n, kinds[n], v.shape) for n, v in inputs.items()],
        [helper.make_value_info(f"y{i}", helper.make_tensor_type_proto(kind, None))
         for i, kind in enumerate(output_types(op, inputs, kinds))],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def output_types(op, inputs, kinds):
    tensor = onnx.TensorProto
    names = list(inputs)
    return {
        "MatMulInteger": [tensor.INT32],
        "ConvInteger": [tensor.INT32],
        "QuantizeLinear": [kinds[names[-1]]],
        "DequantizeLinear": [tensor.FLOAT],
        "DynamicQuantizeLinear": [tensor.UINT8, tensor.FLOAT, tensor.UINT8],
    }.get(op) or [kinds["y_zp"]]


def runtime(op, inputs, n_outputs=1, **attributes):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(
        model(op, inputs, n_outputs, **attributes).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    return session.run(None, inputs)


def evaluator(op, inputs, n_outputs=1, **attributes):
    return reference.ReferenceEvaluator(model(op, inputs, n_outputs, **attributes)).run(
        None, inputs
    )


def weights(rng, shape, dtype, *, bits7):
    full = integers(rng, shape, dtype)
    if bits7:
        full = full // 2 if dtype == "int8" else full // 4 + 96
    return full


def scalar(value, dtype):
    return np.array(value, dtype)


# Sums ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("a_dtype", "b_dtype"), SIGNS)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 33, 17), (33, 64, 48), (17, 127, 65)])
def test_matmul_integer(rng, m, k, n, a_dtype, b_dtype):
    a = integers(rng, (m, k), a_dtype)
    a_zp = zero_point(rng, a_dtype)
    for run, bits7 in ((evaluator, False), (runtime, True)):
        b = weights(rng, (k, n), b_dtype, bits7=bits7)
        b_zp = zero_point(rng, b_dtype, (n,)).astype(b_dtype)
        inputs = {"a": a, "b": b, "a_zp": scalar(a_zp, a_dtype), "b_zp": b_zp}
        want = run("MatMulInteger", inputs)[0]
        zp = {"a_zero_point": a_zp, "b_zero_point": b_zp}
        same(oracle.gemm(a, b, **zp), want, "the oracle itself")
        same(everywhere(lambda b=b, zp=zp: qk.gemm_int8(a, b, **zp), (1, 2)), want)


CONVOLUTIONS = [
    ((1, 3, 5, 5), 4, (3, 3), {}),
    ((2, 16, 7, 8), 17, (3, 3), {"strides": [2, 1], "pads": [1, 0, 1, 2]}),
    ((1, 6, 9, 8), 9, (3, 2), {"dilations": [2, 2], "pads": [1, 1, 1, 1], "group": 3}),
    ((1, 33, 6, 6), 33, (3, 3), {"group": 33, "pads": [1, 1, 1, 1]}),
    ((1, 8, 5, 5), 16, (3, 3), {"group": 8, "strides": [2, 2]}),
]  # fmt: skip


def geometry(attributes):
    top, left, bottom, right = attributes.get("pads", [0, 0, 0, 0])
    return {
        "layout": "NCHW",
        "padding": ((top, bottom), (left, right)),
        "stride": tuple(attributes.get("strides", (1, 1))),
        "dilation": tuple(attributes.get("dilations", (1, 1))),
        "groups": attributes.get("group", 1),
    }


@pytest.mark.parametrize(("shape", "out", "kernel", "attributes"), CONVOLUTIONS)
def test_conv_integer(rng, shape, out, kernel, attributes):
    x = integers(rng, shape, "uint8")
    x_zp = zero_point(rng, "uint8")
    kw = geometry(attributes) | {"x_zero_point": x_zp}
    for run, bits7 in ((evaluator, False), (runtime, True)):
        weight = weights(rng, (out, shape[1] // kw["groups"], *kernel), "uint8", bits7=bits7)
        w_zp = zero_point(rng, "uint8")
        inputs = {"x": x, "w": weight, "x_zp": scalar(x_zp, "uint8"), "w_zp": scalar(w_zp, "uint8")}
        want = run("ConvInteger", inputs, **attributes)[0].astype(np.int32)
        case = kw | {"weight_zero_point": w_zp}
        same(oracle.conv2d(x, weight, **case), want, "the oracle itself")
        # The same real weights as int8.
        signed = (weight.astype(int) - 128).astype(np.int8)
        case["weight_zero_point"] = w_zp - 128
        same(everywhere(lambda w=signed, c=case: qk.conv2d_int8(x, w, **c), (1, 2)), want)


# Integer outputs ----------------------------------------------------------------------------------
@pytest.mark.parametrize(("x_dtype", "w_dtype"), [("uint8", "int8"), ("int8", "int8")])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 40, 16), (17, 65, 33), (64, 128, 47)])
def test_qlinear_matmul(rng, m, k, n, x_dtype, w_dtype):
    x = integers(rng, (m, k), x_dtype)
    weight = weights(rng, (k, n), w_dtype, bits7=True)
    case = {"x_scale": scales(rng), "x_zero_point": zero_point(rng, x_dtype)}
    case |= {"weight_scale": scales(rng, (n,)), "weight_zero_point": np.zeros(n, np.int32)}
    real = oracle.linear(x, weight.T, **case)
    case |= {
        "out_scale": float(np.float32(np.abs(real).max() / 200)),
        "out_zero_point": zero_point(rng, x_dtype),
    }
    inputs = {
        "a": x, "a_s": scalar(case["x_scale"], "f4"), "a_zp": scalar(case["x_zero_point"], x_dtype),
        "b": weight, "b_s": case["weight_scale"], "b_zp": np.zeros(n, w_dtype),
        "y_s": scalar(case["out_scale"], "f4"), "y_zp": scalar(case["out_zero_point"], x_dtype),
    }  # fmt: skip
    want = runtime("QLinearMatMul", inputs)[0]
    same(oracle.linear(x, weight.T, **case), want, "the oracle itself")
    same(everywhere(lambda: qk.linear_int8(x, weight.T, **case), (1, 2)), want)


@pytest.mark.parametrize("x_dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("shape", "out", "kernel", "attributes"), CONVOLUTIONS)
def test_qlinear_conv(rng, shape, out, kernel, attributes, x_dtype):
    x = integers(rng, shape, x_dtype)
    kw = geometry(attributes)
    weight = weights(rng, (out, shape[1] // kw["groups"], *kernel), "int8", bits7=True)
    bias = rng.integers(-5000, 5000, out).astype(np.int32)
    case = kw | {
        "x_scale": scales(rng),
        "x_zero_point": zero_point(rng, x_dtype),
        "weight_scale": scales(rng, (out,)),
    }
    real = oracle.conv2d(x, weight, bias, **case)
    case |= {
        "out_scale": float(np.float32(np.abs(real).max() / 200)),
        "out_zero_point": zero_point(rng, x_dtype),
    }
    inputs = {
        "x": x, "x_s": scalar(case["x_scale"], "f4"), "x_zp": scalar(case["x_zero_point"], x_dtype),
        "w": weight, "w_s": case["weight_scale"], "w_zp": np.zeros(out, "int8"),
        "y_s": scalar(case["out_scale"], "f4"), "y_zp": scalar(case["out_zero_point"], x_dtype),
        "bias": bias,
    }  # fmt: skip
    want = runtime("QLinearConv", inputs, **attributes)[0]
    same(oracle.conv2d(x, weight, bias, **case), want, "the oracle itself")
    same(everywhere(lambda: qk.conv2d_int8(x, weight, bias, **case), (1, 2)), want)


# Quantization -------------------------------------------------------------------------------------
@pytest.mark.parametrize("run", [evaluator, runtime])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_quantize_and_dequantize_linear(rng, run, dtype, axis):
    x = rng.normal(0, 2, (13, 21)).astype(np.float32)
    # The evaluator converts to int32 before it clamps, so it cannot take larger values.
    far = 1e30 if run is runtime else 1e6
    x[0, :6] = [0.5, 1.5, -0.5, -1.5, far, -far]
    shape = () if axis is None else (x.shape[axis],)
    scale = np.asarray(scales(rng, shape, 0.01, 0.1), np.float32)
    zp = np.asarray(zero_point(rng, dtype, shape)).astype(dtype)
    kw = {} if axis is None else {"axis": axis}
    q = run("QuantizeLinear", {"x": x, "s": scale, "y_zp": zp}, **kw)[0]
    same(oracle.quantize(x, scale, zp, axis=axis, dtype=dtype), q, "the oracle itself")
    same(everywhere(lambda: qk.quantize(x, scale, zp, axis=axis, dtype=dtype)), q)
    back = run("DequantizeLinear", {"q": q, "s": scale, "zp": zp}, **kw)[0]
    same(everywhere(lambda: qk.dequantize(q, scale, zp, axis=axis)), back)


@pytest.mark.parametrize("run", [evaluator, runtime])
@pytest.mark.parametrize("offset", [0, 3, -3, 0.1])
def test_dynamic_quantize_linear(rng, run, offset):
    for size in (1, 2, 17, 64, 333):
        x = (rng.normal(0, 1, size) + offset).astype(np.float32)
        q, scale, zp = run("DynamicQuantizeLinear", {"x": x}, 3)
        want = oracle.dynamic_asymmetric(x)
        same((want[0], want[1], want[2].astype(np.uint8)), (q, scale, zp), "the oracle itself")
        got = everywhere(
            lambda x=x: qk.dynamic_quantize(x, granularity="per_tensor", scheme="asymmetric")
        )
        same(got[0], q)
        assert (np.float32(got[1]), int(got[2])) == (scale, zp)
