# SPDX-License-Identifier: Apache-2.0
"""The document: written whole, read strictly."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

import qkernels as qk
from bench_document import document
from qkernels.bench import results

Spoil = Callable[[dict[str, Any]], object]


def test_round_trip(tmp_path):
    path = tmp_path / "run.json"
    original = document()
    results.write(original, path)
    assert results.read(path) == original
    assert path.read_text().endswith("}\n")
    first = path.read_bytes()
    results.write(results.read(path), path)
    assert path.read_bytes() == first
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_nothing_measured_is_a_document(tmp_path):
    empty = document() | {"rows": [], "limits": {}, "versions": {}}
    results.check(empty)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "run.json"
    results.write(document(), path)
    before = path.read_bytes()
    bad = document()
    bad["rows"][0]["seconds"] = float("nan")
    with pytest.raises(qk.QKernelsError, match=r"rows\[0\]\.seconds"):
        results.write(bad, path)
    assert path.read_bytes() == before
    with pytest.raises(OSError, match="missing"):
        results.write(document(), tmp_path / "missing" / "run.json")
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe", "can't decode"),
        (b"[1, 2]", "format is 'qkernels-bench'"),
        (b'{"format": "qkernels-bench", "version": 2}', "version 2, .* reads version 1"),
        (b'{"format": "qkernels-bench", "version": NaN}', "NaN is no JSON"),
        (b"[" * 100_000, ""),
    ],
)
def test_what_is_no_document(tmp_path, data, message):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(qk.QKernelsError, match=f"bad.json is not a bench document: .*{message}"):
        results.read(path)


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "run.json"
    small = document()
    small["rows"] = small["rows"][:1]
    results.write(small, path)
    data = path.read_bytes()
    for length in range(0, len(data) - 2, 97):
        path.write_bytes(data[:length])
        with pytest.raises(qk.QKernelsError, match="not a bench document"):
            results.read(path)


def row(index: int = 0, **changes: Any) -> Spoil:
    return lambda value: value["rows"][index].update(changes)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: d.pop("limits"), "the document lacks 'limits'"),
        (lambda d: d.update(extra=1), "the document has an unknown 'extra'"),
        (lambda d: d.update(created="yesterday"), "created must be a time"),
        (lambda d: d.update(created="2026-01-01T00:00:00"), "created must be a time"),
        (lambda d: d["machine"].update(cpus=0), "machine.cpus must be a count, not 0"),
        (lambda d: d["machine"].update(cpus=True), "machine.cpus must be a count, not True"),
        (lambda d: d["machine"].pop("isas"), "machine lacks 'isas'"),
        (lambda d: d["limits"]["1"].update(read={"L1": -3}), "limits.1.read must be an object of"),
        (lambda d: d["limits"].update({"2": []}), r"limits.2 must be an object, not \[\]"),
        (lambda d: d["conditions"].update(noisy=None), "conditions.noisy must be true or false"),
        (lambda d: d.update(absent={"x": 1}), "absent must be an object of texts"),
        (lambda d: d["rows"].append(7), r"rows\[\d+\] must be an object, not 7"),
        (lambda d: d["rows"].append(d["rows"][0]), r"rows\[\d+\] repeats gemm 37x131x59"),
        (lambda d: d["rows"][0].pop("note"), r"rows\[0\] lacks 'note'"),
        (row(status="fine"), r"rows\[0\].status must be one of ok, .*, not 'fine'"),
        (row(samples=[1e-3, 0.0]), r"rows\[0\].samples must be a list of positive numbers"),
        (row(samples=[]), r"rows\[0\].samples do not go with status 'ok'"),
        (row(seconds=None), r"rows\[0\].seconds must be given where status is 'ok', not None"),
        (row(status="failed"), r"rows\[0\].seconds must be null where status is 'failed'"),
        (row(seconds="fast"), r"rows\[0\].seconds must be a positive number or null"),
        (row(quartiles=[2.0, 1.0]), r"rows\[0\].quartiles must be two ascending"),
        (row(bound="luck"), r"rows\[0\].bound must be one of compute"),
        (row(ratio={"median": 1, "low": 1, "high": 1}), r"rows\[0\].ratio must be null for"),
        (row(1, ratio={"median": 1, "low": 2, "high": 3}), r"rows\[1\].ratio must be ascending"),
        (row(macs=-1.0), r"rows\[0\].macs must be a number of at least 0"),
        (row(threads=1.5), r"rows\[0\].threads must be a count, not 1.5"),
    ],
)
def test_what_a_document_may_not_say(spoil, message):
    value = copy.deepcopy(document())
    results.check(value)
    spoil(value)
    with pytest.raises(qk.QKernelsError, match=message):
        results.check(value)


def test_nothing_in_it_may_be_replaced_by_another_kind():
    """Each field of a row in turn becomes an object: none is taken on trust."""
    base = document()
    for name in base["rows"][0]:
        value = json.loads(json.dumps(base))
        value["rows"][0][name] = [{}]
        with pytest.raises(qk.QKernelsError, match=rf"rows\[0\]\.{name} "):
            results.check(value)
