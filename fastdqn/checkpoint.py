"""Checkpoints: complete, checked, atomic, and free of pickle.

A checkpoint is a directory ``step_<env steps>`` with ``state.json`` (everything that is not a
tensor), files of tensors of at most 256 MB each, and ``manifest.json``, which holds size and CRC-32
of every file and of itself. It is written under a temporary name, flushed to the disk and renamed;
only then are older ones deleted. The newest is the one with the highest number: no pointer is kept,
for it could only contradict the names. Nothing in it is executed on loading, and nothing in it is
believed: whatever is wrong with it ends in a CheckpointError.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fastdqn.config import Config
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.learner import load_network
from fastdqn.low_precision import lower
from fastdqn.networks import QNetwork, make_network
from fastdqn.policy import Policy
from fastdqn.tensor_file import (
    Entry,
    check_json,
    crc32_of,
    open_regular,
    parse_json,
    read_header,
    read_small,
    read_tensor,
    write_tensors,
)

FORMAT_VERSION = 1
_CHUNK = 256 * 1024**2  # bytes per file
_TENSOR = "__tensor__"  # key that marks a tensor's place in state.json
# While a checkpoint is written again, the one before it has another name for a moment.
_REPLACED = ".tmp-replaced"
_NAME = re.compile(rf"step_(\d{{12}})({re.escape(_REPLACED)})?", re.ASCII)
_MOST = 2**53  # of any counter

PathLike = str | os.PathLike[str]
# What reading a damaged or forged file can raise beside CheckpointError.
_UNREADABLE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError,
    RecursionError, OverflowError,
)  # fmt: skip


def save_checkpoint(
    directory: Path,
    env_steps: int,
    state: Mapping[str, Any],
    keep: int,
    *,
    score: float | None = None,
    keep_best: bool = False,
) -> Path:
    """Write one checkpoint and delete all but the newest ``keep``.

    Those of later env steps go as well: they were damaged, or the run would not be here.

    Args:
        directory: The run's ``checkpoints``.
        env_steps: Names the checkpoint.
        state: Nested dicts with string keys; leaves are tensors, arrays (which come back as
            tensors), or JSON values (numpy's scalars too). Each top-level entry becomes a set of
            files of its own.
        keep: Checkpoints to keep, this one included.
        score: Mean return of the newest evaluation, for the manifest.
        keep_best: Keep the one with the highest score, too; of equals the oldest.

    Returns:
        The checkpoint's directory.

    Raises:
        CheckpointError: Where the disk refuses, or a part that is not a tensor is too large;
            earlier checkpoints stay as they are.
    """
    final = directory / f"step_{env_steps:012d}"
    temporary = directory / f"{final.name}.tmp-{os.getpid()}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        clean(directory)
        temporary.mkdir()
        _write(temporary, env_steps, state, score)
        replaced = directory / f"{final.name}{_REPLACED}"
        if os.path.lexists(final):  # out of the way until the new one is in its place
            final.rename(replaced)
        temporary.rename(final)
        _sync(directory)
        if os.path.lexists(replaced):
            _remove(replaced)
    except BaseException as error:
        _remove(temporary)  # whatever stopped it, a full disk first
        if isinstance(error, OSError):
            raise CheckpointError(f"{final} cannot be written ({error}); make room.") from None
        raise
    _prune(directory, final, keep, keep_best)
    return final


def clean(directory: Path) -> None:
    """Remove what a killed save has left."""
    for orphan in directory.glob("step_*.tmp-*"):
        whole = orphan.with_name(orphan.name.removesuffix(_REPLACED))
        if orphan.name.endswith(_REPLACED) and not os.path.lexists(whole):
            orphan.rename(whole)  # the save was killed between its two renames
        else:
            _remove(orphan)


def _prune(directory: Path, newest: Path, keep: int, keep_best: bool) -> None:
    found = _list(directory)
    ours = found[: found.index(newest) + 1]
    kept = set(ours[-keep:])
    if keep_best:
        scores = {path: score for path in ours if (score := _score(path)) is not None}
        if scores:
            kept.add(max(scores, key=lambda path: scores[path]))  # the first of equals
    for path in found:
        if path not in kept:
            _remove(path)


def _score(path: Path) -> float | None:
    try:
        score = _read_manifest(path).get("score")
    except CheckpointError:
        return None
    return score if type(score) is float and math.isfinite(score) else None


def _remove(path: Path) -> None:
    """As far as it goes; of a link, the link. A kill leaves no half under the name of a whole."""
    if _NAME.fullmatch(path.name) and os.path.lexists(path):
        hidden = path.with_name(f"{path.name}.tmp-removed")
        with suppress(OSError):
            path.rename(hidden)
            path = hidden
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _write(temporary: Path, env_steps: int, state: Mapping[str, Any], score: float | None) -> None:
    """All files of one checkpoint, on the disk when this returns."""
    skeleton: dict[str, Any] = {}
    files: dict[str, dict[str, int]] = {}
    with ThreadPoolExecutor(1) as disk:  # flushes one file while the next is written
        flushed = []
        for part, content in state.items():
            tensors: dict[str, Tensor] = {}
            skeleton[part] = _split(content, part, tensors)
            for number, chunk in enumerate(_chunks(tensors)):
                name = f"{part}-{number:05d}.safetensors"
                files[name] = write_tensors(temporary / name, chunk)
                flushed.append(disk.submit(_sync, temporary / name))
        for result in flushed:
            result.result()
    text = json.dumps(skeleton).encode()
    body = {
        "format_version": FORMAT_VERSION,
        "env_steps": env_steps,
        "score": None if score is None else float(score),
        "files": {**files, "state.json": {"bytes": len(text), "crc32": zlib.crc32(text)}},
    }
    manifest = _manifest(body)
    for name, data in (("state.json", text), ("manifest.json", manifest)):
        try:
            check_json(data)
        except ValueError as error:
            raise CheckpointError(f"{name} would hold {error}.") from None
        (temporary / name).write_bytes(data)
        _sync(temporary / name)
    _sync(temporary)


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint in a run's ``checkpoints``, or None."""
    found = _list(directory)
    return found[-1] if found else None


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


def load_checkpoint(path: Path, *, parts: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Read a checkpoint back, every file checked against the manifest first.

    Args:
        path: The checkpoint's directory.
        parts: Top-level entries to read; None reads all.

    Raises:
        CheckpointError: Where anything is missing, damaged or of another version.
    """
    state = open_checkpoint(path, parts=parts)
    with refusing(path):
        return materialize(state)


def open_checkpoint(path: Path, *, parts: tuple[str, ...] | None = None) -> dict[str, Any]:
    """The same with a :class:`SavedTensor` for every tensor: all is checked, little is read."""
    manifest = _read_manifest(path)
    version, files = manifest.get("format_version"), manifest.get("files")
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {_short(version)}; this fastdqn reads {FORMAT_VERSION}."
        )
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}/manifest.json lists no files; it is damaged.")
    wanted = [name for name in files if parts is None or name.partition("-")[0] in parts]
    for name in dict.fromkeys([*wanted, "state.json"]):
        _check_file(path, name, files.get(name))
    with refusing(path):
        skeleton = parse_json(read_small(path / "state.json"))
        tensors = _index([path / name for name in wanted if name.endswith(".safetensors")])
        chosen = skeleton if parts is None else {part: skeleton[part] for part in parts}
        return {part: _join(content, tensors) for part, content in chosen.items()}


def open_newest(
    directory: Path, *, parts: tuple[str, ...] | None = None
) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint of a run that is whole; a warning names each that is not.

    Raises:
        CheckpointError: Where none is whole.
    """
    bad: list[str] = []
    for path in reversed(_list(directory)):
        try:
            state = open_checkpoint(path, parts=parts)
        except CheckpointError as error:
            bad.append(str(error))
            continue
        for message in bad:
            warnings.warn(f"{message} Going back to {path.name}.", stacklevel=3)
        return path, state
    if bad:
        raise CheckpointError(f"{directory} holds no whole checkpoint: {' '.join(bad)}")
    raise CheckpointError(
        f"{directory.parent} holds no checkpoint; name a run directory of `fastdqn train` that "
        f"wrote one."
    )


def materialize(value: Any, into: Any = None) -> Any:
    """Read every tensor of what :func:`open_checkpoint` gave.

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
            raise _misfit(where, _short(names), sorted(own))
        for name, item in own.items():
            if name == "generator":
                if not isinstance(saved[name], SavedTensor) or saved[name].dtype != torch.uint8:
                    raise _misfit(f"{where}/{name}", _short(saved[name]), "bytes")
            else:
                check_fits(saved[name], item, f"{where}/{name}")
    elif isinstance(own, Tensor):
        if not isinstance(saved, SavedTensor):
            raise _misfit(where, _short(saved), "a tensor")
        if (saved.dtype, saved.shape) != (own.dtype, tuple(own.shape)):
            raise _misfit(
                where,
                f"{saved.dtype} {_short(list(saved.shape))}",
                f"{own.dtype} {list(own.shape)}",
            )
    elif isinstance(own, bool):
        if type(saved) is not bool:
            raise _misfit(where, _short(saved), "true or false")
    elif isinstance(own, float):
        if type(saved) not in (int, float) or not abs(saved) < _MOST:
            raise _misfit(where, _short(saved), "a finite number")
    elif isinstance(own, int) and (type(saved) is not int or not 0 <= saved <= _MOST):
        raise _misfit(where, _short(saved), "a count")


def _misfit(where: str, found: Any, wanted: Any) -> CheckpointError:
    return CheckpointError(
        f"{where} is {found} in the checkpoint where this run has {wanted}; use the configuration "
        f"it was saved with."
    )


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever a file's content breaks is the checkpoint's fault, and said so."""
    try:
        yield
    except (FastDQNError, torch.OutOfMemoryError):
        raise
    except (*_UNREADABLE, AssertionError) as error:
        raise CheckpointError(f"{path} does not hold what it should ({_short(error)}).") from None


def load(path: PathLike, *, device: str = "auto", network: nn.Module | None = None) -> Policy:
    """The policy of a run directory's newest checkpoint, or of one checkpoint. Never unpickles.

    Of a run directory whose newest checkpoint is damaged, the newest that is whole is taken, with a
    warning that names the damaged file.

    Args:
        path: Run directory or checkpoint directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        network: Where the run trained a network of its own; its parameters are overwritten.

    Raises:
        CheckpointError: Where there is no checkpoint or it is damaged or does not fit.
    """
    from fastdqn.devices import resolve_device

    resolved = resolve_device(device)
    parts = ("run", "learner")
    path = Path(path)
    found = find_checkpoint(path)
    if found == path:
        state = open_checkpoint(path, parts=parts)
    else:
        found, state = open_newest(path / "checkpoints", parts=parts)
    try:
        with refusing(found):
            return _policy(found, state, resolved, network)
    except ConfigError as error:
        raise CheckpointError(f"{found} does not describe a policy ({error}).") from None


def _policy(
    path: Path, state: dict[str, Any], device: torch.device, network: nn.Module | None
) -> Policy:
    spec = state["run"]["spec"]
    saved = state["learner"]["network"]
    _check_spec(path, spec)
    config = Config.from_json(json.dumps(state["run"]["config"]))
    if network is None:
        if spec["own_network"]:
            raise CheckpointError(
                f"{path} was trained with a network of its own; pass it as load(..., network=)."
            )
        if len(config.hidden_sizes) > len(saved):
            raise CheckpointError(f"{path} describes more layers than it has parameters for.")
        with torch.device("meta"):  # no memory until the shapes are known to be those of the file
            network = make_network(
                spec["frame_shape"],
                spec["num_actions"],
                kind=config.network,
                frame_stack=spec["frame_stack"],
                image=spec["image"],
                hidden_sizes=config.hidden_sizes,
                dueling=config.dueling,
                batch_norm=config.batch_norm,
            )
        _check_network(network, saved)
        network = network.to_empty(device=device).eval().requires_grad_(False)
        materialize(saved, into=network.state_dict())
    else:
        network = network.to(device).eval().requires_grad_(False)
        _check_network(network, saved)
        load_network(network, materialize(saved))
    low = spec["bf16"]
    if low and isinstance(network, QNetwork):  # as it acted in training; others under autocast
        network, low = lower(network), False
    return Policy(
        network,
        frame_stack=spec["frame_stack"],
        stack_padding=spec["stack_padding"],
        action_start=spec["action_start"],
        device=device,
        autocast=low,
        seed=config.seed,
    )


def _check_network(network: nn.Module, saved: Any) -> None:
    if not isinstance(saved, dict) or not all(isinstance(s, SavedTensor) for s in saved.values()):
        raise TypeError("a network that is not made of tensors")
    own = network.state_dict()
    for name in sorted(own.keys() ^ saved.keys()):
        where = "missing from the checkpoint" if name in own else "unknown to this network"
        raise CheckpointError(
            f"{_short(name)} is {where}; use the network settings (or the network) it was saved "
            f"with."
        )
    for name, tensor in own.items():
        if tuple(tensor.shape) != saved[name].shape or tensor.dtype != saved[name].dtype:
            raise CheckpointError(
                f"{name!r} is {list(saved[name].shape)} {saved[name].dtype} in the checkpoint and "
                f"{list(tensor.shape)} {tensor.dtype} here; use the network settings it was saved "
                f"with."
            )


def _check_spec(path: Path, spec: dict[str, Any]) -> None:
    def count(value: Any, low: int = 1) -> bool:
        return type(value) is int and low <= value <= 2**31

    right = {
        "frame_shape": isinstance(spec["frame_shape"], list)
        and len(spec["frame_shape"]) <= 8
        and all(count(size) for size in spec["frame_shape"]),
        "num_actions": count(spec["num_actions"]),
        "frame_stack": spec["frame_stack"] is None or count(spec["frame_stack"]),
        "stack_padding": spec["stack_padding"] in ("zero", "repeat"),
        "action_start": type(spec["action_start"]) is int and abs(spec["action_start"]) < 2**62,
        **{name: type(spec[name]) is bool for name in ("image", "bf16", "own_network")},
    }
    for name, good in right.items():
        if not good:
            raise CheckpointError(
                f"{path} does not describe a policy ({name} = {_short(spec[name])})."
            )


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the newest of a run directory."""
    if os.path.lexists(path / "manifest.json"):
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist; name a run directory or a checkpoint.")
    found = latest_checkpoint(path / "checkpoints")
    if found is None:
        raise CheckpointError(
            f"{path} holds no checkpoint; name a run directory of `fastdqn train` that wrote one."
        )
    return found


def _list(directory: Path) -> list[Path]:
    """Checkpoints, oldest first. Links are none."""
    if not directory.is_dir():
        return []
    found: list[tuple[str, bool, Path]] = []
    for path in directory.iterdir():
        name = _NAME.fullmatch(path.name)
        if name and path.is_dir() and not path.is_symlink():
            found.append((name[1], name[2] is None, path))
    return [path for _, _, path in sorted(found)]


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        data = read_small(path / "manifest.json")
        manifest = parse_json(data)
        del manifest["crc32"]
        intact = data == _manifest(manifest)  # white space, too
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint: manifest.json cannot be read ({_short(error)})."
        ) from None
    if not intact:
        raise CheckpointError(f"{path}/manifest.json is damaged: its own checksum does not fit.")
    return manifest


def _split(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """JSON with a mark where a tensor was; the tensors go into ``tensors`` by path."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.array(value, order="C"))
    if isinstance(value, Tensor):
        while key in tensors:  # {"a/b": x, "a": {"b": y}}
            key += "'"
        tensors[key] = value
        return {_TENSOR: key}
    if isinstance(value, Mapping):
        return {name: _split(item, f"{key}/{name}", tensors) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, f"{key}/{number}", tensors) for number, item in enumerate(value)]
    return value


def _join(value: Any, tensors: Mapping[str, SavedTensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {name: _join(item, tensors) for name, item in value.items()}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
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


def _index(paths: list[Path]) -> dict[str, SavedTensor]:
    """Every tensor of the files by key; ValueError where pieces do not make up a whole."""
    pieces: dict[str, dict[int, tuple[int, Path, Entry]]] = {}
    for path in paths:
        with open_regular(path) as file:
            entries = read_header(file)
        for name, entry in entries.items():
            key, start, length = name.rsplit("#", 2)
            found = pieces.setdefault(key, {})
            if int(start) in found:
                raise ValueError(f"{_short(key)} has rows twice")
            found[int(start)] = int(length), path, entry
    return {key: _assemble(key, found) for key, found in pieces.items()}


def _assemble(key: str, found: dict[int, tuple[int, Path, Entry]]) -> SavedTensor:
    length, path, first = next(iter(found.values()))
    if not first.shape:
        if len(found) > 1:
            raise ValueError(f"{_short(key)} has pieces but no rows")
        return SavedTensor(first.dtype, (), ((path, first),))
    rows, ordered = 0, []
    for start in sorted(found):
        same, path, entry = found[start]
        if start != rows or same != length or entry.dtype != first.dtype:
            raise ValueError(f"{_short(key)} lacks rows after {rows}")
        if entry.shape[1:] != first.shape[1:] or not entry.shape:
            raise ValueError(f"{_short(key)} has rows of several shapes")
        rows += entry.shape[0]
        ordered.append((path, entry))
    if rows != length:
        raise ValueError(f"{_short(key)} has {rows} of {length} rows")
    return SavedTensor(first.dtype, (length, *first.shape[1:]), tuple(ordered))


def _check_file(directory: Path, name: str, entry: Any) -> None:
    path = f"{directory}/{_short(name) if len(name) > 100 else name}"
    if not isinstance(entry, dict):
        raise CheckpointError(f"{path} is not in the checkpoint's manifest; it is damaged.")
    try:
        if name != Path(name).name:
            raise OSError("leads out of the checkpoint")
        file = open_regular(directory / name)
    except (OSError, ValueError):
        raise CheckpointError(f"{path} is missing; the checkpoint is not whole.") from None
    try:
        with file:
            size = os.fstat(file.fileno()).st_size
            whole = size == entry.get("bytes") and crc32_of(file) == entry.get("crc32")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error}).") from None
    if not whole:
        raise CheckpointError(f"{path} is damaged: size or checksum differ from the manifest.")


def _short(value: Any) -> str:
    """In words, cut short: it may be a forger's, and long."""
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _manifest(body: Mapping[str, Any]) -> bytes:
    """The text of manifest.json, with its own checksum."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({"crc32": zlib.crc32(canonical), **body}, indent=1).encode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
