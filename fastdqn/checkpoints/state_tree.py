"""The tensors of a nested state: cut into lots for files, found again, read where they belong.

A state is nested dicts and lists with tensors among JSON values. Each tensor leaves a mark in the
JSON; in the files it lies as one or more pieces, cut along axis 0. What is found is believed in
nothing: pieces must make up a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastdqn.checkpoints.tensor_file import Entry, open_regular, read_header, read_tensor
from fastdqn.errors import CheckpointError, cut_short

_CHUNK = 256 * 1024**2  # bytes per file
_MARK = "__tensor__"  # key that marks a tensor's place in the JSON
_MOST = 2**53  # of any counter


@dataclass(frozen=True)
class SavedTensor:
    """A tensor that is still in its files."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: tuple[tuple[Path, Entry], ...]  # cut along axis 0, in order

    def read(self, out: Tensor | None = None) -> Tensor:
        """Read it, straight into ``out`` if that has its dtype and shape."""
        if out is None or out.dtype != self.dtype or out.shape != self.shape:
            out = torch.empty(self.shape, dtype=self.dtype)
        start = 0
        for path, entry in self.pieces:
            whole = len(self.pieces) == 1
            with open_regular(path) as file:
                part = out if whole else out[start : start + entry.shape[0]]
                read_tensor(file, entry, part.detach())
            start += 0 if whole else entry.shape[0]
        return out


def split_tensors(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """JSON with a mark where a tensor was; the tensors go into ``tensors`` by path."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, Tensor):
        while key in tensors:  # {"a/b": x, "a": {"b": y}}
            key += "'"
        tensors[key] = value
        return {_MARK: key}
    if isinstance(value, Mapping):
        return {name: split_tensors(item, f"{key}/{name}", tensors) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [
            split_tensors(item, f"{key}/{number}", tensors) for number, item in enumerate(value)
        ]
    return value


def cut_into_lots(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Lots of at most _CHUNK bytes; long tensors are cut along axis 0, and nothing is copied.

    A piece is named ``path#start#length of the whole``.
    """
    lot: dict[str, Tensor] = {}
    room = _CHUNK
    for key, tensor in tensors.items():
        length = tensor.shape[0] if tensor.dim() else 1
        row_bytes = tensor.numel() * tensor.element_size() // max(1, length)
        start = 0
        while True:
            rows = min(length - start, max(1, room // max(1, row_bytes)))
            whole = tensor.dim() == 0 or rows == length
            piece = tensor if whole else tensor[start : start + rows]
            size = piece.numel() * piece.element_size()
            if lot and size > room:
                yield lot
                lot, room = {}, _CHUNK
                continue
            lot[f"{key}#{start}#{length}"] = piece
            room -= size
            start += rows
            if start >= length:
                break
    if lot:
        yield lot


def find_tensors(paths: list[Path]) -> dict[str, SavedTensor]:
    """Every tensor of the files by key; ValueError where pieces do not make up a whole."""
    pieces: dict[str, dict[int, tuple[int, Path, Entry]]] = {}
    for path in paths:
        with open_regular(path) as file:
            entries = read_header(file)
        for name, entry in entries.items():
            key, start, length = name.rsplit("#", 2)
            found = pieces.setdefault(key, {})
            if int(start) in found:
                raise ValueError(f"{cut_short(key)} has rows twice")
            found[int(start)] = int(length), path, entry
    return {key: _assemble(key, found) for key, found in pieces.items()}


def _assemble(key: str, found: dict[int, tuple[int, Path, Entry]]) -> SavedTensor:
    length, path, first = next(iter(found.values()))
    if not first.shape:
        if len(found) > 1:
            raise ValueError(f"{cut_short(key)} has pieces but no rows")
        return SavedTensor(first.dtype, (), ((path, first),))
    rows, ordered = 0, []
    for start in sorted(found):
        same, path, entry = found[start]
        if start != rows or same != length or entry.dtype != first.dtype:
            raise ValueError(f"{cut_short(key)} lacks rows after {rows}")
        if entry.shape[1:] != first.shape[1:] or not entry.shape:
            raise ValueError(f"{cut_short(key)} has rows of several shapes")
        rows += entry.shape[0]
        ordered.append((path, entry))
    if rows != length:
        raise ValueError(f"{cut_short(key)} has {rows} of {length} rows")
    return SavedTensor(first.dtype, (length, *first.shape[1:]), tuple(ordered))


def join_tensors(value: Any, tensors: Mapping[str, SavedTensor]) -> Any:
    """The nested state again, with the tensors that were found in place of their marks."""
    if isinstance(value, dict):
        if _MARK in value:
            return tensors[value[_MARK]]
        return {name: join_tensors(item, tensors) for name, item in value.items()}
    if isinstance(value, list):
        return [join_tensors(item, tensors) for item in value]
    return value


def materialize(value: Any, into: Any = None) -> Any:
    """Read every tensor of what :func:`fastdqn.checkpoints.store.open_checkpoint` gave.

    Args:
        value: Nested, with saved tensors.
        into: Tensors in the same places, as far as there are any: those of the same dtype and shape
            are filled in place, so that nothing is held twice.
    """
    if isinstance(value, SavedTensor):
        return value.read(into if isinstance(into, Tensor) else None)
    if isinstance(value, dict):
        into = into if isinstance(into, Mapping) else {}
        return {name: materialize(item, into.get(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [materialize(item) for item in value]
    return value


def check_fits(saved: Any, own: Any, where: str) -> None:
    """Refuse a state that lacks the keys, types, dtypes and shapes of ``own``.

    Integers must be counts and floats finite. Generators are passed over: another type of device
    has another kind.

    Raises:
        CheckpointError: With the place, what is there and what should be.
    """
    if isinstance(own, Mapping):
        if not isinstance(saved, dict) or saved.keys() != own.keys():
            names = sorted(saved) if isinstance(saved, dict) else saved
            raise _misfit(where, cut_short(names), sorted(own))
        for name, item in own.items():
            if name == "generator":
                if not isinstance(saved[name], SavedTensor) or saved[name].dtype != torch.uint8:
                    raise _misfit(f"{where}/{name}", cut_short(saved[name]), "bytes")
            else:
                check_fits(saved[name], item, f"{where}/{name}")
    elif isinstance(own, Tensor):
        if not isinstance(saved, SavedTensor):
            raise _misfit(where, cut_short(saved), "a tensor")
        if (saved.dtype, saved.shape) != (own.dtype, tuple(own.shape)):
            raise _misfit(
                where,
                f"{saved.dtype} {cut_short(list(saved.shape))}",
                f"{own.dtype} {list(own.shape)}",
            )
    elif isinstance(own, bool):
        if type(saved) is not bool:
            raise _misfit(where, cut_short(saved), "true or false")
    elif isinstance(own, float):
        if type(saved) not in (int, float) or not abs(saved) < _MOST:
            raise _misfit(where, cut_short(saved), "a finite number")
    elif isinstance(own, int) and (type(saved) is not int or not 0 <= saved <= _MOST):
        raise _misfit(where, cut_short(saved), "a count")


def _misfit(where: str, found: Any, wanted: Any) -> CheckpointError:
    return CheckpointError(
        f"{where} is {found} in the checkpoint where this run has {wanted}; use the configuration "
        f"it was saved with."
    )
