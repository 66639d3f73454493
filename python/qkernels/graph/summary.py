# SPDX-License-Identifier: Apache-2.0
"""A model as a table of text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkernels.graph.spec import QuantizedLayer, Shape
from qkernels.quantization.qparams import QParams

if TYPE_CHECKING:
    from qkernels.graph.model import Model

_HEADER = ("layer", "op", "output (NHWC)", "weight", "dtype", "scale", "zero point", "bytes")


def summarize(model: Model) -> str:
    """A row an input and a row a layer, and the bytes in int8 and in float32."""
    rows: list[tuple[str, ...]] = [_HEADER]
    for i in model.inputs:
        rows.append((i.name, "input", _shape(i.shape), "", *_quantization(i.qparams), ""))
    rows.extend(_row(layer) for layer in model.layers)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    numeric = {len(_HEADER) - 3, len(_HEADER) - 2, len(_HEADER) - 1}
    lines = [
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines.append(
        f"{model.nbytes} bytes of packed weights, scales and biases, "
        f"{model.float_nbytes} bytes of the same in float32"
    )
    return "\n".join(lines)


def _row(layer: QuantizedLayer) -> tuple[str, ...]:
    op = layer.op if layer.activation is None else f"{layer.op} + {layer.activation}"
    weight = "" if layer.weight is None else _shape(layer.weight.shape)
    return (
        layer.name,
        op,
        _shape(layer.output_shape),
        weight,
        *_quantization(layer.qparams),
        str(layer.nbytes) if layer.weight is not None else "",
    )


def _quantization(qparams: QParams | None) -> tuple[str, str, str]:
    if qparams is None:
        return "float32", "", ""
    return qparams.dtype, f"{qparams.scale:.6g}", str(qparams.zero_point)


def _shape(shape: Shape) -> str:
    return " x ".join("batch" if size is None else str(size) for size in shape)
