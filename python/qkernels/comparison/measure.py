# SPDX-License-Identifier: Apache-2.0
"""Runs a quantized model and its float reference side by side."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qkernels import _core, checks, machine
from qkernels.errors import QKernelsTypeError, QKernelsValueError
from qkernels.graph.inputs import as_float32, by_name
from qkernels.graph.ir import FusedLayer, fuse
from qkernels.graph.model import Model
from qkernels.graph.spec import QuantizedLayer
from qkernels.nn import Graph
from qkernels.progress import Progress
from qkernels.quantization.functional import dequantize

from .metrics import CodeHistogram, ErrorSums
from .results import Accuracy, Comparison, LayerComparison, Sample

Array = NDArray[Any]
Batch = dict[str, NDArray[np.float32]]

_SAMPLES = 8


def compare(
    model: Model,
    reference: Graph,
    data: ArrayLike | Mapping[str, ArrayLike],
    *,
    labels: ArrayLike | None = None,
    batch_size: int = 64,
    rounds: int = 7,
    title: str = "Model",
    progress: bool = False,
) -> Comparison:
    """Compare a quantized model with the float graph that it was made from, layer by layer.

    Each layer is measured twice: isolated (fed with the reference's float inputs, quantized) and
    accumulated (as the model runs). Times are medians over rounds in which float and int8 take
    turns, on the first batch; the float side is NumPy, in float32.

    Args:
        model: from `qkernels.quantize_model`, or loaded.
        reference: the `qkernels.nn` graph that `model` was made from.
        data: float input, (samples, ...) in the graph's layout; a dict by name for several inputs.
        labels: classes (samples,), for accuracy; the output must be (samples, classes) then.
        batch_size: samples run at a time. rounds: of timing, at least 1.
        title: of the report. progress: show a progress bar on stderr.

    Raises QKernelsError when model and reference have different layers, or data or labels do not
    fit them.
    """
    if not isinstance(model, Model):
        raise QKernelsTypeError(f"model must be a qkernels Model, not {type(model).__name__}")
    if not isinstance(reference, Graph):
        raise QKernelsTypeError(
            f"reference must be a qkernels.nn graph, not {type(reference).__name__}"
        )
    fused = _matched(model, reference)
    batch_size = checks.integer(batch_size, "batch_size", 1)
    rounds = checks.integer(rounds, "rounds", 1)
    named = {
        name: as_float32(value, name) for name, value in by_name(reference.inputs, data).items()
    }
    count = _sample_count(named)
    starts = range(0, count, batch_size)
    comparers = [_LayerComparer(model, layer) for layer in model.layers]
    outputs: list[tuple[Array, Array]] = []
    with Progress("comparing", len(starts) + rounds, shown=progress) as bar:
        for start in starts:
            batch = {name: x[start : start + batch_size] for name, x in named.items()}
            outputs.append(_compare_batch(model, reference, batch, fused, comparers))
            bar.advance()
        first = {name: x[:batch_size] for name, x in named.items()}
        times = _time(model, reference, first, fused, rounds, bar)
    predictions = _Predictions(
        np.concatenate([float_output for float_output, _ in outputs]),
        np.concatenate([int8_output for _, int8_output in outputs]),
        labels,
    )
    images = next(iter(named.values())) if len(named) == 1 else None
    if images is not None and images.ndim == 4 and reference.layout == "NHWC":
        images = images.transpose(0, 3, 1, 2)
    return Comparison(
        layers=tuple(c.result(*times[c.layer.name]) for c in comparers),
        accuracy=predictions.accuracy(),
        agreement=predictions.agreement(),
        confusion=predictions.confusion(),
        samples=predictions.samples(images),
        count=count,
        batch_size=min(batch_size, count),
        rounds=rounds,
        float_ms=times[""][0],
        int8_ms=times[""][1],
        float_bytes=model.float_nbytes,
        int8_bytes=model.nbytes,
        isa=machine.isa(),
        threads=machine.get_num_threads(),
        version=_core.__version__,
        title=title,
    )


def _matched(model: Model, reference: Graph) -> dict[str, FusedLayer]:
    """The reference's fused layers by name; an error where the model's are others."""
    fused = {layer.name: layer for layer in fuse(reference)}
    have = [(layer.name, layer.op) for layer in model.layers]
    want = [(layer.name, layer.op) for layer in fused.values()]
    if have != want or model.layout != reference.layout:
        raise QKernelsValueError(
            f"reference must be the graph that model was made from: it has the layers {want} in "
            f"{reference.layout}, the model {have} in {model.layout}"
        )
    return fused


def _sample_count(named: Batch) -> int:
    counts = {name: x.shape[0] if x.ndim else 0 for name, x in named.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        raise QKernelsValueError(
            f"data must have at least one sample, and all inputs as many: {counts}"
        )
    return next(iter(counts.values()))


class _LayerComparer:
    """What is known about one layer so far."""

    def __init__(self, model: Model, layer: QuantizedLayer) -> None:
        self.layer = layer
        self._model = model
        self._isolated, self._accumulated = ErrorSums(), ErrorSums()
        self._shape: tuple[int, ...] = ()
        self._codes: CodeHistogram | None = None
        if layer.qparams is not None:
            lo, hi = checks.CODE_RANGES[layer.qparams.dtype]
            self._codes = CodeHistogram(
                float(layer.qparams.scale), int(layer.qparams.zero_point), lo, hi
            )

    def add(self, inputs: list[Array], reference: Array, output: Array) -> Array:
        """One batch: the layer's float inputs, its float output, and the model's own output, all
        in the layout of the model. Returns the last one dequantized."""
        isolated = self._model.run_layer(self.layer.name, inputs)
        self._shape = reference.shape[1:]
        self._isolated.add(reference, self._real(isolated))
        real = self._real(output)
        self._accumulated.add(reference, real)
        if self._codes is not None:
            self._codes.add(reference, output)
        return real

    def _real(self, output: Array) -> Array:
        qparams = self.layer.qparams
        if qparams is None:
            return output
        real: Array = dequantize(output, qparams.scale, qparams.zero_point)
        return real

    def result(self, float_ms: float, int8_ms: float) -> LayerComparison:
        qparams = self.layer.qparams
        return LayerComparison(
            name=self.layer.name,
            op=self.layer.op,
            activation=self.layer.activation,
            shape=self._shape,
            dtype="float32" if qparams is None else qparams.dtype,
            scale=None if qparams is None else float(qparams.scale),
            zero_point=None if qparams is None else int(qparams.zero_point),
            isolated=self._isolated.stats(),
            accumulated=self._accumulated.stats(),
            saturated=0.0 if self._codes is None else self._codes.saturated,
            float_ms=float_ms,
            int8_ms=int8_ms,
            histogram=None if self._codes is None else self._codes.histogram(),
        )


def _compare_batch(
    model: Model,
    reference: Graph,
    batch: Batch,
    fused: Mapping[str, FusedLayer],
    comparers: list[_LayerComparer],
) -> tuple[Array, Array]:
    """Adds one batch to every layer; returns the first output, float and as the model gives it."""
    values: dict[str, Array] = dict(batch)
    real: dict[str, Array] = dict(batch)
    trace = model.trace(batch, layout=model.layout)
    for comparer, expected, got in zip(comparers, reference.float_trace(batch), trace, strict=True):
        inputs = [values[source] for source in fused[expected.name].inputs]
        values[expected.name] = expected.output
        real[got.name] = comparer.add(inputs, expected.output, got.output)
    source = model.output_values[model.outputs[0]]
    return values[source], real[source]


def _time(
    model: Model,
    reference: Graph,
    batch: Batch,
    fused: Mapping[str, FusedLayer],
    rounds: int,
    bar: Progress,
) -> dict[str, tuple[float, float]]:
    """Median milliseconds (float, int8) of each layer by name, and of the whole as ""."""
    values: dict[str, Array] = dict(batch)
    for expected in reference.float_trace(batch):
        values[expected.name] = expected.output
    jobs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {}
    for layer in fused.values():
        floats = [values[source] for source in layer.inputs]
        codes = model.layer_inputs(layer.name, floats)
        jobs[layer.name] = (
            partial(layer.forward, *floats, layout=reference.layout),
            partial(model.step(layer.name), *codes),
        )
    jobs[""] = (partial(reference.run, batch), partial(model.run, batch))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for turn in range(rounds + 1):
        for name, pair in jobs.items():
            milliseconds = []
            for job in pair:
                start = time.perf_counter()
                job()
                milliseconds.append(1000 * (time.perf_counter() - start))
            if turn:  # the first round warms up
                taken[name].append((milliseconds[0], milliseconds[1]))
        if turn:
            bar.advance()
    medians = {name: np.median(values, axis=0) for name, values in taken.items()}
    return {name: (float(pair[0]), float(pair[1])) for name, pair in medians.items()}


class _Predictions:
    """What the outputs of both sides say, where they are scores of classes."""

    def __init__(self, reference: Array, int8: Array, labels: ArrayLike | None) -> None:
        self._scores = reference.ndim == 2 and reference.shape[1] > 1
        self._reference, self._int8 = reference, int8
        self._labels: NDArray[np.int64] | None = None
        if labels is not None:
            self._labels = self._checked(np.asarray(labels))

    def _checked(self, labels: Array) -> NDArray[np.int64]:
        shape = self._reference.shape
        if not self._scores:
            raise QKernelsValueError(
                f"labels need a model whose output is (samples, classes), not {shape}"
            )
        if labels.dtype.kind not in "iu":
            raise QKernelsTypeError(f"labels must be integers, not {labels.dtype}")
        if labels.shape != shape[:1]:
            raise QKernelsValueError(f"labels must have shape {shape[:1]}, not {labels.shape}")
        if labels.min() < 0 or labels.max() >= shape[1]:
            raise QKernelsValueError(
                f"labels must be in [0, {shape[1]}), not in [{labels.min()}, {labels.max()}]"
            )
        return labels.astype(np.int64)

    def accuracy(self) -> Accuracy | None:
        if self._labels is None:
            return None
        right = [float((s.argmax(1) == self._labels).mean()) for s in (self._reference, self._int8)]
        return Accuracy(right[0], right[1], len(self._labels))

    def agreement(self) -> float | None:
        if not self._scores:
            return None
        return float((self._reference.argmax(1) == self._int8.argmax(1)).mean())

    def confusion(self) -> NDArray[np.int64] | None:
        if self._labels is None:
            return None
        matrix = np.zeros((self._int8.shape[1],) * 2, np.int64)
        np.add.at(matrix, (self._labels, self._int8.argmax(1)), 1)
        return matrix

    def samples(self, images: Array | None) -> tuple[Sample, ...]:
        """Other predictions first, then by the largest change of a probability."""
        if not self._scores:
            return ()
        change = np.abs(_softmax(self._reference) - _softmax(self._int8)).max(1)
        change += self._reference.argmax(1) != self._int8.argmax(1)
        return tuple(
            Sample(
                index=int(i),
                label=None if self._labels is None else int(self._labels[i]),
                reference=tuple(self._reference[i].tolist()),
                int8=tuple(self._int8[i].tolist()),
                image=None if images is None or images.ndim != 4 else images[i].copy(),
            )
            for i in np.argsort(-change, kind="stable")[:_SAMPLES]
        )


def _softmax(scores: Array) -> NDArray[np.float64]:
    raised = np.exp(scores.astype(np.float64) - scores.max(1, keepdims=True))
    result: NDArray[np.float64] = raised / raised.sum(1, keepdims=True)
    return result
