# SPDX-License-Identifier: Apache-2.0
"""The short way of plain arguments through the core against the long way through Python: the same
results, the same `out`, the same errors, whatever the arguments are."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import numpy as np
import pytest

import qkernels as qk
from qkernels import _core
from support import require, same

SHAPE = (3, 4, 32)
NAMES = ("quantize", "dequantize", "requantize", "dynamic_quantize")


class Sub(np.ndarray):
    """A subclass: never plain."""


class Ways:
    """Stands before a function of the core: lets the first offer of a call through, or refuses it,
    so that the call must go the long way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self._core, self.offers, self.refuse, self.taken = getattr(_core, name), 0, False, False
        monkeypatch.setattr(_core, name, self._offer)

    def _offer(self, *arguments: Any) -> Any:
        self.offers += 1
        if self.offers == 1 and self.refuse:
            return None
        result = self._core(*arguments)
        if self.offers == 1:
            self.taken = result is not None
        return result

    def outcome(self, call: Any, build: Any, long: bool) -> Any:
        """What comes out, with the bytes of out, or the error."""
        self.offers, self.refuse, self.taken = 0, long, False
        arguments = build()
        try:
            result = call(**arguments)
        except Exception as error:
            return type(error), str(error)
        out = arguments.get("out")
        if out is not None:
            assert result is out
        return result


def kinds(result: Any) -> list[type]:
    """Array or scalar, for each part."""
    return [type(part) for part in (result if isinstance(result, tuple) else (result,))]


def agree(ways: Ways, name: str, build: Any, what: str) -> bool:
    """Both ways give the same; did the short one take it?"""
    call = getattr(qk, name)
    short = ways.outcome(call, build, long=False)
    taken = ways.taken
    long = ways.outcome(call, build, long=True)
    if isinstance(long, tuple) and isinstance(long[0], type):
        assert short == long, what
        assert issubclass(long[0], qk.QKernelsError), what
    else:
        same(short, long, what)
        assert kinds(short) == kinds(long), what
    return taken


def unaligned(array: np.ndarray) -> np.ndarray:
    room = np.zeros(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    room[...] = array
    return room


def readonly(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


# What an array is turned into, and whether it is plain still.
FORMS: dict[str, tuple[Any, bool]] = {
    "as it is": (lambda a: a, True),
    "read-only": (lambda a: readonly(a.copy()), True),
    "0-d": (lambda a: np.array(a[0, 0, 0]), True),
    "1-D": (lambda a: a[0, 0], True),
    "empty": (lambda a: a[:0], True),
    "no columns": (lambda a: a[..., :0], True),
    "axes of one": (lambda a: a[:1, :, None], True),
    "scalar": (lambda a: a[0, 0, 0], False),
    "subclass": (lambda a: a.view(Sub), False),
    "masked": (lambda a: np.ma.masked_array(a, a > 0), False),
    "other order": (lambda a: a.astype(a.dtype.newbyteorder()), False),
    "unaligned": (unaligned, False),
    "transposed": (lambda a: a.T, False),
    "reversed": (lambda a: a[..., ::-1], False),
    "gaps": (lambda a: np.repeat(a, 2, axis=-1)[..., ::2], False),
    "list": (lambda a: a.tolist(), False),
    "float64": (lambda a: a.astype(np.float64), False),
    "int64": (lambda a: a.astype(np.int64), False),
    "bool": (lambda a: a > 0, False),
    "memoryview": (lambda a: memoryview(np.ascontiguousarray(a)), False),
}
ONE_BYTE = ("int8", "uint8")


def source(name: str) -> np.ndarray:
    rng = np.random.default_rng(5)
    if name == "dequantize":
        return rng.integers(-128, 128, SHAPE).astype(np.int8)
    if name == "requantize":
        return rng.integers(-9000, 9000, SHAPE).astype(np.int32)
    return rng.normal(size=SHAPE).astype(np.float32)


FIRST = {"quantize": "x", "dequantize": "q", "requantize": "acc", "dynamic_quantize": "x"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_array(monkeypatch, name, form):
    ways = Ways(monkeypatch, name)
    turn, plain = FORMS[form]
    own_byte = name == "dequantize"
    if own_byte and form in ("other order", "unaligned"):
        plain = True  # a byte has no order and no alignment
    x = turn(source(name))

    def build() -> dict[str, Any]:
        rest = {} if name == "dynamic_quantize" else {"scale": 0.02}
        return {FIRST[name]: x, **rest}

    per_row_of_nothing = name == "dynamic_quantize" and form == "0-d"
    assert agree(ways, name, build, form) == (plain and not per_row_of_nothing)


@pytest.mark.parametrize("x_dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["quantize", "dynamic_quantize"])
def test_half_precision(monkeypatch, name, x_dtype):
    ways = Ways(monkeypatch, name)
    x = source(name)
    if x_dtype == "float16":
        half: Any = x.astype(np.float16)
    else:
        half = x.astype(require("ml_dtypes").bfloat16)
    rest = {} if name == "dynamic_quantize" else {"scale": 0.02}
    taken = agree(ways, name, lambda: {"x": half, **rest}, x_dtype)
    assert taken == (x_dtype == "float16")
    assert not agree(ways, name, lambda: {"x": half.view(np.uint16), **rest}, "uint16")


F4, I4 = np.float32, np.int32
COLUMNS = SHAPE[-1]
# Scales and whether they are plain; those of a length run along axis=-1.
SCALES: dict[str, tuple[Any, bool]] = {
    "float": (0.02, True),
    "int": (2, True),
    "large int": (2**60 + 1, True),
    "float32": (F4(0.02), True),
    "float64": (np.float64(0.02), True),
    "0-d": (np.array(0.02, F4), True),
    "1-D": (np.linspace(0.01, 0.1, COLUMNS, dtype=F4), True),
    "least": (1e-45, True),
    "greatest": (float(np.finfo(F4).max), True),
    "rounds down to the greatest": (3.4028235e38, False),
    "float16": (np.float16(0.02), False),
    "int64": (np.int64(2), False),
    "0-d float64": (np.array(0.02), False),
    "1-D float64": (np.linspace(0.01, 0.1, COLUMNS), False),
    "list": ([0.02] * COLUMNS, False),
    "gaps": (np.full(2 * COLUMNS, 0.02, F4)[::2], False),
    "subclass": (np.full(COLUMNS, 0.02, F4).view(Sub), False),
    "other order": (np.full(COLUMNS, 0.02, F4).astype(">f4"), False),
    "unaligned": (unaligned(np.full(COLUMNS, 0.02, F4)), False),
    "wrong length": (np.full(COLUMNS - 1, 0.02, F4), False),
    "2-D": (np.full((1, COLUMNS), 0.02, F4), False),
    "0": (0.0, False),
    "-0": (-0.0, False),
    "negative": (-1.0, False),
    "negative int": (-1, False),
    "NaN": (np.nan, False),
    "infinite": (np.inf, False),
    "too large": (1e39, False),
    "huge int": (2**70, False),
    "too small": (1e-50, False),
    "0 in 1-D": (np.array([0.02] * (COLUMNS - 1) + [0], F4), False),
    "NaN in 1-D": (np.array([np.nan] + [0.02] * (COLUMNS - 1), F4), False),
    "bool": (True, False),
    "NumPy bool": (np.True_, False),
    "text": ("0.02", False),
    "None": (None, False),
    "complex": (1j, False),
}


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("scale", SCALES)
def test_scales(monkeypatch, name, scale):
    ways = Ways(monkeypatch, name)
    value, plain = SCALES[scale]
    for axis in (None, -1):
        taken = agree(
            ways, name, lambda a=axis: {FIRST[name]: source(name), "scale": value, "axis": a}, scale
        )
        assert taken == (plain and not (axis is None and np.ndim(value)))


ZERO_POINTS: dict[str, tuple[Any, bool]] = {
    "0": (0, True),
    "low": (-128, True),
    "high": (127, True),
    "int8": (np.int8(-3), True),
    "uint8": (np.uint8(3), True),
    "int32": (I4(3), True),
    "int64": (np.int64(3), True),
    "0-d": (np.array(3, I4), True),
    "1-D": (np.arange(COLUMNS, dtype=I4), True),
    "int16": (np.int16(3), False),
    "1-D int8": (np.arange(COLUMNS, dtype=np.int8), False),
    "1-D int64": (np.arange(COLUMNS), False),
    "list": ([1] * COLUMNS, False),
    "1-D float": (np.zeros(COLUMNS, F4), False),
    "beyond": (128, False),
    "far beyond": (2**40, False),
    "below": (-129, False),
    "beyond int64": (2**70, False),
    "beyond in 1-D": (np.full(COLUMNS, 128, I4), False),
    "wrong length": (np.zeros(COLUMNS + 1, I4), False),
    "empty": (np.zeros(0, I4), False),
    "float": (3.0, False),
    "bool": (True, False),
    "NumPy bool": (np.False_, False),
    "duration": (np.timedelta64(3), False),
    "text": ("0", False),
    "None": (None, False),
}


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("zero_point", ZERO_POINTS)
def test_zero_points(monkeypatch, name, zero_point):
    ways = Ways(monkeypatch, name)
    value, plain = ZERO_POINTS[zero_point]
    scales = (0.02, SCALES["1-D"][0])
    for axis, scale in itertools.product((None, -1), scales):
        vector = isinstance(value, np.ndarray) and value.ndim > 0
        fits = axis is not None or not (vector or np.ndim(scale))
        taken = agree(
            ways,
            name,
            lambda a=axis, s=scale: {
                FIRST[name]: source(name),
                "scale": s,
                "zero_point": value,
                "axis": a,
            },
            zero_point,
        )
        assert taken == (plain and fits and not (vector and name == "requantize"))


@pytest.mark.parametrize("name", NAMES[:3])
def test_axes(monkeypatch, name):
    ways = Ways(monkeypatch, name)
    axes = (0, 1, 2, -1, -2, -3, 3, -4, 2**40, 2**70, True, np.int64(1), 1.0, "1")
    for axis, form in itertools.product(axes, ("as it is", "0-d", "empty", "no columns")):
        x = FORMS[form][0](source(name))
        plain = type(axis) is int and -x.ndim <= axis < x.ndim
        length = x.shape[axis] if plain else 2
        for scale in (0.5, np.linspace(0.1, 1, length, dtype=F4)):
            taken = agree(
                ways,
                name,
                lambda a=axis, s=scale, x=x: {FIRST[name]: x, "scale": s, "axis": a},
                f"axis {axis}, {form}",
            )
            assert taken == plain


DTYPES = [f"{sign}int{bits}" for sign in ("", "u") for bits in range(2, 9)]


@pytest.mark.parametrize("name", ["quantize", "requantize"])
def test_dtypes(monkeypatch, name):
    ways = Ways(monkeypatch, name)
    x = source(name)
    for dtype in (*DTYPES, np.str_("uint8"), "int9", "int1", "float32", "", "int8\0", np.uint8, 8):
        plain = isinstance(dtype, str) and dtype in (DTYPES if name == "quantize" else ONE_BYTE)
        taken = agree(
            ways, name, lambda d=dtype: {FIRST[name]: x, "scale": 0.02, "dtype": d}, str(dtype)
        )
        assert taken == plain, dtype


def test_requantize_arguments(monkeypatch):
    ways = Ways(monkeypatch, "requantize")
    biases = (None, 5, -(2**31), 2**31, np.int64(4), np.arange(COLUMNS, dtype=I4), [1] * COLUMNS)
    biases = (*biases, np.arange(3, dtype=I4), 1.5, True, np.zeros((1, COLUMNS), I4))
    plain_biases = biases[:3] + biases[4:6]
    for bias, activation, rounding, scale in itertools.product(
        biases,
        (None, "relu", "relu6", 1),
        ("nearest_even", "fixed_point", "fixed_point_single", "up", None),
        (0.02, SCALES["1-D"][0]),
    ):
        taken = agree(
            ways,
            "requantize",
            lambda b=bias, a=activation, r=rounding, s=scale: {
                "acc": source("requantize"),
                "scale": s,
                "zero_point": -7,
                "bias": b,
                "axis": 2,
                "activation": a,
                "rounding": r,
            },
            f"bias {bias}, {activation}, {rounding}",
        )
        plain = any(bias is one for one in plain_biases) and activation in (None, "relu")
        assert taken == (plain and rounding not in ("up", None))


@pytest.mark.parametrize("name", NAMES[:3])
def test_out(monkeypatch, name):
    ways = Ways(monkeypatch, name)
    dtype, other = ("float32", "float64") if name == "dequantize" else ("int8", "uint8")
    outs: dict[str, tuple[Any, bool]] = {
        "right": (lambda: np.zeros(SHAPE, dtype), True),
        "read-only": (lambda: readonly(np.zeros(SHAPE, dtype)), False),
        "other dtype": (lambda: np.zeros(SHAPE, other), False),
        "other shape": (lambda: np.zeros(SHAPE[1:], dtype), False),
        "one axis more": (lambda: np.zeros((1, *SHAPE), dtype), False),
        "same size": (lambda: np.zeros(SHAPE[::-1], dtype), False),
        "transposed": (lambda: np.zeros(SHAPE[::-1], dtype).T, False),
        "gaps": (lambda: np.zeros((*SHAPE, 2), dtype)[..., 0], False),
        "one row": (lambda: np.broadcast_to(np.zeros(SHAPE[-1], dtype), SHAPE), False),
        "subclass": (lambda: np.zeros(SHAPE, dtype).view(Sub), False),
        "unaligned": (lambda: unaligned(np.zeros(SHAPE, dtype)), dtype == "int8"),
        "other order": (lambda: np.zeros(SHAPE, np.dtype(dtype).newbyteorder()), dtype == "int8"),
        "list": (lambda: [0], False),
    }
    for what, (make, plain) in outs.items():
        for scale in (0.02, SCALES["1-D"][0]):
            taken = agree(
                ways,
                name,
                lambda m=make, s=scale: {
                    FIRST[name]: source(name),
                    "scale": s,
                    "axis": -1,
                    "out": m(),
                },
                what,
            )
            assert taken == plain, what


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("shift", [-4, 0, 4, 1000])
def test_out_over_an_input(monkeypatch, name, shift):
    ways = Ways(monkeypatch, name)
    x = source(name)
    out_dtype = np.dtype("float32" if name == "dequantize" else "int8")

    def build(over: str) -> dict[str, Any]:
        room = np.zeros(8192, np.uint8)
        start = 2048
        copy = room[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
        scale = np.full(COLUMNS, 0.02, F4)
        if over == "scale":
            copy = x
            scale = room[start : start + 4 * COLUMNS].view(F4)
            scale[...] = 0.02
        else:
            copy[...] = x
        at = start + shift
        out = room[at : at + x.size * out_dtype.itemsize].view(out_dtype).reshape(x.shape)
        return {
            FIRST[name]: copy.copy() if over == "scale" else copy,
            "scale": scale,
            "axis": -1,
            "out": out,
        }

    for over, room in (("x", x.nbytes), ("scale", 4 * COLUMNS)):
        assert agree(ways, name, lambda o=over: build(o), over) == (shift >= room)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(monkeypatch, value):
    x = source("quantize")
    x[1, 2, 3] = value
    quantize, dynamic = Ways(monkeypatch, "quantize"), Ways(monkeypatch, "dynamic_quantize")
    taken = agree(
        quantize, "quantize", lambda: {"x": x, "scale": 0.1, "out": np.zeros(SHAPE, "i1")}, ""
    )
    assert taken == bool(np.isinf(value))
    for scheme in ("symmetric", "asymmetric"):
        assert not agree(
            dynamic, "dynamic_quantize", lambda s=scheme: {"x": x, "scheme": s}, scheme
        )


def test_dynamic_arguments(monkeypatch):
    ways = Ways(monkeypatch, "dynamic_quantize")
    for form, granularity, scheme in itertools.product(
        ("as it is", "0-d", "1-D", "empty", "no columns", "transposed"),
        ("per_row", "per_tensor", np.str_("per_row"), "row", None),
        ("symmetric", "asymmetric", "affine", 1),
    ):
        x = FORMS[form][0](source("quantize"))
        taken = agree(
            ways,
            "dynamic_quantize",
            lambda x=x, g=granularity, s=scheme: {"x": x, "granularity": g, "scheme": s},
            f"{form}, {granularity}, {scheme}",
        )
        known = granularity in ("per_row", "per_tensor") and scheme in ("symmetric", "asymmetric")
        rows = form != "0-d" or granularity == "per_tensor"
        assert taken == (known and rows and form != "transposed")


@pytest.mark.parametrize("zero_points", [(0, 0), (3, -5)])
def test_gemm_with_packed_weights(rng, zero_points):
    b = rng.integers(-128, 128, (40, 24)).astype(np.int8)
    packed = qk.pack_gemm(b)
    a_zero, b_zero = zero_points
    product = packed.bind(a_zero_point=a_zero, b_zero_point=b_zero)
    given = {"a_zero_point": a_zero, "b_zero_point": b_zero}
    for _ in range(2):  # the first prepares what the second finds
        for dtype, shape in itertools.product(ONE_BYTE, ((5, 40), (2, 3, 40), (0, 40))):
            a = rng.integers(0, 100, shape).astype(dtype)
            want = (a.astype("i8") - a_zero) @ (b.astype("i8") - b_zero)
            out = np.zeros((*shape[:-1], 24), np.int32)
            assert qk.gemm_int8(a, packed, **given, out=out) is out
            same(out, want.astype("i4"))
            assert product(a, out[...]).base is out
            for form in (a, a.view(Sub), a[..., ::-1][..., ::-1], a[::-1]):
                expected = want[::-1] if form.strides[0] < 0 else want
                same(qk.gemm_int8(form, packed, **given), expected.astype("i4"))
                same(product(form), expected.astype("i4"))
    with pytest.raises(qk.QKernelsError, match=r"\(\.\.\., M, K\)"):
        qk.gemm_int8(a[0, 0] if a.size else np.zeros(40, np.int8), packed, **given)
    with pytest.raises(qk.QKernelsError, match="int8 or uint8"):
        qk.gemm_int8(np.zeros((5, 40), np.int32), packed, **given)
    with pytest.raises(qk.QKernelsError, match="a_zero_point"):
        qk.gemm_int8(np.zeros((5, 40), np.uint8), packed, a_zero_point=-1)
    with pytest.raises(qk.QKernelsError, match="b_zero_point must hold integers"):
        qk.gemm_int8(np.zeros((5, 40), np.uint8), packed, a_zero_point=a_zero, b_zero_point=0.5)
    with pytest.raises(qk.QKernelsError, match="read-only"):
        qk.gemm_int8(
            np.zeros((5, 40), np.uint8), packed, **given, out=readonly(np.zeros((5, 24), np.int32))
        )


@pytest.mark.parametrize("padding", [0, 1, "same"])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_with_packed_weights(rng, padding, stride):
    packed = qk.pack_conv2d(
        rng.normal(size=(6, 5, 3, 3)).astype(np.float32), padding=padding, stride=stride
    )
    calls = {
        "int8": packed.bind(x_scale=0.1, x_zero_point=2, out_scale=0.7),
        "float32": packed.bind(x_scale=0.1),
        "int32": packed.bind(),
    }
    for _ in range(2):  # the first prepares what the second finds
        # Sizes whose padding under "same" differs must not meet each other's op.
        for shape in ((7, 8, 5), (1, 8, 8, 5), (2, 7, 7, 5), (2, 2, 8, 7, 5), (0, 8, 8, 5)):
            x = rng.integers(-128, 128, shape).astype(np.int8)
            for dtype, call in calls.items():
                want = call(x.view(Sub))
                assert want.dtype == dtype
                same(call(x), want)
                out = np.empty_like(want)
                assert call(x, out) is out
                same(out, want)
                gaps = np.zeros((*want.shape, 2), dtype)[..., 0]
                assert call(x, gaps) is gaps
                same(gaps, want)
            if padding != 0 and stride == 1 and x.size:  # in place of the input
                room = np.zeros(calls["int8"](x).shape, np.int8)
                room[..., :5] = x
                want = calls["int8"](room[..., :5].copy())
                whole = np.zeros(want.size, np.int8)
                inside = whole[: x.size].reshape(shape)
                inside[...] = x
                same(calls["int8"](inside, whole.reshape(want.shape)), want)
    x = rng.integers(-128, 128, (1, 8, 8, 5)).astype(np.int8)
    with pytest.raises(qk.QKernelsError, match="read-only"):
        calls["int8"](x, readonly(calls["int8"](x)))
    with pytest.raises(qk.QKernelsError, match="dtype int8"):
        calls["int8"](x, calls["int32"](x))
    same(calls["int8"](x.view(np.uint8)), calls["int8"](x.view(np.uint8).view(Sub)))


def test_kept_conv_calls_refuse_what_they_would_refuse_anew(rng):
    packed = qk.pack_conv2d(rng.normal(size=(6, 5, 3, 3)).astype(np.float32))
    x = rng.integers(-128, 128, (1, 8, 8, 5)).astype(np.int8)
    given: dict[str, Any] = {"x_scale": 1.0, "x_zero_point": 1, "out_scale": 1.0}
    want = packed.bind(**given)(x)
    for _ in range(2):
        same(qk.conv2d_int8(x, packed, **given), want)
    same(qk.conv2d_int8(x, packed, **given | {"x_scale": np.ones((), np.float32)}), want)
    for name, value in (("x_scale", True), ("x_zero_point", True), ("x_zero_point", 1.0)):
        with pytest.raises(qk.QKernelsError, match=name):  # though it equals the one before
            qk.conv2d_int8(x, packed, **given | {name: value})
    for name, value in (("bias", [1] * 6), ("weight_scale", 1.0), ("groups", 1), ("padding", 0)):
        with pytest.raises(qk.QKernelsError, match=f"{name} is given beside a packed weight"):
            qk.conv2d_int8(x, packed, **given, **{name: value})
    with pytest.raises(qk.QKernelsError, match="weight_zero_point is given beside"):
        qk.conv2d_int8(x, packed, **given, weight_zero_point=False)


def test_many_threads_at_once(rng):
    x = rng.normal(size=(8, 256)).astype(np.float32)
    scale = rng.uniform(0.01, 0.1, 256).astype(np.float32)
    packed = qk.pack_gemm(rng.integers(-128, 128, (256, 48)).astype(np.int8))
    codes = qk.quantize(x, scale, axis=1)
    sums = qk.gemm_int8(codes, packed)
    want = (codes, qk.dequantize(codes, scale, axis=1), sums, qk.requantize(sums, 0.001))
    want += (*qk.dynamic_quantize(x, scheme="asymmetric"), codes.view(np.uint8))
    fresh = qk.pack_gemm(packed.unpack())  # all prepare it at once
    start, failures = threading.Barrier(6), []

    def work() -> None:
        try:
            start.wait()
            for _ in range(200):
                q = qk.quantize(x, scale, axis=1, out=np.empty(x.shape, np.int8))
                acc = qk.gemm_int8(q, fresh)
                got = (q, qk.dequantize(q, scale, axis=1), acc, qk.requantize(acc, 0.001))
                got += (*qk.dynamic_quantize(x, scheme="asymmetric"), q.view(np.uint8))
                same(got, want)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
