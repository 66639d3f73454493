# SPDX-License-Identifier: Apache-2.0
"""From a `qkernels.nn` graph to the layers that a quantized model has.

`fuse` folds batch normalization into the convolution before it, joins ReLU and ReLU6 to the
convolution, linear layer or addition whose only reader they are, and `Flatten` to the linear layers
that read it, so that no layer of its own remains of them. A front end for another kind of model has
to build a `qkernels.nn.Graph`; everything after that is here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from qkernels import nn
from qkernels.errors import QKernelsValueError
from qkernels.graph.layouts import Layout

Activation = Literal["relu", "relu6"]


@dataclass(frozen=True)
class FusedLayer:
    """One layer of the quantized model, in float.

    Attributes:
        name: of the first layer fused into it that has weights, or of the layer itself.
        layer: with batch normalization folded in; `activation` follows it.
        inputs: names of graph inputs and fused layers.
        sources: names of the graph's nodes that it replaces, in order.
        flatten: a Linear whose input is flattened first.
    """

    name: str
    layer: nn.Layer
    inputs: tuple[str, ...]
    sources: tuple[str, ...]
    activation: Activation | None = None
    flatten: bool = False

    @property
    def op(self) -> str:
        return self.layer.op

    def forward(self, *inputs: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
        """The float output, feature maps in `layout`, which must be the graph's."""
        if self.flatten:
            inputs = (nn.Flatten().forward(*inputs, layout=layout),)
        y = self.layer.forward(*inputs, layout=layout)
        return (
            y if self.activation is None else ACTIVATIONS[self.activation].forward(y, layout=layout)
        )


ACTIVATIONS: dict[Activation, nn.Layer] = {"relu": nn.ReLU(), "relu6": nn.ReLU6()}


def fuse(graph: nn.Graph) -> list[FusedLayer]:
    """The fused layers of `graph` in order of execution."""
    readers: dict[str, list[nn.Node]] = {}
    for node in graph.nodes:
        for source in node.inputs:
            readers.setdefault(source, []).append(node)

    def only_reader(name: str) -> nn.Node | None:
        following = readers.get(name, [])
        return following[0] if len(following) == 1 and name not in graph.outputs else None

    flattened = {  # Flatten nodes that vanish into linear layers: their input
        node.name: node.inputs[0]
        for node in graph.nodes
        if isinstance(node.layer, nn.Flatten)
        and node.name not in graph.outputs
        and readers.get(node.name)
        and all(isinstance(reader.layer, nn.Linear) for reader in readers[node.name])
    }
    layers: list[FusedLayer] = []
    fused_into: dict[str, str] = {name: name for name in graph.inputs}  # node -> fused layer
    for node in graph.nodes:
        if node.name in fused_into or node.name in flattened:
            continue
        flatten = node.inputs[0] in flattened
        reads = tuple(fused_into[flattened.get(source, source)] for source in node.inputs)
        before = (node.inputs[0],) if flatten else ()
        fused = FusedLayer(node.name, node.layer, reads, (*before, node.name), flatten=flatten)
        if isinstance(node.layer, nn.BatchNorm2d):
            fused = replace(fused, layer=_as_depthwise(node.layer))
        while (following := only_reader(fused.sources[-1])) is not None:
            joined = _join(fused, following)
            if joined is None:
                break
            fused = joined
        layers.append(fused)
        fused_into.update(dict.fromkeys(fused.sources[len(before) :], fused.name))
    return layers


def _join(fused: FusedLayer, following: nn.Node) -> FusedLayer | None:
    """`fused` with the node after it included, or None where that cannot be."""
    if fused.activation is not None:
        return None
    sources = (*fused.sources, following.name)
    if isinstance(following.layer, nn.BatchNorm2d) and isinstance(fused.layer, nn.Conv2d):
        return replace(fused, layer=_fold(fused.layer, following.layer), sources=sources)
    if isinstance(fused.layer, nn.Conv2d | nn.Linear | nn.Add):
        for activation, layer in ACTIVATIONS.items():
            if type(following.layer) is type(layer):
                return replace(fused, activation=activation, sources=sources)
    return None


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution that computes norm(conv(x)); the products are taken in float64."""
    scale = norm.scale.astype(np.float64)
    if scale.shape[0] != conv.weight.shape[0]:
        raise QKernelsValueError(
            f"batch_norm2d must have the {conv.weight.shape[0]} channels of the convolution before "
            f"it, not {scale.shape[0]}"
        )
    bias = 0.0 if conv.bias is None else conv.bias.astype(np.float64)
    return nn.Conv2d(
        conv.weight * scale[:, None, None, None],
        bias * scale + norm.shift,
        conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
    )


def _as_depthwise(norm: nn.BatchNorm2d) -> nn.Conv2d:
    return nn.Conv2d(norm.scale[:, None, None, None], norm.shift, groups=norm.scale.shape[0])
