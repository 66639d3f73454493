# SPDX-License-Identifier: Apache-2.0
"""conv2d_int8: geometry, layouts, groups, depthwise, padding, every output form."""

from __future__ import annotations

import itertools

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import oracle
import qkernels as qk
from support import everywhere, integers, placements, require, same, scales, zero_point

ROUNDINGS = ("nearest_even", "fixed_point", "fixed_point_single")
FORMS = ("int32", "float32", "int8", "uint8")


def arrange(weight, layout):
    """OIHW weights in another layout."""
    return np.ascontiguousarray(weight.transpose(["OIHW".index(letter) for letter in layout]))


def problem(rng, shape, out, kernel, groups=1, x_dtype="int8"):
    """x (NHWC), weight (OIHW) and quantization with zero points everywhere."""
    x = integers(rng, shape, x_dtype)
    weight = integers(rng, (out, shape[-1] // groups, *kernel))
    case = {
        "x_scale": scales(rng),
        "x_zero_point": zero_point(rng, x_dtype),
        "weight_scale": scales(rng, (out,)),
        "weight_zero_point": zero_point(rng, "int8", (out,)),
    }
    return x, weight, case


def outputs(rng, x, weight, case, geometry, forms=FORMS):
    """Keyword arguments for each output form, with scales that fill the range."""
    real = oracle.conv2d(x, weight, **case, **geometry, out_dtype="float32")
    out_scale = float(np.float32(np.abs(real).max(initial=1e-3) / 250))
    for form in forms:
        extra = {"out_dtype": form}
        if form in ("int8", "uint8"):
            extra |= {"out_scale": out_scale, "out_zero_point": zero_point(rng, form)}
        yield case | geometry | extra


# (input NHWC, out channels, kernel, geometry); channels straddle 16, 32, 48 and 64.
GEOMETRIES = [
    ((1, 5, 5, 3), 4, (3, 3), {}),
    ((2, 7, 9, 16), 16, (3, 3), {"padding": 1}),
    ((1, 8, 6, 17), 33, (3, 3), {"padding": 1, "stride": 2}),
    ((1, 9, 9, 15), 31, (3, 3), {"dilation": 2, "padding": (2, 1)}),
    ((3, 4, 4, 64), 65, (1, 1), {}),
    ((1, 6, 5, 33), 47, (1, 1), {"stride": (2, 1)}),
    ((1, 11, 13, 1), 5, (5, 3), {"padding": ((2, 1), (0, 2))}),
    ((1, 12, 10, 4), 48, (2, 4), {"padding": "same", "stride": (2, 3)}),
    ((2, 7, 7, 6), 9, (3, 3), {"padding": "same", "stride": 2, "groups": 3}),
    ((1, 6, 6, 32), 64, (3, 3), {"groups": 2, "padding": 1}),
    ((1, 5, 6, 34), 34, (3, 2), {"groups": 17}),
    ((1, 1, 40, 3), 8, (1, 7), {"padding": (0, 3)}),
    ((1, 3, 3, 2), 3, (3, 3), {"padding": 5}),
    ((1, 2, 2, 5), 7, (3, 3), {"padding": 2, "dilation": (1, 2)}),
    ((1, 10, 10, 3), 16, (7, 7), {"stride": 2, "padding": 3}),
    ((0, 5, 5, 3), 4, (3, 3), {}),
    ((1, 4, 4, 0), 4, (3, 3), {"padding": 1}),
    ((1, 4, 4, 3), 0, (3, 3), {}),
    # Depthwise, and a channel multiplier of two.
    ((1, 7, 7, 16), 16, (3, 3), {"groups": 16, "padding": 1}),
    ((2, 9, 8, 17), 17, (3, 3), {"groups": 17, "stride": 2, "padding": "same"}),
    ((1, 8, 9, 31), 31, (5, 5), {"groups": 31, "padding": 2, "dilation": (1, 2)}),
    ((1, 6, 21, 65), 65, (3, 3), {"groups": 65}),
    ((1, 5, 5, 3), 3, (1, 1), {"groups": 3}),
    ((1, 6, 7, 48), 48, (2, 2), {"groups": 48, "stride": (1, 2), "padding": ((0, 1), (1, 0))}),
    ((1, 6, 6, 10), 20, (3, 3), {"groups": 10, "padding": 1}),
    ((1, 1, 1, 33), 33, (3, 3), {"groups": 33, "padding": 1}),
]  # fmt: skip


@pytest.mark.parametrize("x_dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("shape", "out", "kernel", "geometry"), GEOMETRIES)
def test_geometry(rng, shape, out, kernel, geometry, x_dtype):
    x, weight, case = problem(rng, shape, out, kernel, geometry.get("groups", 1), x_dtype)
    bias = rng.normal(0, 0.5, out).astype(np.float32)
    for kw in outputs(rng, x, weight, case, geometry):
        want = oracle.conv2d(x, weight, bias, **kw)
        same(everywhere(lambda kw=kw: qk.conv2d_int8(x, weight, bias, **kw)), want, str(kw))


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("weight_layout", ["OIHW", "OHWI", "HWIO"])
def test_layouts(rng, layout, weight_layout, groups):
    x, weight, case = problem(rng, (2, 6, 7, 6), 12, (3, 2), groups)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout == "NCHW" else x
    weight = arrange(weight, weight_layout)
    geometry = {
        "padding": (1, 0),
        "stride": (1, 2),
        "groups": groups,
        "weight_layout": weight_layout,
    }
    kw = case | {"layout": layout, "out_scale": 0.7, "activation": "relu"}
    want = oracle.conv2d(x, weight, **kw, **geometry)
    same(everywhere(lambda: qk.conv2d_int8(x, weight, **kw, **geometry)), want)
    fixed = {key: kw.pop(key) for key in ("weight_scale", "weight_zero_point")}
    packed = qk.pack_conv2d(weight, **fixed, **geometry)
    same(everywhere(lambda: qk.conv2d_int8(x, packed, **kw)), want, "packed")
    same(packed.unpack(), weight, "unpacked")
    assert packed.shape == weight.shape


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("groups", [1, 18])
def test_roundings_and_activations(rng, rounding, groups):
    x, weight, case = problem(rng, (1, 6, 6, 18), 18, (3, 3), groups)
    bias = rng.integers(-30000, 30000, 18).astype(np.int32)
    for activation in (None, "relu", "relu6", (-1.0, 2.5)):
        for kw in outputs(
            rng, x, weight, case, {"groups": groups, "padding": 1}, ("int8", "uint8")
        ):
            kw |= {"rounding": rounding, "activation": activation}
            want = oracle.conv2d(x, weight, bias, **kw)
            same(
                everywhere(lambda kw=kw: qk.conv2d_int8(x, weight, bias, **kw), (1,)), want, str(kw)
            )


@pytest.mark.parametrize("groups", [1, 20])
@pytest.mark.parametrize(("x_dtype", "x_end"), [(d, e) for d in ("int8", "uint8") for e in (0, 1)])
def test_corners_of_the_ranges(x_dtype, x_end, groups):
    """Constant extremes with extreme zero points on both sides, inside and in the padding."""
    info = np.iinfo(x_dtype)
    x = np.full((1, 5, 5, 20), (info.min, info.max)[x_end], x_dtype)
    for w_end, w_zp, x_zp in itertools.product(
        (-128, 127), (-128, 0, 127), (info.min, 0, info.max)
    ):
        weight = np.full((20, 20 // groups, 3, 3), w_end, np.int8)
        kw = {"padding": 1, "groups": groups, "x_zero_point": x_zp, "weight_zero_point": w_zp}
        want = oracle.conv2d(x, weight, **kw)
        same(everywhere(lambda w=weight, kw=kw: qk.conv2d_int8(x, w, **kw), (1,)), want, str(kw))


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("groups", [1, 4, 16])
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_dynamic_is_per_image(rng, dtype, groups, layout):
    dtype = require("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    shape = (3, 6, 5, 16) if layout == "NHWC" else (3, 16, 6, 5)
    x = (rng.normal(0, 1, shape) * np.array([1e-3, 1, 50]).reshape(3, 1, 1, 1)).astype(dtype)
    weight = rng.normal(0, 0.2, (16, 16 // groups, 3, 3)).astype(np.float32)
    bias = rng.normal(0, 1, 16).astype(np.float32)
    packed = qk.pack_conv2d(weight, bias, padding=1, groups=groups)
    want = oracle.conv2d(x, weight, bias, padding=1, groups=groups, layout=layout)
    got = everywhere(lambda: qk.conv2d_int8(x, packed, layout=layout))
    same(got, want)
    for i in range(3):
        same(qk.conv2d_int8(x[i : i + 1], packed, layout=layout), want[i : i + 1], f"image {i}")


@pytest.mark.parametrize("groups", [1, 3, 18])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_weights_with_zero_points(rng, groups, dtype):
    """Unsigned weights, and a dynamic x beside weight zero points, padding included."""
    weight = integers(rng, (18, 18 // groups, 3, 3), dtype)
    case = {"weight_scale": scales(rng, (18,)), "weight_zero_point": zero_point(rng, dtype, (18,))}
    case |= {"padding": 1, "groups": groups}
    real = rng.normal(0, 1, (2, 5, 6, 18)).astype(np.float32)
    got = everywhere(lambda: qk.conv2d_int8(real, weight, **case))
    same(got, oracle.conv2d(real, weight, **case))
    x = integers(rng, (2, 5, 6, 18), "uint8")
    case |= {"x_scale": 0.1, "x_zero_point": 77, "out_scale": 0.6, "out_zero_point": 128}
    got = everywhere(lambda: qk.conv2d_int8(x, weight, **case))
    same(got, oracle.conv2d(x, weight, **case))


def test_float_x_with_a_scale_is_static(rng):
    x = rng.normal(0, 1, (1, 5, 5, 8)).astype(np.float32)
    weight = rng.normal(0, 0.2, (9, 8, 3, 3)).astype(np.float32)
    for extra in ({}, {"out_scale": 0.05}, {"out_scale": 0.05, "out_dtype": "uint8"}):
        kw = {"x_scale": 0.02, "x_zero_point": -11, "padding": 1} | extra
        want = oracle.conv2d(x, weight, **kw)
        same(everywhere(lambda kw=kw: qk.conv2d_int8(x, weight, **kw)), want)


@pytest.mark.parametrize("curve", ["gelu", "silu", "tanh", "sigmoid", "hardswish"])
def test_curves(rng, curve):
    x, weight, case = problem(rng, (1, 6, 6, 5), 7, (3, 3))
    case |= {"x_scale": 0.004, "weight_scale": 0.01}
    got = everywhere(lambda: qk.conv2d_int8(x, weight, **case, activation=curve), (1, 2))
    want = oracle.CURVES[curve](oracle.conv2d(x, weight, **case, out_dtype="float32").astype(float))
    assert (np.abs(got - want) <= 1e-5 * np.maximum(1, np.abs(want))).all()


@pytest.mark.parametrize("groups", [1, 16])
def test_memory_placements_and_out(rng, groups):
    x, weight, case = problem(rng, (2, 6, 7, 16), 16, (3, 3), groups)
    case |= {"padding": 1, "groups": groups, "out_scale": 0.7}
    want = oracle.conv2d(x, weight, **case)
    for name, view in placements(x).items():
        same(everywhere(lambda v=view: qk.conv2d_int8(v, weight, **case), (2,)), want, f"x {name}")
    for name, view in placements(weight).items():
        same(everywhere(lambda v=view: qk.conv2d_int8(x, v, **case), (1,)), want, f"weight {name}")
    canvas = np.full((4, 8, 14, 40), 99, np.int8)
    for view in (
        canvas[1:3, 1:7, 2:9, 3:19],
        canvas[::2, :6, ::2, :32:2],
        canvas[1::-1, 5::-1, :7, 15::-1],
    ):
        canvas[...] = 99
        assert qk.conv2d_int8(x, weight, **case, out=view) is view
        same(view, want)
        view[...] = 99
        assert (canvas == 99).all(), "written outside of out"
    crossed = np.zeros((2, 16, 6, 7), np.int8)
    assert qk.conv2d_int8(x, weight, **case, out=crossed.transpose(0, 2, 3, 1)).base is crossed
    same(crossed.transpose(0, 2, 3, 1), want)


@pytest.mark.parametrize("groups", [1, 40])
def test_large_enough_to_split_over_threads(rng, groups):
    x, weight, case = problem(rng, (2, 29, 31, 40), 40, (3, 3), groups)
    case |= {"padding": 1, "groups": groups, "out_scale": 3.0}
    same(everywhere(lambda: qk.conv2d_int8(x, weight, **case)), oracle.conv2d(x, weight, **case))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("lead", [(), (2, 3), (0, 2), (1, 1, 2)])
def test_leading_dimensions(rng, lead, layout):
    one = (6, 5, 7) if layout == "NHWC" else (7, 6, 5)
    weight = rng.normal(0, 0.2, (9, 7, 3, 3)).astype(np.float32)
    x = rng.normal(0, 1, (*lead, *one)).astype(np.float32)
    for kw in ({}, {"x_scale": 0.02, "out_scale": 0.05}):
        images = oracle.conv2d(x.reshape(-1 if x.size else 0, *one), weight, layout=layout, **kw)
        want = images.reshape(*lead, *images.shape[1:])
        same(everywhere(lambda kw=kw: qk.conv2d_int8(x, weight, layout=layout, **kw)), want)


@pytest.mark.parametrize(
    ("shape", "kernel", "geometry"),
    [((1, 2, 5, 3), (3, 3), {}), ((1, 5, 4, 3), (3, 3), {"dilation": 2}),
     ((1, 0, 5, 3), (1, 1), {}), ((1, 5, 0, 3), (1, 1), {})],
)  # fmt: skip
def test_an_output_without_rows_or_columns_is_an_error(shape, kernel, geometry):
    with pytest.raises(qk.QKernelsError):
        qk.conv2d_int8(np.zeros(shape, "int8"), np.zeros((4, 3, *kernel), "int8"), **geometry)


def test_depth_up_to_the_bound_and_no_further():
    x, weight = np.full((1, 9, 9, 1618), -128, "int8"), np.full((1, 1618, 9, 9), -128, "int8")
    same(everywhere(lambda: qk.conv2d_int8(x, weight), (1,)), oracle.conv2d(x, weight))
    with pytest.raises(qk.QKernelsError):
        qk.conv2d_int8(np.zeros((1, 9, 9, 1619), "int8"), np.zeros((1, 1619, 9, 9), "int8"))


@given(st.data())
def test_any_geometry(data):
    def draw(low, high, name):
        return data.draw(st.integers(low, high), label=name)

    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    groups = data.draw(st.sampled_from([1, 1, 2, 3, 8, 17]), label="groups")
    depth = data.draw(st.sampled_from([1, 1, 2, 5]), label="depth")
    multiple = data.draw(st.sampled_from([1, 1, 2, 5]), label="multiple")
    kernel = draw(1, 4, "kh"), draw(1, 4, "kw")
    geometry = {
        "stride": (draw(1, 3, "sh"), draw(1, 3, "sw")),
        "dilation": (draw(1, 3, "dh"), draw(1, 3, "dw")),
        "groups": groups,
    }
    reach = [d * (k - 1) + 1 for d, k in zip(geometry["dilation"], kernel, strict=True)]
    pad = [[draw(0, 3, "pad") for _ in range(2)] for _ in range(2)]
    size = [max(1, r - sum(p)) + draw(0, 6, "more") for r, p in zip(reach, pad, strict=True)]
    geometry["padding"] = data.draw(st.sampled_from([tuple(map(tuple, pad)), "same"]))
    shape = (draw(1, 2, "batch"), *size, groups * depth)
    x_dtype = data.draw(st.sampled_from(["int8", "uint8"]))
    x, weight, case = problem(rng, shape, groups * multiple, kernel, groups, x_dtype)
    case |= {"rounding": data.draw(st.sampled_from(ROUNDINGS))}
    form = data.draw(st.sampled_from(FORMS))
    for kw in outputs(rng, x, weight, case, geometry, (form,)):
        got = everywhere(lambda kw=kw: qk.conv2d_int8(x, weight, **kw), (1, 2))
        same(got, oracle.conv2d(x, weight, **kw))
