# SPDX-License-Identifier: Apache-2.0
"""Packed weights: what they say, exact unpacking, bind, pickles, copies, damage."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import oracle
import qkernels as qk
from support import EDGES, everywhere, integers, same, scales, zero_point


def gemm(rng, k=35, n=49, dtype="int8"):
    b = integers(rng, (k, n), dtype)
    a = integers(rng, (5, k), "uint8")
    return qk.pack_gemm(b), b, lambda p: qk.gemm_int8(a, p, a_zero_point=9, b_zero_point=3)


def linear(rng, n=49, k=35):
    weight, x = integers(rng, (n, k)), integers(rng, (5, k), "uint8")
    packed = qk.pack_linear(
        weight, rng.normal(0, 1, n).astype("f4"), weight_scale=scales(rng, (n,)),
        weight_zero_point=zero_point(rng, "int8", (n,)),
    )  # fmt: skip
    return packed, weight, lambda p: qk.linear_int8(x, p, x_scale=0.1, out_scale=0.5)


def conv(rng, channels=19, out=35, groups=1):
    weight, x = integers(rng, (3, 3, channels // groups, out)), integers(rng, (2, 7, 6, channels))
    packed = qk.pack_conv2d(
        weight, rng.integers(-99, 99, out).astype("i4"), weight_scale=scales(rng, (out,)),
        weight_zero_point=zero_point(rng, "int8", (out,)), weight_layout="HWIO",
        padding=1, groups=groups,
    )  # fmt: skip
    return (
        packed,
        weight,
        lambda p: qk.conv2d_int8(x, p, x_scale=0.1, x_zero_point=4, out_scale=0.5),
    )


def depthwise(rng):
    return conv(rng, 35, 35, 35)


def grouped(rng):
    return conv(rng, 36, 72, 3)


KINDS = [gemm, linear, conv, depthwise, grouped]
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)


@each_kind
def test_they_say_what_they_are(rng, kind):
    packed, weight, _ = kind(rng)
    assert tuple(packed.shape) == weight.shape
    assert str(packed.dtype) == "int8"
    assert packed.isa in qk.available_isas()
    assert packed.nbytes >= weight.nbytes
    assert isinstance(packed.layout, str)
    text = repr(packed)
    for fact in (*weight.shape, "int8", packed.isa, packed.layout, type(packed).__name__):
        assert str(fact) in text, f"{fact} is not in {text}"
    if kind is not gemm:
        assert np.asarray(packed.weight_scale).dtype == np.float32


@each_kind
def test_they_are_immutable(rng, kind):
    packed, weight, run = kind(rng)
    before = run(packed)
    for name in ("shape", "dtype", "layout", "nbytes", "weight_scale", "anything"):
        with pytest.raises((AttributeError, TypeError)):
            setattr(packed, name, 1)
    packed.unpack()[...] = 0
    weight[...] = 0
    if kind is not gemm:
        with pytest.raises(ValueError, match="read-only"):
            packed.weight_scale[...] = 7
    same(run(packed), before)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(
    ("k", "n"), [(k, EDGES[(7 * i + 3) % len(EDGES)]) for i, k in enumerate(EDGES)]
)
def test_unpack_is_exact(rng, k, n, dtype):
    packed, b, _ = gemm(rng, k, n, dtype)
    same(everywhere(packed.unpack, (1, 2)), b)
    assert str(packed.dtype) == dtype
    if dtype == "int8":
        packed, weight, _ = linear(rng, n, k)
        same(everywhere(packed.unpack, (1, 2)), weight)


@pytest.mark.parametrize("layout", ["OIHW", "OHWI", "HWIO"])
@pytest.mark.parametrize(
    ("out", "depth", "groups"), [(1, 1, 1), (17, 5, 1), (6, 2, 3), (33, 1, 33), (34, 1, 17)]
)
def test_unpack_of_convolutions_is_exact(rng, layout, out, depth, groups):
    shape = {"O": out, "I": depth, "H": 3, "W": 2}
    weight = integers(rng, [shape[letter] for letter in layout])
    for zp in (0, -128, 127, zero_point(rng, "int8", (out,))):
        packed = qk.pack_conv2d(weight, weight_zero_point=zp, weight_layout=layout, groups=groups)
        same(everywhere(packed.unpack, (1,)), weight)


@each_kind
def test_a_tier_runs_what_another_has_packed(rng, kind):
    state = rng.bit_generator.state
    results = []
    for isa in qk.available_isas():
        rng.bit_generator.state = state
        with qk.use_isa(isa):
            packed, _, run = kind(rng)
        results.append(everywhere(lambda p=packed, r=run: r(p)))
    for result in results[1:]:
        same(result, results[0])


# Pickles and copies -------------------------------------------------------------------------------
@each_kind
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles(rng, kind, protocol):
    packed, weight, run = kind(rng)
    again = pickle.loads(pickle.dumps(packed, protocol))
    assert repr(again) == repr(packed)
    same(again.unpack(), weight)
    same(everywhere(lambda: run(again)), run(packed))


@each_kind
def test_weights_travel_out_of_band(rng, kind):
    packed, weight, run = kind(rng)
    buffers = []
    head = pickle.dumps(packed, 5, buffer_callback=buffers.append)
    raw = [bytes(b.raw()) for b in buffers]
    assert sum(map(len, raw)) >= weight.nbytes
    assert len(head) < 4096 + 24 * weight.shape[-1], "the weights are in the pickle itself"
    for offset in (0, 1, 7):  # whatever the alignment of the memory they arrive in
        again = pickle.loads(head, buffers=[arrived(block, offset) for block in raw])
        same(again.unpack(), weight)
        same(everywhere(lambda p=again: run(p), (1,)), run(packed))


def arrived(block, offset):
    """Read-only memory with the bytes of `block`, `offset` bytes after a multiple of 64."""
    memory = bytearray(len(block) + 128)
    start = -np.frombuffer(memory, np.uint8).ctypes.data % 64 + offset
    memory[start : start + len(block)] = block
    return memoryview(memory).toreadonly()[start : start + len(block)]


@each_kind
def test_copies(rng, kind):
    packed, weight, run = kind(rng)
    for again in (copy.copy(packed), copy.deepcopy(packed), copy.deepcopy([packed])[0]):
        same(again.unpack(), weight)
        same(run(again), run(packed))


@each_kind
def test_damage_is_refused(rng, kind):
    """Every byte of the packed memory counts: flipped, cut short or drawn out, it is refused."""
    packed, _, _ = kind(rng)
    buffers = []
    head = pickle.dumps(packed, 5, buffer_callback=buffers.append)
    blocks = [bytes(b.raw()) for b in buffers]
    largest = max(range(len(blocks)), key=lambda i: len(blocks[i]))
    whole = blocks[largest]

    def load(changed):
        pickle.loads(head, buffers=[changed if i == largest else b for i, b in enumerate(blocks)])

    load(whole)
    places = set(range(64)) | set(rng.integers(64, len(whole), 60).tolist()) | {len(whole) - 1}
    for place in sorted(places):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        with pytest.raises(qk.QKernelsError):
            load(bytes(changed))
    for changed in (
        b"",
        whole[:1],
        whole[:63],
        whole[:64],
        whole[:-1],
        whole[:-64],
        whole + b"\0" * 64,
    ):
        with pytest.raises(qk.QKernelsError):
            load(changed)
    for _ in range(20):
        with pytest.raises(qk.QKernelsError):
            load(rng.bytes(len(whole)))


def test_a_pickle_works_in_another_process(rng, tmp_path):
    packed, weight, _ = linear(rng)
    (tmp_path / "packed.pickle").write_bytes(pickle.dumps(packed))
    code = (
        "import pickle, sys, pathlib\n"
        "packed = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "sys.stdout.buffer.write(packed.unpack().tobytes())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "packed.pickle")],
        capture_output=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}, timeout=60,
    )  # fmt: skip
    assert done.stdout == weight.tobytes()


# bind ---------------------------------------------------------------------------------------------
def bound_cases(rng):
    packed, weight, _ = linear(rng)
    x = integers(rng, (5, 35), "uint8")
    for kw in (
        {},
        {"x_scale": 0.1},
        {"x_scale": 0.1, "x_zero_point": 3, "out_scale": 0.5, "activation": "relu"},
    ):
        if kw:
            yield packed, kw, x, qk.linear_int8(x, packed, **kw)
        else:
            bare = qk.pack_linear(weight)
            yield bare, kw, x, qk.linear_int8(x, bare)
    real = rng.normal(0, 1, (5, 35)).astype(np.float32)
    yield packed, {}, real, qk.linear_int8(real, packed)
    packed, _, _ = conv(rng)
    x = integers(rng, (2, 7, 6, 19))
    kw = {"x_scale": 0.1, "out_scale": 0.5, "rounding": "fixed_point"}
    yield packed, kw, x, qk.conv2d_int8(x, packed, **kw)
    packed, b, _ = gemm(rng)
    a = integers(rng, (5, 35))
    kw = {"a_zero_point": 5, "b_zero_point": -7}
    yield packed, kw, a, oracle.gemm(a, b, **kw)


def test_bound_calls_give_the_same_bits(rng):
    for packed, kw, x, want in bound_cases(rng):
        call = packed.bind(**kw)
        same(everywhere(lambda c=call, x=x: c(x)), want, str(kw))
        out = np.zeros_like(want)
        assert call(x, out=out) is out
        same(out, want)
        wide = np.zeros((*want.shape[:-1], 2 * want.shape[-1]), want.dtype)[..., ::2]
        assert call(x, out=wide) is wide
        same(wide, want)
        same(call(np.flip(np.flip(x).copy())), want, "negative strides")
        with pytest.raises(qk.QKernelsError, match="x|a"):
            call(x[..., :-1])
        with pytest.raises(qk.QKernelsError, match="out"):
            call(x, out=np.zeros((1, 1), want.dtype))
        with pytest.raises(qk.QKernelsError):
            call(x.astype(np.float64))


def test_bind_checks_its_arguments(rng):
    packed, _, _ = linear(rng)
    for bad in (
        {"out_scale": 0.5},
        {"x_scale": -1},
        {"x_scale": 0.1, "activation": "nonsense"},
        {"rounding": "up"},
    ):
        with pytest.raises(qk.QKernelsError):
            packed.bind(**bad)
    with pytest.raises(TypeError):
        packed.bind(nonsense=1)


ORDERS = [(0, 1, 2, 3), (0, 3, 1, 2), (1, 2, 3, 0), (3, 0, 1, 2), (2, 1, 0, 3)]


def in_order(array, axes):
    """The same array, its axes in this order in memory."""
    return np.ascontiguousarray(array.transpose(axes)).transpose(np.argsort(axes))


def packed_bytes(packed):
    return bytes(packed._packed.buffer())


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_memory_order_and_strides_change_no_packed_byte(rng, dtype):
    weight = integers(rng, (35, 130), dtype)
    want = packed_bytes(qk.pack_linear(weight))
    padded = integers(rng, (71, 261), dtype)
    padded[1::2, 1::2] = weight
    mirrored = weight[::-1, ::-1].copy()[::-1, ::-1]
    for same_weight in (np.asfortranarray(weight), padded[1::2, 1::2], mirrored):
        assert packed_bytes(qk.pack_linear(same_weight)) == want
        packed = qk.pack_gemm(same_weight.T)
        assert packed_bytes(packed) == want
        same(packed.unpack(), weight.T)
        assert packed.unpack().flags.c_contiguous
    for groups, shape in ((1, (24, 7, 3, 5)), (4, (24, 6, 3, 2)), (24, (24, 1, 3, 3))):
        kernel = integers(rng, shape, dtype)
        want = packed_bytes(qk.pack_conv2d(kernel, groups=groups))
        for axes in ORDERS:
            packed = qk.pack_conv2d(in_order(kernel, axes), groups=groups)
            assert packed_bytes(packed) == want
            same(packed.unpack(), kernel)
        for layout in ("OHWI", "HWIO"):
            given = kernel.transpose(["OIHW".index(letter) for letter in layout])
            packed = qk.pack_conv2d(given, groups=groups, weight_layout=layout)
            assert packed_bytes(packed) == want
            same(packed.unpack(), np.ascontiguousarray(given))


def test_float_weights_in_any_memory_order(rng):
    """scale = amax / 127 by the channel, codes rint(w / scale), wherever the channel lies."""
    for shape in ((35, 130), (300, 9), (40, 3, 5, 7), (1000, 1, 3, 3), (5, 1, 1, 1)):
        weight = (rng.normal(0, 1, shape) * 10.0 ** rng.integers(-40, 37, shape)).astype("f4")
        weight[1], weight[2].flat[:] = 0, 1e-45
        rows = weight.reshape(len(weight), -1)
        scale = np.abs(rows).max(1) / np.float32(127)
        scale[scale == 0] = 1
        codes = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype("i1").reshape(shape)
        pack = qk.pack_linear if weight.ndim == 2 else qk.pack_conv2d
        orders = [(0, 1), (1, 0)] if weight.ndim == 2 else ORDERS
        for axes in orders:
            given = in_order(weight, axes)

            def quantized(given=given, pack=pack):
                packed = pack(given)
                return packed.unpack(), np.asarray(packed.weight_scale)

            same(everywhere(quantized), (codes, scale))
        same(pack(weight.astype("f8")[::-1]).unpack(), codes[::-1])
        for poison in (np.nan, np.inf, -np.inf):
            weight[-1].flat[-1] = poison
            for axes in orders:
                with pytest.raises(qk.QKernelsError, match="finite"):
                    pack(in_order(weight, axes))
