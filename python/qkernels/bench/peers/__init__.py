# SPDX-License-Identifier: Apache-2.0
"""The libraries that `qkernels bench` knows: a module each, loaded in the worker that times it.

CTranslate2 is not among them: its Python package runs whole translation and language models and
has no operator, and no model of one layer, that could be timed beside the others.
"""

from __future__ import annotations

# The name on the command line: the module (`contender.Adapter`). qkernels itself comes first.
ADAPTERS = {
    "qkernels": "qkernels.bench.peers.qkernels_",
    "numpy": "qkernels.bench.peers.numpy_",
    "onednn": "qkernels.bench.peers.onednn",
    "openvino": "qkernels.bench.peers.openvino_",
    "onnxruntime": "qkernels.bench.peers.onnxruntime_",
    "litert": "qkernels.bench.peers.litert",
    "torch": "qkernels.bench.peers.torch_",
    "ncnn": "qkernels.bench.peers.ncnn_",
}
