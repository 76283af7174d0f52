"""Files of tensors in the safetensors layout, written and read through bounded memory.

The library of that name holds a file up to three times in memory while it writes one, and maps it
into memory while it reads one, where a truncated file can kill the process. Here tensors go from
and to their own memory in blocks, and the header is believed in nothing: sizes must match, data
must tile the file without gaps or overlaps, and what is allocated is never more than the file.
"""

from __future__ import annotations

import json
import math
import os
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from fastdqn.system.bounded_json import MAX_JSON, check_json

_BLOCK = 32 * 1024**2  # bytes in flight between a device and a file

_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "U16": torch.uint16,
    "U32": torch.uint32,
    "U64": torch.uint64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int  # from the start of the file
    nbytes: int


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """Write a file that is not there yet.

    Returns:
        Its ``bytes`` and ``crc32``.

    Raises:
        OSError: Where the disk refuses.
    """
    # Wide elements first, so that every tensor is aligned.
    order = sorted(tensors, key=lambda name: -tensors[name].element_size())
    header: dict[str, Any] = {}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    head = memoryview(struct.pack("<Q", len(text)) + text)
    size, crc = 0, 0
    # The sum is made while the disk writes: one after the other takes a sixth longer.
    with path.open("xb", buffering=0) as file, ThreadPoolExecutor(1) as beside:
        for block in chain([head], *(_blocks(tensors[name]) for name in order)):
            size, summed = size + len(block), beside.submit(zlib.crc32, block, crc)
            rest = block
            while rest:  # an unbuffered file may take less at a time
                rest = rest[file.write(rest) :]
            crc = summed.result()
    return {"bytes": size, "crc32": crc}


def read_header(file: BinaryIO) -> dict[str, Entry]:
    """What a file holds.

    Raises:
        ValueError: Where the header contradicts itself or the file.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    (length,) = struct.unpack("<Q", _read_exactly(file, 8))
    if length > min(MAX_JSON, size - 8):
        raise ValueError(f"a header of {length} bytes")
    header = parse_json(_read_exactly(file, length))
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    header.pop("__metadata__", None)
    entries: dict[str, Entry] = {}
    spans: list[tuple[int, int]] = []
    for name, item in header.items():
        shape, (begin, end) = item["shape"], item["data_offsets"]
        if not all(type(number) is int and 0 <= number < 2**62 for number in (*shape, begin, end)):
            raise ValueError("a shape or an offset that is no count")
        dtype = _DTYPES[item["dtype"]]
        if end - begin != math.prod(shape) * dtype.itemsize:
            raise ValueError("a shape that does not fit its bytes")
        entries[name] = Entry(dtype, tuple(shape), 8 + length + begin, end - begin)
        spans.append((begin, end))
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise ValueError("data with gaps or overlaps")
        reached = end
    if 8 + length + reached != size:
        raise ValueError("data that does not end where the file does")
    return entries


def read_tensor(file: BinaryIO, entry: Entry, out: Tensor) -> None:
    """Read into ``out``, which has the entry's dtype and shape and may be on a device."""
    file.seek(entry.offset)
    if out.device.type == "cpu" and out.is_contiguous():
        _fill(file, out)
        return
    rows = out if out.dim() else out.view(1)
    if not rows.numel():
        return
    step = max(1, _BLOCK // max(1, rows[0].numel() * rows.element_size()))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        host = torch.empty(part.shape, dtype=part.dtype)
        _fill(file, host)
        part.copy_(host)


def open_regular(path: Path) -> BinaryIO:
    """Open a plain file for reading: no link is followed, and a pipe is not waited for.

    Raises:
        OSError: Where it is anything else, or not there.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path.name} is no plain file")
    return os.fdopen(descriptor, "rb", buffering=0)


def read_small(path: Path) -> bytes:
    """The content of a file of JSON; OSError or ValueError where it is no small plain file."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_JSON:
            raise ValueError(f"{path.name} has {size} bytes, more than {MAX_JSON}")
        return _read_exactly(file, size)


def parse_json(data: bytes) -> Any:
    """Parse ASCII JSON that cannot blow up in memory; ValueError or RecursionError."""
    check_json(data)
    return json.loads(data.decode("ascii"))


def crc32_of(file: BinaryIO) -> int:
    """CRC-32 of what is left of a file."""
    value, block = 0, bytearray(1 << 20)
    while count := file.readinto(block):  # type: ignore[attr-defined]
        value = zlib.crc32(memoryview(block)[:count], value)
    return value


def _blocks(tensor: Tensor) -> Iterator[memoryview]:
    """The bytes of a tensor, in order, at most about _BLOCK at a time."""
    rows = tensor.detach()
    rows = rows if rows.dim() else rows.view(1)
    if not rows.numel():
        return
    step = max(1, _BLOCK // max(1, rows[0].numel() * rows.element_size()))
    for start in range(0, len(rows), step):
        part = rows[start : start + step].cpu().contiguous()
        yield part.view(-1).view(torch.uint8).numpy().data


def _fill(file: BinaryIO, out: Tensor) -> None:
    if not out.numel():
        return
    view = out.view(-1).view(torch.uint8).numpy().data
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise ValueError("the file ended early")
        view = view[count:]


def _read_exactly(file: BinaryIO, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        block = file.read(length - len(data))
        if not block:
            raise ValueError("the file ended early")
        data += block
    return bytes(data)
