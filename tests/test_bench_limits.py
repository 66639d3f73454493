# SPDX-License-Identifier: Apache-2.0
"""The machine's limits, what they say about a row, what a run was done under, and explanations."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

import bench_document
import qkernels as qk
from qkernels import _core, hardware
from qkernels.bench import conditions, limits, results, roofline
from qkernels.bench.explain import compared, explain_linear, in_turns, interpret
from qkernels.bench.explain_model import explain_model
from qkernels.data import digits

KIB, MIB = 1024, 1024**2
LIMITS = {
    "dots": {"scalar": 10.0, "avx2": 100.0},
    "float32": 50.0,
    "read": {"L1": 200.0, "L2": 100.0, "DRAM": 10.0},
    "overhead": 1e-6,
}


def tree(root, files):
    """A system's files under `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


CACHE = "sys/devices/system/cpu/cpu0/cache/index"
FOUR_CORES = {
    f"{CACHE}{index}/{name}": value
    for index, facts in enumerate(
        [
            ("1", "Data", "32K", "0"),
            ("1", "Instruction", "64K", "0"),
            ("2", "Unified", "1M", "0-1"),
            ("3", "Unified", "32768K", "0-3,8-11"),
        ]
    )
    for name, value in zip(("level", "type", "size", "shared_cpu_list"), facts, strict=True)
}


# Probes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["dots", "float32", "chain"])
@pytest.mark.parametrize("isa", qk.available_isas())
def test_probes_take_their_time_and_count(what, isa):
    with qk.use_isa(isa), qk.num_threads(1):
        start = time.perf_counter()
        assert _core.probe(what, 0.02) > 1e6
        assert time.perf_counter() - start >= 0.02


def test_read_probe_wants_whole_blocks():
    assert _core.probe("read", 0.001, 4 * KIB) > 1e6
    for size in (0, 1000):
        with pytest.raises(_core.CoreError, match="multiple of 1024"):
            _core.probe("read", 0.001, size)
    with pytest.raises(ValueError, match="what"):
        _core.probe("write", 0.001)


# Hardware ----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="the files of Linux")
def test_caches_as_linux_lists_them(tmp_path, monkeypatch):
    root = tree(tmp_path, FOUR_CORES)
    assert [c["cpus"] for c in hardware.caches(root)] == [1, 1, 2, 8]
    assert {name: c["bytes"] for name, c in hardware.data_caches(root).items()} == {
        "L1": 32 * KIB,
        "L2": MIB,
        "L3": 32 * MIB,
    }
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert hardware.capacity(1, root) == {"L1": 32 * KIB, "L2": MIB, "L3": 32 * MIB}
    assert hardware.capacity(6, root) == {"L1": 6 * 32 * KIB, "L2": 4 * MIB, "L3": 32 * MIB}


def test_a_silent_system_has_cautious_caches(tmp_path):
    assert hardware.capacity(1, tmp_path) == {"L1": 32 * KIB, "L2": 512 * KIB}
    assert hardware.free_memory(tmp_path) is None


def test_free_memory_honours_the_control_group(tmp_path):
    root = tree(tmp_path, {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 4096 kB"})
    assert hardware.free_memory(root) == 4 * MIB
    tree(root, {"sys/fs/cgroup/memory.max": 3 * MIB, "sys/fs/cgroup/memory.current": MIB})
    assert hardware.free_memory(root) == 2 * MIB
    tree(root, {"sys/fs/cgroup/memory.max": "max"})
    assert hardware.free_memory(root) == 4 * MIB


# Limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_limits_are_those_of_the_document(threads):
    before = qk.isa()
    start = time.perf_counter()
    found = limits.measure(threads, quick=True)
    assert time.perf_counter() - start < 2
    assert list(found["dots"]) == qk.available_isas()
    assert [*found["read"]] == [*hardware.capacity(threads), "DRAM"]
    assert 1e-8 < found["overhead"] < 1e-3
    assert qk.isa() == before
    document = bench_document.document()
    document["limits"] = {str(threads): found}
    results.check(document)


def test_working_sets_sit_in_their_level(monkeypatch):
    for threads in (1, 2, 8):
        monkeypatch.setattr(
            limits,
            "capacity",
            lambda n: {"L1": n * 32 * KIB, "L2": n * MIB, "L3": 32 * MIB},
        )
        sets = limits.working_sets(threads)
        assert sets["L1"] == 16 * KIB
        assert 2 * 32 * KIB <= sets["L2"] <= MIB // 2
        assert sets["L3"] >= 2 * MIB
        assert threads * sets["L3"] <= 32 * MIB
        assert all(size % 1024 == 0 for size in sets.values())
    monkeypatch.setattr(limits, "free_memory", lambda: 100 * MIB)
    assert 4 * limits.working_sets(4)["DRAM"] == 25 * MIB
    monkeypatch.setattr(limits, "free_memory", lambda: 10**12)
    assert limits.working_sets(1)["DRAM"] == 128 * MIB


def test_threads_must_be_a_count():
    with pytest.raises(qk.QKernelsError, match="threads"):
        limits.measure(0)


# Roofline ----------------------------------------------------------------------------------------


@pytest.fixture
def two_levels(monkeypatch):
    monkeypatch.setattr(roofline, "capacity", lambda n: {"L1": n * 1000, "L2": n * 100_000})


def row(**changes):
    plain = {"op": "linear", "params": {"m": 1, "k": 1, "n": 1}, "threads": 1, "isa": "avx2"}
    return {**plain, "dtype": "int8", "macs": 0.0, "bytes": 1.0, **changes}


@pytest.mark.usefixtures("two_levels")
@pytest.mark.parametrize(
    ("changes", "seconds", "bound"),
    [
        ({"macs": 1e9, "bytes": 500.0}, 1e-2, "compute"),
        ({"macs": 1e9, "bytes": 500.0, "isa": "scalar"}, 1e-1, "compute"),
        ({"macs": 1e9, "bytes": 500.0, "isa": None}, 1e-2, "compute"),
        ({"macs": 1e3, "bytes": 500.0}, 1e-6, "overhead"),
        ({"bytes": 1e9 + 1e5}, 1e-1, "DRAM"),
        ({"bytes": 1e9 + 1e5, "isa": None, "dtype": "float32"}, 1e-1, "DRAM"),
        ({"macs": 1e9, "dtype": "bfloat16"}, None, None),
        (
            {"macs": 1e9, "dtype": "float32", "params": {"m": 1, "k": 2, "n": 3}, "isa": None},
            2e-2,
            "compute",
        ),
    ],
)
def test_judge(changes, seconds, bound):
    limit, found = roofline.judge(row(**changes), LIMITS)
    assert found == bound
    assert limit == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.usefixtures("two_levels")
def test_a_level_delivers_what_those_before_cannot_hold():
    """L1 holds 1,000 bytes a thread and gives 200 GB/s, L2 100,000 and 100, DRAM gives 10."""
    quick = {**LIMITS, "overhead": 1e-12}
    for size, threads, seconds, level in (
        (1000, 1, 5e-9, "L1"),
        (1900, 1, 9.5e-9, "L1"),  # L2 delivers 900 bytes in 9 ns
        (2500, 1, 15e-9, "L2"),
        (2500, 2, 12.5e-9, "L1"),
        (100_000, 1, 990e-9, "L2"),
        (105_000, 1, 1040e-9, "L2"),  # DRAM delivers 5,000 bytes in 500 ns
        (200_000, 1, 10e-6, "DRAM"),
    ):
        limit, bound = roofline.judge(row(bytes=float(size), threads=threads), quick)
        assert (bound, limit) == (level, pytest.approx(seconds)), size


def test_float32_moves_four_bytes_a_number():
    shape = {"m": 2, "k": 3, "n": 5}
    for op in ("linear", "linear_s32", "dynamic"):
        found = row(op=op, params=shape, macs=30.0, bytes=31.0, dtype="float32")
        assert roofline.moved_bytes(found) == 4 * (6 + 15 + 10)
        assert roofline.moved_bytes({**found, "dtype": "int8"}) == 31
    assert roofline.moved_bytes(row(op="conv", macs=9.0, bytes=8.0, dtype="float32")) == 32
    assert roofline.moved_bytes(row(op="quantize", bytes=8.0, dtype="float32")) == 8


# Conditions --------------------------------------------------------------------------------------

STAT = "cpu  100 0 100 800 0 0 0 {stolen} 0 0\ncpu0 1 2 3"
FREQUENCY = "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq"
FIRMWARE = "sys/devices/platform/soc/soc:firmware/get_throttled"
QUIET = {
    FREQUENCY: 2400000,
    "sys/class/thermal/thermal_zone0/temp": 45000,
    FIRMWARE: "50000",  # under-voltage and throttling since the boot, none of it now
    "sys/fs/cgroup/cpu.stat": "nr_periods 10\nnr_throttled 3",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 2,
    "proc/stat": STAT.format(stolen=5),
}


@pytest.fixture
def steady(monkeypatch):
    """A machine whose loop always takes the same time, and that nobody used before."""
    monkeypatch.setattr(_core, "probe", lambda what, seconds: 1e9)
    monkeypatch.setattr(conditions, "load_average", lambda: 0.0)


def watch(root, changes):
    with conditions.Monitor(root) as monitor:
        tree(root, changes)
        monitor.sample()
        tree(root, {FREQUENCY: 2400000} if FREQUENCY in changes else {})
    return monitor.report()


@pytest.mark.usefixtures("steady")
def test_a_quiet_run_has_nothing_to_warn_of(tmp_path):
    report = watch(tree(tmp_path, QUIET), {})
    assert report["warnings"] == []
    assert report["throttled"] is False
    assert report["clock_mhz"] == {"start": 2400.0, "end": 2400.0, "min": 2400.0}
    assert report["temperature_c"] == {"start": 45.0, "end": 45.0, "max": 45.0}
    assert report["speed"] == {"start": 1.0, "end": 1.0, "min": 1.0}


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize(
    ("changes", "throttled", "words"),
    [
        ({FREQUENCY: 1500000}, False, "from 2400 down to 1500 MHz"),
        ({"sys/class/thermal/thermal_zone0/temp": 95000}, False, "reached 95 degrees"),
        ({FIRMWARE: "50004"}, True, "firmware reports: throttled"),
        ({FIRMWARE: "70000"}, True, "firmware reports: clock capped"),
        (
            {"sys/fs/cgroup/cpu.stat": "nr_throttled 5"},
            True,
            "control group stopped the run 2 times",
        ),
        (
            {"sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": 3},
            True,
            "throttled because of heat 1 time",
        ),
        ({"proc/stat": STAT.format(stolen=105)}, False, "the host took 100 % of the CPU time"),
    ],
)
def test_what_disturbs_a_run_is_told(tmp_path, changes, throttled, words):
    report = watch(tree(tmp_path, QUIET), changes)
    (warning,) = report["warnings"]
    assert words in warning
    assert report["throttled"] is throttled


def test_drift_shows_without_any_file(tmp_path, monkeypatch):
    speeds = iter([1e9, 0.8e9, 1e9])
    monkeypatch.setattr(_core, "probe", lambda what, seconds: next(speeds))
    monkeypatch.setattr(conditions, "load_average", lambda: None)
    report = watch(tmp_path, {})
    assert report["clock_mhz"] is report["temperature_c"] is report["throttled"] is None
    assert report["speed"] == {"start": 1.0, "end": 1.0, "min": 0.8}
    (warning,) = report["warnings"]
    assert "25 % longer" in warning


def test_a_busy_machine_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(_core, "probe", lambda what, seconds: 1e9)
    monkeypatch.setattr(conditions, "load_average", lambda: 7.5)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (warning,) = watch(tmp_path, {})["warnings"]
    assert "7.5 on 4 CPUs" in warning


def test_conditions_of_this_machine_fit_the_document():
    with conditions.Monitor() as monitor:
        monitor.sample()
    document = bench_document.document()
    document["machine"] = conditions.machine()
    document["conditions"] |= monitor.report()
    results.check(document)


# Explanations ------------------------------------------------------------------------------------


def times(**changes):
    plain = {"float32": 40e-6, "dynamic": 30e-6, "rows": 5e-6, "real": 26e-6, "static": 25e-6}
    return {**plain, "half": 16e-6, **changes}


@pytest.mark.usefixtures("two_levels")
def test_pieces_come_from_differences_and_add_up():
    found = interpret(64, 100, 100, 1, "avx2", times(), LIMITS)
    pieces = {piece.name: piece.seconds for piece in found.pieces}
    assert sum(pieces.values()) == pytest.approx(found.int8)
    assert pieces == pytest.approx(
        {"call": 1e-6, "quantize": 4e-6, "dots": 20e-6, "memory": 0, "epilogue": 5e-6}
    )
    assert "1.33 times as fast" in found.sentences[0]
    assert "67 % of the int8 time is dots, at 32.0 GMAC/s, 32 % of the tier's peak" in str(found)


@pytest.mark.usefixtures("two_levels")
def test_what_bandwidth_takes_is_memory():
    slow = times(dynamic=1e-2, real=1e-2, half=5e-3)
    found = interpret(1, 4000, 4000, 1, "avx2", slow, LIMITS)
    assert found.piece("dots") == pytest.approx(16e6 / 100e9)
    assert found.piece("memory") > 0.9 * found.int8
    assert "weights come from DRAM at 10.0 GB/s" in str(found)


@pytest.mark.usefixtures("two_levels")
def test_each_large_piece_has_its_sentence():
    call = interpret(1, 1, 1, 1, "avx2", times(dynamic=1.1e-6, real=1.1e-6, half=1.1e-6), LIMITS)
    assert "is the call itself" in str(call)
    rows = interpret(1, 1, 1, 1, "avx2", times(rows=20e-6, real=10e-6, half=10e-6), LIMITS)
    assert "goes into quantizing" in str(rows)
    assert "is outside the depth" in str(rows)
    tier = interpret(64, 100, 100, 1, "scalar", times(), LIMITS)
    assert "The scalar tier has no instruction" in str(tier)


def test_noise_makes_no_negative_piece():
    rng = np.random.default_rng(5)
    for _ in range(300):
        noisy = {name: float(rng.uniform(1e-7, 1e-5)) for name in times()}
        m, k, n = (int(rng.integers(1, 100)) for _ in range(3))
        found = interpret(m, k, n, 1, "avx2", noisy, LIMITS)
        assert all(piece.seconds >= 0 for piece in found.pieces)
        assert sum(piece.seconds for piece in found.pieces) == pytest.approx(found.int8)
        assert str(found)


def test_words_of_a_comparison():
    assert compared(2.0, 1.0) == "2.00 times as fast"
    assert compared(1.0, 1.5) == "1.50 times as slow"
    assert compared(1.0, 1.04) == "the same"


def test_turns_are_fair():
    order = []
    found = in_turns({"a": lambda: order.append("a"), "b": lambda: time.sleep(2e-3)}, 0.01)
    assert found["b"] >= 2e-3 > found["a"] > 0
    assert order


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (16, 256, 64)])
def test_explain_a_layer_here(shape):
    found = explain_linear(*shape, threads=1, quick=True)
    assert (found.m, found.k, found.n) == shape
    assert (found.threads, found.isa) == (1, qk.isa())
    assert sum(piece.seconds for piece in found.pieces) == pytest.approx(found.int8)
    assert found.to_dict()["pieces"][0]["name"] == "call"


def test_explain_refuses_what_cannot_be():
    for shape in ((0, 1, 1), (1, 1, 2**40), (2**16, 2**16, 1)):
        with pytest.raises(qk.QKernelsError):
            explain_linear(*shape, quick=True)


@pytest.fixture(scope="module")
def model():
    return qk.quantize_model(digits.network(), digits.calibration()[:16], progress=False)


def test_explain_a_model(model, tmp_path):
    model.save(tmp_path / "model.safetensors")
    found = explain_model(tmp_path / "model.safetensors", batch=2, threads=1, quick=True)
    assert [layer.name for layer in found.layers] == [layer.name for layer in model.layers]
    for layer in found.layers:
        assert layer.limit > 0
        assert (layer.macs > 0) == (layer.op in ("conv2d", "linear"))
        assert layer.name in str(found)
    macs = {layer.name: layer.macs for layer in found.layers}
    weight = digits.network().layers["classifier"].parameters()["weight"]
    assert macs["classifier"] == 2 * weight.size


def test_the_float_side_of_a_model_is_the_model_in_float(model):
    """Each layer's float form gives, on the same inputs, what its integers stand for."""
    from qkernels.bench.explain_model import _float_twin

    image = digits.held_out().images[:2]
    values = {
        model.inputs[0].name: image.transpose(0, 2, 3, 1) if model.layout == "NCHW" else image
    }
    for step in model.trace(image):
        scale = 1.0 if step.qparams is None else float(step.qparams.scale)
        zero_point = 0 if step.qparams is None else int(step.qparams.zero_point)
        values[step.name] = (step.output.astype(np.float32) - zero_point) * np.float32(scale)
    for layer in model.layers:
        if layer.qparams is None:
            continue
        got = _float_twin(layer)(*(values[source] for source in layer.inputs))
        inside = np.abs(values[layer.name] - got) <= 1.5 * float(layer.qparams.scale)
        assert got.shape == values[layer.name].shape
        assert inside.mean() > 0.98, layer.name
