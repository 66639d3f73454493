# SPDX-License-Identifier: Apache-2.0
"""linear_int8 against what is installed of oneDNN (by torch), ONNX Runtime and NumPy float32.

The work: uint8 activations (zero point 128) times int8 weights, a scale a column, uint8 out. All
weights are packed before the clock starts. Answers are compared with the definition first, and a
contender that differs is timed all the same, with what it did beside its name. In each round every
contender runs once, in rotating order; a ratio is the median over rounds of its time divided by
qkernels' time in the same round, with the quartiles. docs/performance.md explains the method.

    python bench/linear.py --threads 1 --isa avx2 --shapes 1x768x768,128x768x3072 --json out.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import qkernels as qk

SHAPES = "1x768x768,1x4096x4096,8x768x3072,64x512x512,128x768x3072,256x1024x1024,1024x1024x1024"
ONEDNN_ISA = {"avx2": "AVX2", "avx512vnni": "AVX512_CORE_VNNI", "amx": "AVX512_CORE_AMX"}
ZERO_POINT = 128
X_SCALE, OUT_SCALE = np.float32(0.02), np.float32(0.4)
ROUND_SECONDS = 2e-3  # a contender runs at least this long in a round

Run = Callable[[], NDArray[Any]]


@dataclass(frozen=True)
class Problem:
    """One shape with its data and the answer of the definition."""

    m: int
    n: int
    k: int
    x: NDArray[np.uint8]
    w: NDArray[np.int8]
    w_scale: NDArray[np.float32]
    sums: NDArray[np.int64]
    expected: NDArray[np.uint8]


@dataclass(frozen=True)
class Contender:
    """Something to time: `run` does the whole work once and returns its output."""

    name: str
    run: Run
    limit: Callable[[], AbstractContextManager[Any]] = nullcontext


def make_problem(m: int, k: int, n: int) -> Problem:
    rng = np.random.default_rng(m * 1_000_003 + n * 1009 + k)
    x = rng.integers(0, 256, (m, k), dtype=np.uint8)
    w = rng.integers(-128, 128, (n, k), dtype=np.int8)
    w_scale = (rng.uniform(0.5, 1.5, n) / (40 * np.sqrt(k))).astype(np.float32)
    exact = (x.astype(np.float64) - ZERO_POINT) @ w.T.astype(np.float64)  # integers below 2^53
    sums = exact.astype(np.int64)
    codes = np.rint(sums.astype(np.float32) * ((X_SCALE * w_scale) / OUT_SCALE)) + ZERO_POINT
    return Problem(m, n, k, x, w, w_scale, sums, np.clip(codes, 0, 255).astype(np.uint8))


def verdict(problem: Problem, result: NDArray[Any]) -> str:
    """Empty when the answer is the definition's, else what is different about it."""
    if result.dtype == np.float32:
        off = np.abs(result - problem.sums).max(initial=0)
        return "" if off <= 1e-5 * problem.k * 128 * 128 else f"WRONG: sums off by up to {off:g}"
    steps = np.abs(result.astype(np.int32) - problem.expected)
    if not steps.any():
        return ""
    share = np.count_nonzero(steps) / steps.size
    kind = "rounds elsewhere" if steps.max() == 1 and share < 0.01 else "WRONG"
    return f"{kind}: {share:.1%} of the outputs, up to {steps.max()} steps"


def with_qkernels(problem: Problem, threads: int) -> Contender:
    packed = qk.pack_linear(problem.w, weight_scale=problem.w_scale)
    out = np.empty((problem.m, problem.n), np.uint8)
    call = packed.bind(
        x_scale=float(X_SCALE),
        x_zero_point=ZERO_POINT,
        out_scale=float(OUT_SCALE),
        out_zero_point=ZERO_POINT,
        out_dtype="uint8",
    )
    qk.set_num_threads(threads)
    return Contender(f"qkernels ({qk.isa()})", lambda: call(problem.x, out))


def with_onednn(problem: Problem, threads: int) -> Contender:
    torch: Any = import_module("torch")
    torch.set_num_threads(threads)
    op = torch.ops.onednn.qlinear_pointwise
    packed = torch.ops.onednn.qlinear_prepack(torch.from_numpy(problem.w), [problem.m, problem.k])
    x = torch.from_numpy(problem.x)
    w_scale = torch.from_numpy(problem.w_scale)
    w_zero_point = torch.zeros(problem.n, dtype=torch.int64)
    scales = (float(X_SCALE), ZERO_POINT), (float(OUT_SCALE), ZERO_POINT)

    def run() -> NDArray[Any]:
        output = (*scales[1], torch.uint8, "none", [], "")
        result: NDArray[Any] = op(
            x, *scales[0], packed, w_scale, w_zero_point, None, *output
        ).numpy()
        return result

    return Contender("oneDNN (torch)", run)


def with_onnxruntime(problem: Problem, threads: int) -> Contender:
    onnx: Any = import_module("onnx")
    ort: Any = import_module("onnxruntime")
    helper = onnx.helper
    constants = {
        "xs": X_SCALE,
        "xz": np.uint8(ZERO_POINT),
        "w": np.ascontiguousarray(problem.w.T),
        "ws": problem.w_scale,
        "wz": np.zeros(problem.n, np.int8),
        "ys": OUT_SCALE,
        "yz": np.uint8(ZERO_POINT),
    }
    graph = helper.make_graph(
        [helper.make_node("QLinearMatMul", ["x", *constants], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, problem.x.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, problem.expected.shape)],
        [onnx.numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    feed = {"x": problem.x}

    def run() -> NDArray[Any]:
        result: NDArray[Any] = session.run(None, feed)[0]
        return result

    return Contender("ONNX Runtime", run)


def with_numpy(problem: Problem, threads: int) -> Contender:
    threadpoolctl: Any = import_module("threadpoolctl")
    x = problem.x.astype(np.float32) - np.float32(ZERO_POINT)
    w = problem.w.T.astype(np.float32)
    out = np.empty((problem.m, problem.n), np.float32)
    blas = threadpoolctl.ThreadpoolController().select(user_api="blas")
    return Contender(
        "NumPy float32", lambda: np.matmul(x, w, out=out), lambda: blas.limit(limits=threads)
    )


def time_once(contender: Contender, calls: int) -> float:
    """Seconds a call, over `calls` calls."""
    with contender.limit():
        start = time.perf_counter()
        for _ in range(calls):
            contender.run()
        return (time.perf_counter() - start) / calls


def measure(contenders: list[Contender], seconds: float) -> NDArray[np.float64]:
    """Seconds a call, rounds x contenders."""
    calls = []
    for contender in contenders:
        once = min(time_once(contender, 1) for _ in range(3))
        calls.append(max(1, int(ROUND_SECONDS / max(once, 1e-9))))
    rounds = []
    deadline = time.perf_counter() + seconds * len(contenders)
    while len(rounds) < 5 or time.perf_counter() < deadline:
        row = [0.0] * len(contenders)
        for i in range(len(contenders)):
            at = (i + len(rounds)) % len(contenders)
            row[at] = time_once(contenders[at], calls[at])
        rounds.append(row)
    return np.asarray(rounds)


def bench_shape(shape: tuple[int, int, int], threads: int, seconds: float) -> dict[str, Any]:
    problem = make_problem(*shape)
    contenders = []
    missing = {}
    for make in (with_qkernels, with_onednn, with_onnxruntime, with_numpy):
        try:
            contenders.append(make(problem, threads))
        except (ImportError, AttributeError) as error:
            missing[make.__name__.removeprefix("with_")] = str(error)
    notes = [verdict(problem, contender.run()) for contender in contenders]
    if notes[0]:
        sys.exit(f"qkernels gives a wrong answer at {shape}: {notes[0]}")
    times = measure(contenders, seconds)
    rows = []
    for i, contender in enumerate(contenders):
        low, mid, high = np.percentile(times[:, i] / times[:, 0], [25, 50, 75])
        median = float(np.median(times[:, i]))
        rows.append(
            {
                "name": contender.name,
                "microseconds": median * 1e6,
                "gmac_per_second": np.prod(shape, dtype=float) / median / 1e9,
                "ratio": float(mid),
                "ratio_quartiles": [float(low), float(high)],
                "note": notes[i],
            }
        )
    return {"shape": list(shape), "rounds": len(times), "rows": rows, "missing": missing}


def cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def parse_shapes(text: str) -> list[tuple[int, int, int]]:
    shapes = []
    for item in text.split(","):
        m, k, n = (int(size) for size in item.split("x"))
        shapes.append((m, k, n))
    return shapes


def show(result: dict[str, Any]) -> None:
    m, k, n = result["shape"]
    print(f"\n{m} x {k} x {n}   ({result['rounds']} rounds)")
    for row in result["rows"]:
        low, high = row["ratio_quartiles"]
        print(
            f"  {row['name']:22}{row['microseconds']:12.1f} us{row['gmac_per_second']:10.1f} GMAC/s"
            f"{row['ratio']:8.2f}  [{low:.2f}, {high:.2f}]  {row['note']}".rstrip()
        )
    for name, reason in result["missing"].items():
        print(f"  {name}: not measured ({reason})")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="linear_int8 against oneDNN (torch), ONNX Runtime and NumPy float32",
        epilog="a ratio above 1 means that qkernels is faster",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of every contender")
    parser.add_argument("--isa", choices=qk.available_isas(), help="cap qkernels and oneDNN")
    parser.add_argument("--shapes", type=parse_shapes, default=SHAPES, help="MxKxN,MxKxN,...")
    parser.add_argument("--seconds", type=float, default=1.0, help="a contender and shape")
    parser.add_argument("--json", type=Path, help="write the results there as well")
    arguments = parser.parse_args()
    if arguments.isa in ONEDNN_ISA:
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", ONEDNN_ISA[arguments.isa])
    with qk.use_isa(arguments.isa) if arguments.isa else nullcontext():
        print(f"{cpu_name()}, {arguments.threads} thread(s), qkernels tier {qk.isa()}")
        results = []
        for shape in arguments.shapes:
            results.append(bench_shape(shape, arguments.threads, arguments.seconds))
            show(results[-1])
        report = {
            "cpu": cpu_name(),
            "isa": qk.isa(),
            "threads": arguments.threads,
            "qkernels": qk.__version__,
            "numpy": np.__version__,
            "results": results,
        }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
