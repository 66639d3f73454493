# SPDX-License-Identifier: Apache-2.0
"""Model files: round trips, the safetensors package both ways, and damage of every kind."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import qkernels as qk
from qkernels import _core, nn
from qkernels.graph import container, serialize
from support import require, same
from test_models import images, mixture
from test_nn import f32, residual


def sample_tensors():
    rng = np.random.default_rng(3)
    kinds = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8")
    tensors = {kind: rng.integers(0, 100, (3, 5)).astype(kind) for kind in kinds}
    tensors["bool"] = np.array([True, False, True])
    tensors["scalar"] = np.array(2.5, np.float32)
    tensors["empty"] = np.zeros((0, 4), np.float32)
    tensors["transposed"] = np.arange(6.0).reshape(2, 3).T
    return tensors


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(1)
    config = qk.QuantConfig(skip=["conv2"])
    return qk.quantize_model(residual(rng), images(rng), config=config, progress=False)


@pytest.fixture(scope="module")
def blob(model):
    return serialize.dumps(model)


def with_checksum(data: bytes) -> bytes:
    """A file whose stored checksum is put right: what a hostile writer would do."""
    mark = b'"qkernels.crc32":"'
    at = data.index(mark) + len(mark)
    blank = data[:at] + b"0" * 8 + data[at + 8 :]
    return data[:at] + f"{zlib.crc32(blank):08x}".encode() + data[at + 8 :]


def split(data: bytes) -> tuple[dict, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join(header: object, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text = text.replace(b'"qkernels.crc32": "', b'"qkernels.crc32":"')
    return len(text).to_bytes(8, "little") + text + data


def refused(path: Path, data: bytes, message: str = ".") -> None:
    path.write_bytes(data)
    with pytest.raises(qk.QKernelsError, match=message) as caught:
        qk.load(path)
    assert str(path) in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("skip", [(), ("conv", "head"), ("norm",)])
@pytest.mark.parametrize("rounding", ["nearest_even", "fixed_point"])
def test_round_trip(rng, tmp_path, layout, skip, rounding):
    """Same bits out, same facts, same file again."""
    graph, x = mixture(rng, layout), images(rng, layout)
    config = qk.QuantConfig(skip=skip, rounding=rounding)
    model = qk.quantize_model(graph, x, config=config, progress=False)
    model.save(tmp_path / "model")
    loaded = qk.load(str(tmp_path / "model"))
    for mine, theirs in zip(model.trace(x), loaded.trace(x), strict=True):
        assert (mine.name, mine.op, mine.qparams) == (theirs.name, theirs.op, theirs.qparams)
        same(mine.output, theirs.output, mine.name)
    for name, output in model.run({"input": x}).items():
        same(loaded.run({"input": x})[name], output)
    assert loaded.summary() == model.summary()
    assert repr(loaded) == repr(model)
    assert (loaded.nbytes, loaded.float_nbytes) == (model.nbytes, model.float_nbytes)
    for mine, theirs in zip(model.layers, loaded.layers, strict=True):
        assert mine.attributes == theirs.attributes
        assert mine.output_shape == theirs.output_shape
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


def test_weights_are_used_in_place(model, tmp_path):
    """Packed weights lie on 64 bytes in the file and stay where they are mapped."""
    model.save(tmp_path / "model")
    content = container.read(tmp_path / "model")
    for layer in model.layers:
        if layer.quantized and layer.weight is not None:
            mapped = content.tensors[f"{layer.name}.weight"]
            assert mapped.ctypes.data % 64 == 0
            assert not mapped.flags.writeable
            packed = _core.Packed.from_buffer(mapped[: layer.weight.nbytes])
            address = np.frombuffer(packed.buffer(), np.uint8).ctypes.data
            assert address == mapped.ctypes.data


def test_replaced_while_in_use(model, tmp_path, rng):
    """Saving over the file that a model was loaded from; removing it."""
    path = tmp_path / "model"
    model.save(path)
    loaded = qk.load(path)
    loaded.save(path)
    x = images(rng)
    same(loaded.run({"image": x})["softmax"], model.run({"image": x})["softmax"])
    path.unlink()
    same(loaded.run({"image": x})["softmax"], model.run({"image": x})["softmax"])


def test_save_is_atomic(model, tmp_path, monkeypatch):
    """A failure leaves the old file and nothing else."""
    path = tmp_path / "model"
    path.write_bytes(b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        model.save(path)
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_missing_files(model, tmp_path):
    with pytest.raises(FileNotFoundError):
        qk.load(tmp_path / "none")
    with pytest.raises(OSError, match=str(tmp_path)):
        qk.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "none" / "model")


def test_other_cpu_family(model, tmp_path, monkeypatch, rng):
    """Weights in a layout that the active tier has no kernels for are packed again."""
    path, x = tmp_path / "model", images(rng)
    model.save(path)
    want = model.run({"image": x})["softmax"]
    packed = []

    class Foreign:
        """A packed object of another family: its integers are all that can be had."""

        native = False

        def __init__(self, packed):
            self.info, self.unpack = packed.info, packed.unpack

    class Core:
        """The core, whose `from_buffer` finds foreign layouts."""

        class Packed(_core.Packed):
            @staticmethod
            def from_buffer(buffer):
                packed.append(Foreign(_core.Packed.from_buffer(buffer)))
                return packed[-1]

        CoreError = _core.CoreError

    monkeypatch.setattr(serialize, "_core", Core)
    loaded = qk.load(path)
    assert len(packed) == 3
    same(loaded.run({"image": x})["softmax"], want)


def test_pickle_and_copy(model, rng):
    x = images(rng)
    other = pickle.loads(pickle.dumps(model))
    same(other.run({"image": x})["softmax"], model.run({"image": x})["softmax"])
    assert copy.deepcopy(model) is copy.copy(model) is model


def test_names_of_any_kind(tmp_path, rng):
    """Names with quotes, dots, spaces, other alphabets."""
    graph = nn.Sequential(
        ('a "quoted" name', nn.Linear(f32(rng, 4, 3))),
        ("слой.weight", nn.Linear(f32(rng, 4, 4), f32(rng, 4))),
        ("слой", nn.Linear(f32(rng, 2, 4))),
    )
    x = f32(rng, 9, 3)
    model = qk.quantize_model(graph, x, progress=False)
    model.save(tmp_path / "model")
    same(qk.load(tmp_path / "model")(x), model(x))


# The safetensors package ---------------------------------------------------------------------


def test_safetensors_reads_ours(model, tmp_path):
    safetensors = require("safetensors.numpy")
    tensors = sample_tensors()
    container.write(tmp_path / "file", tensors, {"key": "value"})
    found = safetensors.load_file(tmp_path / "file")
    assert set(found) == set(tensors)
    for name, array in tensors.items():
        same(found[name], np.asarray(array), name)
    model.save(tmp_path / "model")
    found = safetensors.load_file(tmp_path / "model")
    conv = next(layer for layer in model.layers if layer.name == "conv1")
    same(found["conv1.weight_scale"], conv.weight.weight_scale)
    same(found["conv1.bias"], conv.bias)
    same(found["conv2.weight"], model.layers[1].weight)
    with require("safetensors").safe_open(tmp_path / "model", "np") as file:
        assert file.metadata()["format"] == "qkernels-model"


def test_we_read_safetensors(tmp_path):
    safetensors = require("safetensors.numpy")
    tensors = {name: np.ascontiguousarray(a) for name, a in sample_tensors().items()}
    safetensors.save_file(tensors, tmp_path / "file", {"key": "value"})
    content = container.read(tmp_path / "file")
    assert content.metadata == {"key": "value"}
    assert set(content.tensors) == set(tensors)
    for name, array in tensors.items():
        same(content.tensors[name], array, name)
    with pytest.raises(qk.QKernelsError, match="no qkernels model"):
        qk.load(tmp_path / "file")


def test_own_round_trip(tmp_path):
    tensors = sample_tensors()
    container.write(tmp_path / "file", tensors, {"key": 'with "quotes"'})
    content = container.read(tmp_path / "file")
    assert content.metadata["key"] == 'with "quotes"'
    assert list(content.tensors) == list(tensors)
    for name, array in tensors.items():
        same(content.tensors[name], np.asarray(array), name)
        with pytest.raises(ValueError, match="read-only"):
            content.tensors[name][...] = 0
    for bad in ({"__metadata__": np.zeros(2)}, {"x": np.zeros(2, complex)}):
        with pytest.raises(qk.QKernelsError, match="tensor"):
            container.write(tmp_path / "bad", bad, {})


# Damage --------------------------------------------------------------------------------------


@given(st.data())
def test_flipped_bits(blob, tmp_path_factory, data):
    """One bit or byte changed anywhere, checksum as it was."""
    at = data.draw(st.integers(0, len(blob) - 1))
    change = data.draw(st.integers(1, 255))
    damaged = bytearray(blob)
    damaged[at] ^= change
    refused(tmp_path_factory.mktemp("flip") / "model", bytes(damaged))


def test_flipped_header_bytes(blob):
    """Every byte of the length and of the header, three changes each."""
    end = 8 + int.from_bytes(blob[:8], "little")
    for at in range(end):
        for change in (0x01, 0x20, 0x80):
            damaged = bytearray(blob)
            damaged[at] ^= change
            with pytest.raises(qk.QKernelsError):
                serialize.loads(bytes(damaged))


@given(st.data())
def test_truncated(blob, tmp_path_factory, data):
    size = data.draw(st.integers(0, len(blob) - 1))
    refused(tmp_path_factory.mktemp("cut") / "model", blob[:size])


def test_longer(blob, tmp_path):
    refused(tmp_path / "model", blob + b"\0" * 64, "checksum")


@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory, data):
    refused(tmp_path_factory.mktemp("any") / "model", data)


@given(st.data())
def test_flipped_bits_with_the_checksum_put_right(blob, data):
    """What the checksum cannot catch: an error, or a model whose weights or names differ."""
    at = data.draw(st.integers(8, len(blob) - 1))
    damaged = bytearray(blob)
    damaged[at] ^= data.draw(st.integers(1, 255))
    if b'"qkernels.crc32":"' not in damaged:
        return
    try:
        model = serialize.loads(with_checksum(bytes(damaged)))
        model.run({model.inputs[0].name: np.ones((1, 3, 4, 4), np.float32)})
    except (qk.QKernelsError, MemoryError):
        return
    assert [layer.op for layer in model.layers] == OPS


OPS = ["conv2d", "conv2d", "add", "max_pool2d", "linear", "linear", "add", "softmax"]

HEADERS = [
    (b"[]", "JSON object"),
    (b"{}" + b" " * 6, "no qkernels model"),
    (b" {}", "JSON object"),
    (b"{ ", "no JSON"),
    (b'{"a":1}', "dtype, shape"),
    (b'{"a":NaN}', "NaN"),
    (b'{"a":1,"a":1}', "repeats"),
    (b"[" * 100_000, "JSON"),
    (b'{"a":' * 100_000, "JSON"),
    (b'{"a":' + b"9" * 10_000 + b"}", "JSON|dtype"),
    (b"\xff\xfe{}", "JSON"),
    ('{"a":1}'.encode("utf-16"), "JSON"),
    (b'{"__metadata__":{"a":1}}', "map of strings"),
    (b'{"__metadata__":[]}', "map of strings"),
]


@pytest.mark.parametrize(("header", "message"), HEADERS, ids=range(len(HEADERS)))
def test_hostile_headers(tmp_path, header, message):
    refused(tmp_path / "model", join(header, b""), message)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


ENTRIES = [
    ({"a": entry("F31")}, "F31"),
    ({"a": entry(["F32"])}, "dtype"),
    ({"a": entry("BF16", (4,))}, "BF16"),
    ({"a": entry(shape=(3,))}, "cannot have 8 bytes"),
    ({"a": entry(shape=(-2,))}, "cannot be"),
    ({"a": entry(shape=(2.0,))}, "cannot be"),
    ({"a": entry(shape=(True, 2))}, "cannot be"),
    ({"a": entry(shape=(1,) * 40 + (2,))}, "cannot be"),
    ({"a": entry(shape=(0, 2**62, 2**62), offsets=(0, 0)), "b": entry()}, "shape"),
    ({"a": entry(shape=(2**62,), offsets=(0, 2**64))}, "cannot be"),
    ({"a": entry(shape=(2**40,), offsets=(0, 2**42))}, "truncated"),
    ({"a": entry(offsets=(8, 16))}, "begins at 8"),
    ({"a": entry(offsets=(-8, 0))}, "cannot be"),
    ({"a": entry(offsets=(8, 0))}, "cannot have"),
    ({"a": entry(offsets=(0, 8, 8))}, "cannot be"),
    ({"a": entry(), "b": entry()}, "'b' begins at 0"),
    ({"a": entry(shape=(1,), offsets=(0, 4))}, "end at 4"),
    ({"a": {"dtype": "F32", "shape": [2]}}, "must have"),
    ({"a": entry() | {"more": 1}}, "must have"),
    ({"a": [1, 2]}, "must have"),
]


@pytest.mark.parametrize(("header", "message"), ENTRIES, ids=range(len(ENTRIES)))
def test_hostile_entries(tmp_path, header, message):
    refused(tmp_path / "model", join(header, b"\0" * 8), message)


@pytest.mark.parametrize("length", [0, 1, 9, 2**31, 2**63, 2**64 - 1])
def test_hostile_lengths(tmp_path, length):
    refused(tmp_path / "model", length.to_bytes(8, "little") + b"{}" + b" " * 6)


def test_checksum_is_needed(blob, tmp_path):
    header, data = split(blob)
    stated = header["__metadata__"].pop("qkernels.crc32")
    refused(tmp_path / "model", join(header, data), "no checksum")
    header["__metadata__"]["qkernels.crc32"] = stated.upper() + "0"
    refused(tmp_path / "model", join(header, data), "hexadecimal")
    header["__metadata__"] |= {"qkernels.crc32": stated, "version": "2"}
    refused(tmp_path / "model", with_checksum(join(header, data)), "version '2'")


def change(*path_and_value):
    *path, last, value = path_and_value

    def apply(description):
        for key in path:
            description = description[key]
        if value is KeyError:
            del description[last]
        else:
            description[last] = value

    return apply


CONV, SUM, LEFT = 0, 2, 4  # places in the list of layers
DESCRIPTIONS = [
    (change("layout", "CHWN"), "layout"),
    (change("layout", KeyError), "lacks 'layout'"),
    (change("inputs", {}), "inputs"),
    (change("inputs", []), "inputs"),
    (change("inputs", 0, "name", 3), "name"),
    (change("inputs", 0, "qparams", None), "qparams"),
    (change("inputs", 0, "shape", [None, "a"]), "shape"),
    (change("outputs", {}), "outputs"),
    (change("outputs", {"a": "nothing"}), "nothing"),
    (change("outputs", {"a": 1}), "outputs"),
    (change("float_nbytes", -1), "float_nbytes"),
    (change("layers", []), "tensors|outputs"),
    (change("layers", CONV, "op", "conv9d"), "conv9d"),
    (change("layers", CONV, "op", "linear"), "conv1"),
    (change("layers", CONV, "name", "sum"), "sum"),
    (change("layers", CONV, "inputs", ["image", "image"]), "inputs"),
    (change("layers", CONV, "inputs", ["conv1"]), "unknown"),
    (change("layers", CONV, "inputs", [["image"]]), "inputs"),
    (change("layers", CONV, "input_qparams", []), "qparams"),
    (change("layers", CONV, "input_qparams", [None]), "quantized"),
    (change("layers", CONV, "qparams", None), "conv1"),
    (change("layers", CONV, "qparams", "scale", -1.0), "scale"),
    (change("layers", CONV, "qparams", "scale", 1e-60), "scale"),
    (change("layers", CONV, "qparams", "scale", 1e999), "Infinity"),
    (change("layers", CONV, "qparams", "scale", float("nan")), "NaN"),
    (change("layers", CONV, "qparams", "zero_point", 256), "zero_point"),
    (change("layers", CONV, "qparams", "zero_point", True), "zero_point"),
    (change("layers", CONV, "qparams", "dtype", "int4"), "dtype"),
    (change("layers", CONV, "input_qparams", 0, "scale", 7.0), "reads 'image'"),
    (change("layers", CONV, "activation", "gelu"), "activation"),
    (change("layers", CONV, "activation", 1), "activation"),
    (change("layers", CONV, "rounding", "up"), "rounding"),
    (change("layers", CONV, "attributes", {}), "attributes"),
    (change("layers", CONV, "attributes", "stride", 0), "stride"),
    (change("layers", CONV, "attributes", "stride", [1, 2, 3]), "stride"),
    (change("layers", CONV, "attributes", "dilation", [2**31 - 1, 2**31 - 1]), "dilation"),
    (change("layers", CONV, "attributes", "padding", [[0, 0], [0, -1]]), "padding"),
    (change("layers", CONV, "attributes", "groups", 2), "groups"),
    (change("layers", CONV, "attributes", "flatten", True), "attributes"),
    (change("layers", CONV, "packed_bytes", 100), "packed"),
    (change("layers", CONV, "packed_bytes", -1), "packed_bytes"),
    (change("layers", CONV, "packed_bytes", 2**70), "packed_bytes"),
    (change("layers", CONV, "output_shape", 4), "output_shape"),
    (change("layers", SUM, "inputs", ["conv1"]), "add takes 2"),
    (change("layers", 3, "qparams", "scale", 0.5), "keep its qparams"),
    (change("layers", 3, "activation", "relu"), "no activation"),
    (change("layers", LEFT, "name", "gone"), "gone.weight"),
]


@pytest.mark.parametrize(("edit", "message"), DESCRIPTIONS, ids=range(len(DESCRIPTIONS)))
def test_hostile_descriptions(blob, tmp_path, edit, message):
    header, data = split(blob)
    description = json.loads(header["__metadata__"]["model"])
    edit(description)
    header["__metadata__"]["model"] = json.dumps(description)
    refused(tmp_path / "model", with_checksum(join(header, data)), message)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 50_000, '"text"'])
def test_hostile_models(blob, tmp_path, text):
    header, data = split(blob)
    header["__metadata__"]["model"] = text
    refused(tmp_path / "model", with_checksum(join(header, data)))


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("conv1.weight", np.zeros(64, np.uint8), "packed"),
        ("conv1.weight", np.zeros((8, 8), np.uint8), "one axis"),
        ("conv1.weight_scale", np.ones(5, np.float32), "weight_scale"),
        ("conv1.weight_scale", np.zeros(6, np.float32), "positive"),
        ("conv1.weight_scale", np.full(6, np.nan, np.float32), "finite"),
        ("conv1.weight_scale", np.array(["x"]), "dtype"),
        ("conv1.bias", np.ones(7, np.float32), "bias"),
        ("conv1.bias", np.full(6, np.inf, np.float32), "bias"),
        ("conv2.weight", np.ones((2, 2), np.float32), "weight"),
        ("conv2.weight", np.ones((5, 1, 3, 3), np.float32), "conv2|groups|bias"),
        ("stray", np.ones(2), "stray"),
        ("sum.bias", np.ones(2, np.float32), "no bias"),
    ],
)
def test_hostile_tensors(model, tmp_path, name, array, message):
    tensors, metadata = serialize._described(model)
    tensors[name] = array
    if array.dtype.kind == "U":
        with pytest.raises(qk.QKernelsError, match=message):
            container.write(tmp_path / "model", tensors, metadata)
        return
    container.write(tmp_path / "model", tensors, metadata)
    refused(tmp_path / "model", (tmp_path / "model").read_bytes(), message)


def test_loading_runs_no_code(blob, tmp_path):
    """Neither pickle nor any framework is imported by `qkernels.load`."""
    (tmp_path / "model").write_bytes(blob)
    code = (
        "import json, sys, qkernels as qk; before = set(sys.modules); "
        f"qk.load({str(tmp_path / 'model')!r}); "
        "print(json.dumps([m.split('.')[0] for m in set(sys.modules) - before]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"pickle", "torch", "onnx", "safetensors"} & set(json.loads(result.stdout))
