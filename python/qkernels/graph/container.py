# SPDX-License-Identifier: Apache-2.0
"""Reading and writing safetensors files: a JSON header and tensors, no code, mapped not copied.

The format (github.com/huggingface/safetensors, "Format"): the header's length as 8 bytes little
endian; the header, a JSON object {name: {"dtype", "shape", "data_offsets": [begin, end]}} that may
end in spaces, with "__metadata__" a map of strings; the tensors' bytes, without holes, offsets
counted from the end of the header. Here the header's end falls on 64 bytes, and so does the
beginning of each tensor whose predecessors' sizes are multiples of 64.

`write` puts a CRC-32 of the whole file, taken with the checksum's own eight digits as zeros, into
the metadata as "qkernels.crc32"; `read` checks it where it is present.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qkernels.checks import shown
from qkernels.errors import QKernelsTypeError, QKernelsValueError

ALIGNMENT = 64
CHECKSUM = "qkernels.crc32"

_HEADER_LIMIT = 100_000_000  # bytes, as in the safetensors package
_BLANK = "0" * 8
_DTYPES = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "U32": "<u4",
    "I32": "<i4",
    "U64": "<u8",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}


class Container(NamedTuple):
    """What a file holds: read-only views into the mapped file, and the metadata."""

    tensors: dict[str, NDArray[Any]]
    metadata: dict[str, str]


def write(
    path: str | os.PathLike[str], tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> None:
    """Write tensors, in the order given, and metadata; `path` appears complete or not at all.

    Raises OSError when the file cannot be written, and as `encode` does.
    """
    replace_file(file_path(path), encode(tensors, metadata))


def encode(
    tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]
) -> list[bytes | memoryview]:
    """The parts of a file in their order. Raises QKernelsError for a dtype the format lacks."""
    arrays = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    header: dict[str, Any] = {"__metadata__": {**metadata, CHECKSUM: _BLANK}}
    end = 0
    for name, array in arrays.items():
        code = _NAMES.get(array.dtype.newbyteorder("<"))
        if code is None or name in header:
            raise QKernelsValueError(
                f"tensor {name!r} must have another name than '__metadata__' and a dtype among "
                f"{list(_DTYPES)}, not {array.dtype}"
            )
        begin, end = end, end + array.nbytes
        offsets = [begin, end]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": offsets}
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    prefix = len(text).to_bytes(8, "little") + text
    little = (array.astype(array.dtype.newbyteorder("<"), copy=False) for array in arrays.values())
    data = [array.reshape(-1).view(np.uint8).data for array in little]
    checksum = zlib.crc32(prefix)
    for part in data:
        checksum = zlib.crc32(part, checksum)
    mark = f'"{CHECKSUM}":"'.encode()
    prefix = prefix.replace(mark + _BLANK.encode(), mark + f"{checksum:08x}".encode(), 1)
    return [prefix, *data]


def replace_file(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Write a file beside `path`, then move it there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def file_path(path: Any) -> Path:
    """A str, bytes or os.PathLike as a path."""
    try:
        return Path(os.fsdecode(path))
    except TypeError:
        raise QKernelsTypeError(
            f"path must be a str, bytes or os.PathLike, not {type(path).__name__}"
        ) from None


def read(path: str | os.PathLike[str]) -> Container:
    """Map a safetensors file and check all of it.

    Raises OSError when the file cannot be read and QKernelsError, naming the file, when it is not
    a sound safetensors file or its checksum does not fit. The file must not be changed in place
    while arrays from it are in use; replacing it, as `write` does, is fine.
    """
    with file_path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size < 8:
            raise QKernelsValueError(f"{os.fspath(path)}: {size} bytes are no safetensors file")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        return parse(memoryview(mapped))
    except QKernelsValueError as error:
        raise QKernelsValueError(f"{os.fspath(path)}: {error}") from None


def parse(view: memoryview) -> Container:
    """The tensors and metadata in the bytes of a file, as views."""
    length = int.from_bytes(view[:8], "little")
    if not 2 <= length <= min(_HEADER_LIMIT, len(view) - 8):
        raise QKernelsValueError(
            f"the header cannot have {length} bytes in a file of {len(view)}: not a safetensors "
            f"file, or truncated"
        )
    raw = bytes(view[8 : 8 + length])
    header = parse_json(raw)
    if not isinstance(header, dict) or not raw.startswith(b"{"):
        raise QKernelsValueError("the header is no JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise QKernelsValueError("__metadata__ is no map of strings")
    if CHECKSUM in metadata:
        _check_sum(view, raw, metadata[CHECKSUM])
    return Container(_tensors(header, view[8 + length :]), metadata)


def parse_json(text: bytes | str) -> Any:
    """JSON without NaN, infinities and repeated names."""
    try:
        text = text.decode() if isinstance(text, bytes) else text
        return json.loads(text, parse_constant=_no_constant, object_pairs_hook=_unique)
    except QKernelsValueError:
        raise
    except RecursionError:
        raise QKernelsValueError("the header is no JSON: nested too deeply") from None
    except ValueError as error:
        raise QKernelsValueError(f"the header is no JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise QKernelsValueError(f"the header holds {name}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise QKernelsValueError("the header repeats a name")
    return result


def _check_sum(view: memoryview, raw: bytes, stated: str) -> None:
    mark = f'"{CHECKSUM}":"{stated}"'.encode()
    if not re.fullmatch("[0-9a-f]{8}", stated) or raw.count(mark) != 1:
        raise QKernelsValueError(f"the checksum {shown(stated)} is not 8 hexadecimal digits")
    blank = raw.replace(mark, mark.replace(stated.encode(), _BLANK.encode()))
    found = zlib.crc32(view[8 + len(raw) :], zlib.crc32(blank, zlib.crc32(view[:8])))
    if found != int(stated, 16):
        raise QKernelsValueError(
            f"the checksum of the file is {found:08x}, not {stated}: the file is damaged"
        )


def _tensors(header: dict[str, Any], data: memoryview) -> dict[str, NDArray[Any]]:
    """Views of all tensors, after checking that they cover the data without holes or overlaps."""
    parsed = [(*_entry(name, entry), name) for name, entry in header.items()]
    expected = 0
    tensors = {}
    for begin, end, dtype, shape, name in sorted(parsed, key=lambda item: item[:2]):
        if begin != expected:
            raise QKernelsValueError(f"tensor {name!r} begins at {begin}, not at {expected}")
        if end > len(data):
            raise QKernelsValueError(f"tensor {name!r} ends at {end} of {len(data)}: truncated")
        expected = end
        flat = np.frombuffer(data[begin:end], np.uint8)
        if not flat.view(dtype).flags.aligned:
            flat = flat.copy()
            flat.flags.writeable = False
        try:
            tensors[name] = flat.view(dtype).reshape(shape)
        except ValueError as error:
            raise QKernelsValueError(f"tensor {name!r} has shape {shape}: {error}") from None
    if expected != len(data):
        raise QKernelsValueError(f"the tensors end at {expected}, the file at {len(data)}")
    return {name: tensors[name] for name in header}


def _entry(name: str, entry: Any) -> tuple[int, int, np.dtype[Any], tuple[int, ...]]:
    """(begin, end, dtype, shape) of one tensor's entry in the header."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise QKernelsValueError(f"tensor {name!r} must have dtype, shape and data_offsets")
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise QKernelsValueError(
            f"tensor {name!r} has dtype {shown(entry['dtype'])}, not one of {list(_DTYPES)}"
        )
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_sizes(shape) and _sizes(offsets) and len(offsets) == 2 and len(shape) <= 32):
        raise QKernelsValueError(f"tensor {name!r} has a shape or data_offsets that cannot be")
    begin, end = offsets
    if end - begin != math.prod(shape) * dtype.itemsize:
        raise QKernelsValueError(
            f"tensor {name!r} of shape {shape} and {entry['dtype']} cannot have {end - begin} bytes"
        )
    return begin, end, dtype, tuple(shape)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)
