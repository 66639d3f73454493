# SPDX-License-Identifier: Apache-2.0
"""A quantized model in a safetensors file: docs/file-format.md says what is where.

What a file holds is data. Everything in it is checked on the way in, by the same constructors that
check what callers pass, so that a damaged or hostile file ends in one error that names it.
"""

from __future__ import annotations

import json
import os
from types import MappingProxyType
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from qkernels import _core, checks
from qkernels.conv import PackedConv2d
from qkernels.errors import QKernelsError, QKernelsValueError, from_core
from qkernels.graph import container
from qkernels.graph.geometry import padding_pairs, pair
from qkernels.graph.ir import Activation
from qkernels.graph.layouts import check_layout
from qkernels.graph.model import Model
from qkernels.graph.prepare import FLOAT_LAYERS
from qkernels.graph.spec import ModelInput, QuantizedLayer, Rounding, Shape
from qkernels.linear import PackedLinear
from qkernels.quantization.qparams import QParams

FORMAT = "qkernels-model"
VERSION = "1"

T = TypeVar("T")
Tensors = dict[str, NDArray[Any]]


def save(model: Model, path: str | os.PathLike[str]) -> None:
    """Write `model` to `path`, which appears complete or not at all."""
    container.write(path, *_described(model))


def dumps(model: Model) -> bytes:
    """The bytes that `save` writes."""
    return b"".join(container.encode(*_described(model)))


def loads(data: bytes) -> Model:
    """The model in the bytes of a file; for pickle."""
    return _checked(container.parse(memoryview(data)))


def _described(model: Model) -> tuple[Tensors, dict[str, str]]:
    """The tensors and metadata of a file."""
    packed: Tensors = {}
    others: Tensors = {}
    layers = []
    for layer in model.layers:
        record = _layer_record(layer)
        if isinstance(layer.weight, np.ndarray):
            others[f"{layer.name}.weight"] = layer.weight
        elif layer.weight is not None:
            blob = np.frombuffer(layer.weight._packed.buffer(), np.uint8)
            record["packed_bytes"] = blob.size
            # Whole multiples of 64 bytes, so that the next tensor is aligned as well.
            packed[f"{layer.name}.weight"] = np.pad(blob, (0, -blob.size % container.ALIGNMENT))
            others[f"{layer.name}.weight_scale"] = np.asarray(layer.weight.weight_scale)
        if layer.bias is not None:
            others[f"{layer.name}.bias"] = layer.bias
        layers.append(record)
    description = {
        "layout": model.layout,
        "inputs": [
            {
                "name": i.name,
                "qparams": _qparams_record(i.qparams),
                "quantized": i.quantized,
                "shape": i.shape,
            }
            for i in model.inputs
        ],
        "outputs": dict(model.output_values),
        "float_nbytes": model.float_nbytes,
        "layers": layers,
    }
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "model": json.dumps(description, allow_nan=False, separators=(",", ":")),
    }
    return {**packed, **others}, metadata


def load(path: str | os.PathLike[str]) -> Model:
    """The model that `Model.save` wrote to `path`.

    The file is mapped, and packed weights are used where they lie; on a CPU of another family they
    are packed again. Do not change the file in place while the model is in use (replacing it, as
    `save` does, is fine).

    Raises OSError when the file cannot be read, and QKernelsError (a ValueError) naming the file
    when it is damaged, of another kind, or of a later version.
    """
    content = container.read(path)
    try:
        return _checked(content)
    except QKernelsError as error:
        raise QKernelsValueError(f"{os.fspath(path)}: {error}") from None


def _checked(content: container.Container) -> Model:
    tensors, metadata = content
    if metadata.get("format") != FORMAT:
        raise QKernelsValueError("the file is no qkernels model, or its header is damaged")
    if metadata.get("version") != VERSION:
        raise QKernelsValueError(
            f"the file has version {checks.shown(metadata.get('version'))} of the format, this "
            f"library reads {VERSION}"
        )
    if container.CHECKSUM not in metadata:
        raise QKernelsValueError("the file has no checksum: its header is damaged")
    return _model(container.parse_json(metadata.get("model", "")), tensors)


def _model(description: Any, tensors: Tensors) -> Model:
    inputs = [
        ModelInput(
            _get(record, "name", str),
            cast(QParams, _qparams(_get(record, "qparams", dict))),
            _get(record, "quantized", bool),
            _shape(_get(record, "shape", list)),
        )
        for record in _get(description, "inputs", list)
    ]
    outputs = _get(description, "outputs", dict)
    if not all(isinstance(source, str) for source in outputs.values()):
        raise QKernelsValueError("outputs must map names to names of layers")
    layers = []
    for record in _get(description, "layers", list):
        name = _get(record, "name", str)
        try:
            layers.append(_layer(name, record, tensors))
        except QKernelsError as error:
            raise QKernelsValueError(f"layer {checks.shown(name)}: {error}") from None
    if tensors:
        raise QKernelsValueError(f"no layer has the tensors {checks.shown(sorted(tensors))}")
    float_nbytes = checks.integer(_get(description, "float_nbytes", int), "float_nbytes", 0, 2**62)
    layout = check_layout(_get(description, "layout", str))
    return Model(layers, inputs, outputs, layout, float_nbytes)


def _layer_record(layer: QuantizedLayer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "inputs": layer.inputs,
        "input_qparams": [_qparams_record(qparams) for qparams in layer.input_qparams],
        "qparams": _qparams_record(layer.qparams),
        "output_shape": layer.output_shape,
        "activation": layer.activation,
        "rounding": layer.rounding,
        "attributes": dict(layer.attributes),
    }


def _layer(name: str, record: Any, tensors: Tensors) -> QuantizedLayer:
    op = checks.choice(_get(record, "op", str), tuple(FLOAT_LAYERS), "op")
    inputs = _get(record, "inputs", list)
    if len(inputs) != FLOAT_LAYERS[op].arity or not all(isinstance(i, str) for i in inputs):
        raise QKernelsValueError(f"{op} takes {FLOAT_LAYERS[op].arity} inputs by name")
    input_qparams = tuple(_qparams(item) for item in _get(record, "input_qparams", list))
    qparams = _qparams(_get(record, "qparams", object))
    activation = _get(record, "activation", object)
    if activation is not None:
        checks.choice(activation, ("relu", "relu6"), "activation")
        if op not in ("conv2d", "linear", "add"):
            raise QKernelsValueError(f"{op} has no activation")
    rounding = _get(record, "rounding", str)
    attributes = _attributes(op, _get(record, "attributes", dict))
    bias = tensors.pop(f"{name}.bias", None)
    weight: Any = None
    if op in ("conv2d", "linear"):
        weight = _tensor(tensors, f"{name}.weight")
        if qparams is not None:
            scale = _tensor(tensors, f"{name}.weight_scale")
            size = _get(record, "packed_bytes", int)
            weight = _packed(op, weight, size, scale, bias, attributes)
    elif bias is not None:
        raise QKernelsValueError(f"{op} has no bias")
    return QuantizedLayer(
        name=name,
        op=op,
        inputs=tuple(inputs),
        input_qparams=input_qparams,
        qparams=qparams,
        output_shape=_shape(_get(record, "output_shape", list)),
        activation=cast(Activation | None, activation),
        rounding=cast(Rounding, checks.choice(rounding, checks.ROUNDINGS, "rounding")),
        attributes=MappingProxyType(attributes),
        weight=weight,
        bias=bias,
    )


def _packed(
    op: str,
    data: NDArray[Any],
    size: int,
    scale: NDArray[Any],
    bias: NDArray[Any] | None,
    attributes: dict[str, Any],
) -> PackedLinear | PackedConv2d:
    """Packed weights over the bytes in the file; packed again where this CPU has another layout."""
    if data.dtype != np.uint8 or data.ndim != 1:
        raise QKernelsValueError(f"packed weights must be U8 in one axis, not {checks.shown(data)}")
    checks.integer(size, "packed_bytes", 0, data.size)
    try:
        packed = _core.Packed.from_buffer(data[:size])
    except _core.CoreError as error:
        raise from_core(error, "packed weights") from None
    meta = {"weight_scale": scale, "weight_zero_point": 0, "bias": bias}
    if op == "linear":
        return PackedLinear._rebuild(packed, meta)
    return PackedConv2d._rebuild(packed, {**meta, **attributes, "weight_layout": "OIHW"})


def _attributes(op: str, record: dict[str, Any]) -> dict[str, Any]:
    """The geometry of a layer, checked."""
    expected = {
        "conv2d": {"stride", "padding", "dilation", "groups"},
        "max_pool2d": {"kernel", "stride", "padding"},
        "avg_pool2d": {"kernel", "stride", "padding"},
    }.get(op, set())
    if set(record) - {"flatten"} != expected or ("flatten" in record and op != "linear"):
        raise QKernelsValueError(f"{op} must have the attributes {sorted(expected)}")
    result: dict[str, Any] = {}
    for key, value in record.items():
        if key == "padding":
            result[key] = padding_pairs(value)
        elif key == "groups":
            result[key] = checks.integer(value, key, 1)
        elif key == "flatten":
            result[key] = value is True
        else:
            result[key] = pair(key, value)
    return result


def _tensor(tensors: Tensors, name: str) -> NDArray[Any]:
    if name not in tensors:
        raise QKernelsValueError(f"tensor {checks.shown(name)} is missing")
    return tensors.pop(name)


def _get(record: Any, key: str, kind: type[T]) -> T:
    """record[key], which must be of one kind."""
    if not isinstance(record, dict) or key not in record:
        raise QKernelsValueError(f"the description of the model lacks {key!r}")
    value = record[key]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise QKernelsValueError(
            f"{key} must be of type {kind.__name__}, not {checks.shown(value)}"
        )
    return value


def _shape(values: list[Any]) -> Shape:
    return tuple(None if v is None else checks.integer(v, "shape", 0, 2**62) for v in values)


def _qparams_record(qparams: QParams | None) -> dict[str, Any] | None:
    if qparams is None:
        return None
    # Every float32 is a float64, whose shortest decimal form reads back as the same number.
    scale = float(qparams.scale)
    return {"scale": scale, "zero_point": int(qparams.zero_point), "dtype": qparams.dtype}


def _qparams(record: Any) -> QParams | None:
    if record is None:
        return None
    scale = _get(record, "scale", float)
    dtype = checks.choice(_get(record, "dtype", str), ("int8", "uint8"), "dtype")
    return QParams(scale, _get(record, "zero_point", int), dtype=dtype)
