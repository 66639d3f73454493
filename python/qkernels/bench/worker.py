# SPDX-License-Identifier: Apache-2.0
"""The process that hosts the contenders of one adapter.

It reads a JSON object a line from stdin and answers each with one on a copy of stdout; what a
library prints goes to stderr. Requests:

    {"do": "discover"}                                  -> {"contenders": [{name, version, dtype}]}
                                                           or {"absent": sentence}
    {"do": "load", "contender", "case", "folder", "threads"} -> {"status", "note"}
    {"do": "calibrate", "contender", "seconds"}         -> {"calls", "seconds"}
    {"do": "time", "contender", "calls"}                -> {"seconds"}  of one call
    {"do": "unload"}                                    -> {}

An exception is answered by {"error": sentence}, and the worker goes on.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, cast

from .case import Case, Data
from .contender import Adapter, Contender, Repeated, Run
from .verdict import judge

_PR_SET_PDEATHSIG = 1
_LONG_CALL = 0.05  # seconds

Repeat = Callable[[int], object]


def main(module: str) -> None:
    """Serve requests for the adapter `module` until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the runner to handle
    _die_with_parent()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    gc.disable()  # never inside a measurement: `unload` collects
    host = _Host(cast("Adapter", importlib.import_module(module)))
    for line in sys.stdin:
        try:
            reply = host.serve(json.loads(line))
        except Exception as error:  # of any library: the runner reports it and goes on
            reply = {"error": f"{type(error).__name__}: {first_line(str(error))}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def first_line(text: str) -> str:
    """The first line that says something, shortened."""
    line = next(filter(None, map(str.strip, text.splitlines())), "")
    return line if len(line) <= 200 else f"{line[:197]}..."


def _die_with_parent() -> None:
    """A stopped worker would outlive a runner that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Host:
    """The adapter's contenders, and those that are ready to be timed on the present case."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter
        self._contenders: dict[str, Contender] = {}
        self._loaded: dict[str, Repeat] = {}

    def serve(self, request: dict[str, Any]) -> dict[str, Any]:
        do = request["do"]
        if do == "discover":
            return self._discover()
        if do == "load":
            return self._load(request)
        if do == "calibrate":
            return _calibrate(self._loaded[request["contender"]], request["seconds"])
        if do == "time":
            return {"seconds": _seconds(self._loaded[request["contender"]], request["calls"])}
        self._loaded.clear()
        gc.collect()
        return {}

    def _discover(self) -> dict[str, Any]:
        found: Sequence[Contender] | str = self._adapter.discover()
        if isinstance(found, str):
            return {"absent": found}
        self._contenders = {contender.name: contender for contender in found}
        facts = [{"name": c.name, "version": c.version, "dtype": c.dtype} for c in found]
        return {"contenders": facts}

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        name = request["contender"]
        contender, case = self._contenders[name], Case.from_json(request["case"])
        reason = contender.supports(case)
        if reason is not None:
            return {"status": "unsupported", "note": reason}
        data = Data.load(Path(request["folder"]))
        run = contender.prepare(case, data, request["threads"])
        run()
        status, note = judge(case, data, contender.answer())
        self._loaded[name] = run.repeat if isinstance(run, Repeated) else _in_python(run)
        return {"status": status, "note": note}


def _in_python(run: Run) -> Repeat:
    def repeat(calls: int) -> None:
        for _ in range(calls):
            run()

    return repeat


def _calibrate(repeat: Repeat, enough: float) -> dict[str, Any]:
    """How many calls take about `enough` seconds, found by doubling, which warms up as well."""
    calls, seconds = 1, _seconds(repeat, 1)
    while 2 * calls * seconds < enough:
        calls *= 2
        seconds = _seconds(repeat, calls)
    return {"calls": max(1, math.ceil(enough / seconds)), "seconds": seconds}


def _seconds(repeat: Repeat, calls: int) -> float:
    """Seconds of one call. The first calls after another process had the CPU are not counted:
    they wake threads and fill caches. A long call does that in a small part of its time."""
    start = perf_counter()
    repeat(1)
    once = perf_counter() - start
    if once > _LONG_CALL and calls == 1:
        return once
    repeat(calls // 8)
    start = perf_counter()
    repeat(calls)
    return max(perf_counter() - start, 1e-9) / calls
