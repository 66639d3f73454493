# SPDX-License-Identifier: Apache-2.0
"""The JSON document of a run: what is in it, and reading and writing it.

It holds everything that tables, pictures and comparisons need; units are seconds, bytes, GMAC/s,
GB/s, MHz and degrees Celsius. A document that is damaged, of another version, or that says what
cannot be is refused with the place of the first fault.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from qkernels.errors import QKernelsValueError
from qkernels.graph.container import replace_file

FORMAT, VERSION = "qkernels-bench", 1
OURS = "qkernels"
STATUSES = ("ok", "rounds elsewhere", "wrong", "unsupported", "failed")
TIMED = STATUSES[:3]
BOUNDS = ("compute", "L1", "L2", "L3", "L4", "DRAM", "overhead")

Document = dict[str, Any]
Row = dict[str, Any]
Check = Callable[[Any], bool]


def now() -> str:
    """The present time in UTC as the document writes it."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def row_key(row: Row) -> tuple[Any, ...]:
    """What names a row in its document, and its fellow in another."""
    return row["suite"], row["case"], row["threads"], row["contender"], row["isa"]


def write(document: Document, path: Path) -> None:
    """Write the document, a row a line, whole or not at all. Raises OSError, and QKernelsError for
    a document that `read` would refuse."""
    check(document)
    others = {name: value for name, value in document.items() if name != "rows"}
    head = json.dumps(others, indent=1, allow_nan=False).removesuffix("\n}")
    rows = ",".join(f"\n  {json.dumps(row, allow_nan=False)}" for row in document["rows"])
    replace_file(path, [f'{head},\n "rows": [{rows}\n ]\n}}\n'.encode()])


def read(path: Path) -> Document:
    """The document at `path`. Raises OSError, and QKernelsError naming the file and the fault."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is no JSON")

    try:
        document: Document = json.loads(path.read_bytes().decode(), parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise QKernelsValueError(f"{path} is not a bench document: {error}") from None
    try:
        check(document)
    except QKernelsValueError as error:
        raise QKernelsValueError(f"{path} is not a bench document: {error}") from None
    return document


def check(document: Any) -> None:
    """Raises QKernelsError with the place of the first thing that a document may not hold."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise QKernelsValueError(f"it does not say that its format is {FORMAT!r}")
    if document.get("version") != VERSION:
        raise QKernelsValueError(
            f"it has version {document.get('version')!r}, this qkernels reads version {VERSION}"
        )
    _fields(document, _DOCUMENT, "")
    _fields(document["machine"], _MACHINE, "machine.")
    _fields(document["conditions"], _CONDITIONS, "conditions.")
    for threads, limits in document["limits"].items():
        _fields(limits, _LIMITS, f"limits.{threads}.")
    seen = set()
    for index, row in enumerate(document["rows"]):
        where = f"rows[{index}]."
        if not isinstance(row, dict):
            raise QKernelsValueError(f"rows[{index}] must be an object, not {_shown(row)}")
        _fields(row, _ROW, where)
        _check_row(row, where)
        if row_key(row) in seen:
            raise QKernelsValueError(f"{where[:-1]} repeats {' '.join(map(str, row_key(row)))}")
        seen.add(row_key(row))


def _check_row(row: Row, where: str) -> None:
    """What the fields of a row say together."""
    timed = row["status"] in TIMED
    for name in ("seconds", "quartiles"):
        if timed != (row[name] is not None):
            raise QKernelsValueError(
                f"{where}{name} must be {'given' if timed else 'null'} where status is "
                f"{row['status']!r}, not {_shown(row[name])}"
            )
    if timed != bool(row["samples"]):
        raise QKernelsValueError(f"{where}samples do not go with status {row['status']!r}")
    if row["library"] == OURS and row["ratio"] is not None:
        raise QKernelsValueError(f"{where}ratio must be null for {OURS} itself")


def _fields(value: Any, expected: dict[str, tuple[str, Check]], where: str) -> None:
    """The very fields of `expected`, each with a value that passes its check."""
    if not isinstance(value, dict):
        raise QKernelsValueError(f"{where[:-1]} must be an object, not {_shown(value)}")
    missing, unknown = expected.keys() - value.keys(), value.keys() - expected.keys()
    if missing or unknown:
        fault = f"lacks {min(missing)!r}" if missing else f"has an unknown {min(unknown)!r}"
        raise QKernelsValueError(f"{where[:-1] or 'the document'} {fault}")
    for name, (kind, right) in expected.items():
        if not right(value[name]):
            raise QKernelsValueError(f"{where}{name} must be {kind}, not {_shown(value[name])}")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _or_none(right: Check) -> Check:
    return lambda value: value is None or right(value)


def _list_of(right: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(right, value))


def _map_of(right: Check) -> Check:
    return lambda value: (
        isinstance(value, dict) and all(map(_text, value)) and all(map(right, value.values()))
    )


def _one_of(*names: str) -> Check:
    return lambda value: isinstance(value, str) and value in names


def _ratio(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"median", "low", "high"}
        and all(map(_positive, value.values()))
        and value["low"] <= value["median"] <= value["high"]
    )


def _pair(value: Any) -> bool:
    return _list_of(_positive)(value) and len(value) == 2 and value[0] <= value[1]


def _created(value: Any) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except (TypeError, ValueError):
        return False


_STRING = ("text", _text)
_TEXTS = ("an object of texts", _map_of(_text))
_OBJECT = ("an object", lambda value: isinstance(value, dict))
_POSITIVE_OR_NULL = ("a positive number or null", _or_none(_positive))
_NUMBERS = ("an object of positive numbers", _map_of(_positive))

_DOCUMENT: dict[str, tuple[str, Check]] = {
    "format": _STRING,
    "version": ("a count", _count),
    "created": ("a time with its zone in ISO 8601", _created),
    "machine": _OBJECT,
    "versions": _TEXTS,
    "settings": _OBJECT,
    "limits": _OBJECT,
    "conditions": _OBJECT,
    "absent": _TEXTS,
    "rows": ("a list", lambda value: isinstance(value, list)),
}
_MACHINE: dict[str, tuple[str, Check]] = {
    "cpu": _STRING,
    "arch": _STRING,
    "system": _STRING,
    "python": _STRING,
    "cpus": ("a count", _count),
    "isas": ("a list of texts", _list_of(_text)),
    "caches": _NUMBERS,
}
_LIMITS: dict[str, tuple[str, Check]] = {
    "dots": _NUMBERS,
    "float32": _POSITIVE_OR_NULL,
    "read": _NUMBERS,
    "overhead": ("a positive number", _positive),
}
_CONDITIONS: dict[str, tuple[str, Check]] = {
    "clock_mhz": ("an object or null", _or_none(_OBJECT[1])),
    "temperature_c": ("an object or null", _or_none(_OBJECT[1])),
    "throttled": ("true, false or null", lambda value: value is None or isinstance(value, bool)),
    "speed": ("an object or null", _or_none(_OBJECT[1])),
    "load": _OBJECT,
    "spread": ("a number or null", _or_none(lambda value: _number(value) and value >= 0)),
    "noisy": ("true or false", lambda value: isinstance(value, bool)),
    "warnings": ("a list of texts", _list_of(_text)),
}
_ROW: dict[str, tuple[str, Check]] = {
    "suite": _STRING,
    "case": _STRING,
    "op": _STRING,
    "params": _OBJECT,
    "threads": ("a count", _count),
    "contender": _STRING,
    "library": _STRING,
    "isa": ("text or null", _or_none(_text)),
    "dtype": _STRING,
    "status": (f"one of {', '.join(STATUSES)}", _one_of(*STATUSES)),
    "note": _STRING,
    "macs": ("a number of at least 0", lambda value: _number(value) and value >= 0),
    "bytes": ("a positive number", _positive),
    "samples": ("a list of positive numbers", _list_of(_positive)),
    "seconds": _POSITIVE_OR_NULL,
    "quartiles": ("two ascending positive numbers or null", _or_none(_pair)),
    "gmacs": _POSITIVE_OR_NULL,
    "gbs": _POSITIVE_OR_NULL,
    "limit": _POSITIVE_OR_NULL,
    "share": _POSITIVE_OR_NULL,
    "bound": (f"one of {', '.join(BOUNDS)}, or null", _or_none(_one_of(*BOUNDS))),
    "ratio": ("ascending positive low, median and high, or null", _or_none(_ratio)),
}
