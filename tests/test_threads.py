# SPDX-License-Identifier: Apache-2.0
"""Many threads at once, the GIL, fork, interpreter exit."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import oracle
import qkernels as qk
from support import integers, run_python, same


def jobs(rng):
    """(call, right answer) for every heavy op, on shared packed weights."""
    x, weight = integers(rng, (67, 130)), integers(rng, (97, 130))
    kw = {"x_scale": 0.1, "out_scale": 2.0}
    linear = qk.pack_linear(weight, weight_scale=0.02)
    real = rng.normal(0, 1, (33, 130)).astype(np.float32)
    image, kernel = integers(rng, (1, 14, 14, 24)), integers(rng, (24, 24, 3, 3))
    conv = qk.pack_conv2d(kernel, weight_scale=0.02, padding=1)
    deep = integers(rng, (24, 1, 3, 3))
    acc = integers(rng, (70, 130), "int32")
    return [
        (lambda: qk.gemm_int8(x, weight.T), oracle.gemm(x, weight.T)),
        (lambda: qk.linear_int8(x, linear, **kw),
         oracle.linear(x, weight, weight_scale=0.02, **kw)),
        (lambda: qk.linear_int8(real, linear), oracle.linear(real, weight, weight_scale=0.02)),
        (lambda: qk.conv2d_int8(image, conv, **kw),
         oracle.conv2d(image, kernel, weight_scale=0.02, padding=1, **kw)),
        (lambda: qk.conv2d_int8(image, deep, groups=24), oracle.conv2d(image, deep, groups=24)),
        (lambda: qk.dynamic_quantize(real)[0], oracle.dynamic_symmetric(real)[0]),
        (lambda: qk.requantize(acc, 1e-7), oracle.requantize(acc, 1e-7)),
        (lambda: qk.quantize(real, 0.02), oracle.quantize(real, 0.02)),
    ]  # fmt: skip


@pytest.mark.parametrize("inner", [1, 2, 5])
def test_many_threads_at_once(rng, inner):
    work = jobs(rng)
    barrier = threading.Barrier(6)

    def run(seed):
        order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(work)), 12))
        barrier.wait()
        with qk.num_threads(inner):
            for index in order:
                call, want = work[index]
                same(call(), want)

    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(run, seed) for seed in range(6)]:
            done.result()


def test_settings_may_change_while_others_compute(rng):
    work = jobs(rng)
    before_isa, before_threads = qk.isa(), qk.get_num_threads()
    stop = threading.Event()

    def change():
        numbers = np.random.default_rng(0)
        while not stop.is_set():
            qk.set_num_threads(int(numbers.integers(1, 6)))
            qk.use_isa(str(numbers.choice(qk.available_isas())))
            time.sleep(0.0005)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            for _ in range(4):
                for (_, want), done in [(job, pool.submit(job[0])) for job in work * 3]:
                    same(done.result(), want)
    finally:
        stop.set()
        changer.join()
        qk.use_isa(before_isa)
        qk.set_num_threads(before_threads)


def test_more_threads_than_work(rng):
    work = jobs(rng)
    with qk.num_threads(1000):
        for call, want in work:
            same(call(), want)


def test_the_gil_is_released():
    """While one thread computes for long, this one goes on."""
    a = np.ones((700, 700), np.int8)
    packed = qk.pack_gemm(a)
    with qk.use_isa("scalar"):
        started, ticks = threading.Event(), 0

        def compute():
            started.set()
            with qk.num_threads(1):
                qk.gemm_int8(a, packed)

        thread = threading.Thread(target=compute)
        begin = time.perf_counter()
        thread.start()
        started.wait()
        while thread.is_alive():
            time.sleep(0.001)
            ticks += 1
        took = time.perf_counter() - begin
    assert took > 0.01, "too short to tell"
    assert ticks >= 3


def test_an_error_in_one_thread_leaves_the_others_alone(rng):
    work = jobs(rng)

    def bad():
        with pytest.raises(qk.QKernelsError, match="NaN|finite"):
            qk.linear_int8(np.full((300, 200), np.nan, np.float32), np.ones((30, 200), np.float32))

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(bad) for _ in range(30)]
        for call, want in work * 3:
            same(call(), want)
        for future in futures:
            future.result()


FORK = """
import os, sys, warnings
import numpy as np
import qkernels as qk
warnings.simplefilter("ignore")
a = np.arange(400 * 400, dtype=np.int32).astype(np.int8).reshape(400, 400)
qk.set_num_threads(3)
want = qk.gemm_int8(a, a)
for _ in range(3):
    child = os.fork()
    if child == 0:
        right = all((qk.gemm_int8(a, a) == want).all() for _ in range(3))
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if (qk.gemm_int8(a, a) == want).all() else 1)
        right = right and os.waitpid(grandchild, 0)[1] == 0
        os._exit(0 if right else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert (qk.gemm_int8(a, a) == want).all()
print("passed")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_fork_after_use():
    done = run_python(FORK)
    assert done.stdout.strip() == "passed", done.stderr


def test_the_interpreter_ends_while_threads_are_parked():
    code = (
        "import numpy as np, qkernels as qk\n"
        "qk.set_num_threads(4)\n"
        "a = np.ones((500, 500), np.int8)\n"
        "qk.gemm_int8(a, a)\n"
    )
    for _ in range(3):
        done = run_python(code)
        assert (done.returncode, done.stderr) == (0, "")
