# SPDX-License-Identifier: Apache-2.0
"""Why int8 is no faster here than it is: a saved model, layer by layer, beside float32.

The float32 side is made of the model's own weights and runs in NumPy (convolutions by im2col and
BLAS). Beside each layer's int8 time stands the one that it cannot go below: the longest of its dots
at the tier's peak, its bytes from where they sit, and a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qkernels import checks, machine
from qkernels.conv import PackedConv2d
from qkernels.display.table import Column, plain_table, three_digits
from qkernels.graph import Model, load
from qkernels.graph.prepare import Step, prepare
from qkernels.graph.spec import QuantizedLayer
from qkernels.linear import PackedLinear
from qkernels.quantization.functional import dequantize

from . import limits, roofline
from .explain import QUICK_SECONDS, SECONDS, compared, in_turns
from .peers.numpy_ import limit_blas

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerTime:
    """One layer. Times are seconds for the batch.

    Attributes:
        macs: multiply-adds; 0 in a layer without weights.
        limit: the time that it cannot go below here, and `bound` what sets it: "compute", a level
            of memory or "overhead".
    """

    name: str
    op: str
    macs: float
    float32: float
    int8: float
    limit: float
    bound: str


@dataclass(frozen=True)
class ModelExplanation:
    """What `explain_model` found."""

    batch: int
    threads: int
    isa: str
    layers: tuple[LayerTime, ...]
    sentences: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        whole = sum(layer.int8 for layer in self.layers)
        columns: list[Column[LayerTime]] = [
            Column(("layer", ""), lambda layer: layer.name, right=False),
            Column(("op", ""), lambda layer: layer.op, right=False),
            Column(("float32", "us"), lambda layer: three_digits(1e6 * layer.float32)),
            Column(("int8", "us"), lambda layer: three_digits(1e6 * layer.int8)),
            Column(("share", ""), lambda layer: f"{100 * layer.int8 / whole:.0f} %"),
            Column(("times", "faster"), lambda layer: three_digits(layer.float32 / layer.int8)),
            Column(("limit", "us"), lambda layer: three_digits(1e6 * layer.limit)),
            Column(("set by", ""), lambda layer: layer.bound, right=False),
        ]
        title = (
            f"model, batch {self.batch}, {self.isa}, {self.threads} "
            f"thread{'s'[: self.threads != 1]}"
        )
        return "\n".join([title, "", plain_table(columns, self.layers), "", *self.sentences])


def explain_model(
    model: Model | str | PathLike[str],
    *,
    batch: int = 1,
    threads: int | None = None,
    quick: bool = False,
) -> ModelExplanation:
    """Time each layer of a model in int8 and in float32, on random input of `batch` samples.

    threads: default those of this call. Raises OSError and QKernelsError for a file that is no
    model.
    """
    checks.integer(batch, "batch", 1)
    model = model if isinstance(model, Model) else load(model)
    threads = (
        machine.get_num_threads() if threads is None else checks.integer(threads, "threads", 1)
    )
    held = limit_blas(threads)
    try:
        with machine.num_threads(threads):
            measured = limits.measure(threads, quick=True)
            seconds = (QUICK_SECONDS if quick else SECONDS) / max(len(model.layers), 1)
            layers = tuple(_layers(model, batch, threads, seconds, measured))
    finally:
        if held is not None:
            held.restore_original_limits()
    return ModelExplanation(batch, threads, machine.isa(), layers, tuple(_sentences(layers)))


def _layers(
    model: Model, batch: int, threads: int, seconds: float, measured: Mapping[str, Any]
) -> Iterator[LayerTime]:
    rng = np.random.default_rng(0)
    values: dict[str, Array] = {}
    for declared in model.inputs:
        shape = (batch, *(size or 1 for size in declared.shape[1:]))
        lo, hi = checks.CODE_RANGES[declared.qparams.dtype]
        codes = rng.integers(lo, hi + 1, shape).astype(declared.qparams.dtype)
        values[declared.name] = dequantize(
            codes, declared.qparams.scale, declared.qparams.zero_point
        )
    outputs = dict(values)
    for step in model.trace(_in_layout(values, model)):
        real = step.output
        if step.qparams is not None:
            real = dequantize(real, step.qparams.scale, step.qparams.zero_point)
        outputs[step.name] = real
    for layer in model.layers:
        reals = [outputs[source] for source in layer.inputs]
        given = model.layer_inputs(layer.name, reals, "NHWC")
        times = in_turns(
            {
                "float32": partial(_float_twin(layer), *reals),
                "int8": partial(model.step(layer.name), *given),
            },
            seconds,
        )
        macs, size = _work(layer, given, outputs[layer.name])
        row = {"macs": macs, "bytes": size, "threads": threads, "dtype": "int8", "op": layer.op}
        limit, bound = roofline.judge(row | {"isa": machine.isa()}, measured)
        assert limit is not None
        assert bound is not None
        yield LayerTime(layer.name, layer.op, macs, times["float32"], times["int8"], limit, bound)


def _in_layout(values: Mapping[str, Array], model: Model) -> dict[str, Array]:
    """Feature maps as the model takes them."""
    if model.layout == "NHWC":
        return dict(values)
    return {
        name: np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
        for name, x in values.items()
    }


def _float_twin(layer: QuantizedLayer) -> Step:
    """The same layer in float32 on feature maps NHWC, with the weights that the integers stand
    for."""
    weight = layer.weight
    if isinstance(weight, PackedLinear | PackedConv2d):
        codes = weight.unpack()
        if isinstance(weight, PackedConv2d):
            codes = codes.transpose([weight.weight_layout.index(axis) for axis in "OIHW"])
        scale = np.asarray(weight.weight_scale, np.float32).reshape(-1, *(1,) * (codes.ndim - 1))
        weight = np.ascontiguousarray(codes.astype(np.float32) * scale)
    inputs = (None,) * len(layer.input_qparams)
    return prepare(replace(layer, weight=weight, qparams=None, input_qparams=inputs), "NHWC")


def _work(layer: QuantizedLayer, inputs: tuple[Array, ...], output: Array) -> tuple[float, float]:
    """(multiply-adds, bytes in, out and of weights) of a layer that computes on integers."""
    size = float(sum(x.nbytes for x in inputs) + output.size)
    weight = layer.weight
    if not isinstance(weight, PackedLinear | PackedConv2d):
        return 0.0, size
    count = int(np.prod(weight.shape))
    channels = output.shape[-1]
    return float(output.size) * count / channels, size + count


def _sentences(layers: tuple[LayerTime, ...]) -> Iterator[str]:
    float32, int8 = sum(x.float32 for x in layers), sum(x.int8 for x in layers)
    yield (
        f"All layers take {three_digits(1e6 * int8)} us in int8 and {three_digits(1e6 * float32)} "
        f"us in float32 by NumPy: {compared(float32, int8)}."
    )
    without = [x for x in layers if not x.macs]
    share = sum(x.int8 for x in without) / int8
    if share > 0.25:
        yield (
            f"{100 * share:.0f} % of the int8 time is in layers without weights, which int8 makes "
            "little faster."
        )
    for layer in sorted(layers, key=lambda x: -x.int8)[:3]:
        if layer.int8 < 0.1 * int8:
            continue
        reach = min(layer.limit / layer.int8, 1)
        if not layer.macs:
            reason = "it has no dots to gain from"
        elif reach < 0.5:
            reason = (
                "the rest is starting it, bringing rows into the kernel's form and the epilogue, "
                "which a larger batch shares"
            )
        else:
            reason = {
                "overhead": "the call itself counts, which a larger batch shares",
                "compute": "its dots take that long",
            }.get(layer.bound, f"its bytes come from {layer.bound}")
        yield (
            f"{layer.name} takes {100 * layer.int8 / int8:.0f} %, "
            f"{compared(layer.float32, layer.int8)}; it is at {100 * reach:.0f} % of its limit: "
            f"{reason}."
        )
