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
import shutil
import warnings
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fastdqn.checkpoints.names import NAME, REPLACED, list_checkpoints
from fastdqn.checkpoints.names import find_checkpoint as find_checkpoint
from fastdqn.checkpoints.names import latest_checkpoint as latest_checkpoint
from fastdqn.checkpoints.state_tree import (
    cut_into_lots,
    find_tensors,
    join_tensors,
    materialize,
    split_tensors,
)
from fastdqn.checkpoints.tensor_file import (
    check_json,
    crc32_of,
    open_regular,
    parse_json,
    read_small,
    write_tensors,
)
from fastdqn.errors import CheckpointError, FastDQNError, cut_short
from fastdqn.system.file_systems import move_directory, sync_directory, sync_file

FORMAT_VERSION = 1
_MANIFEST = "manifest.json"  # written last: without it there is no checkpoint

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
    temporary = _free(directory / f"{final.name}.tmp-{os.getpid()}")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        clean(directory)
        temporary.mkdir()
        _write(temporary, env_steps, state, score)
        replaced = directory / f"{final.name}{REPLACED}"
        if os.path.lexists(final):  # out of the way until the new one is in its place
            move_directory(final, replaced, last=_MANIFEST)
        move_directory(temporary, final, last=_MANIFEST)
        sync_directory(directory)
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
        whole = orphan.with_name(orphan.name.partition(".tmp-")[0])
        if not os.path.lexists(whole / _MANIFEST):  # killed while it moved file by file
            _remove(whole)
        if orphan.name.endswith(REPLACED) and not os.path.lexists(whole):
            with suppress(OSError):  # else it is found under this name, too
                # The save was killed between its two renames.
                move_directory(orphan, whole, last=_MANIFEST)
        else:
            _remove(orphan)


def _free(path: Path) -> Path:
    """The path, or where that is taken the next one: a share may keep what was deleted."""
    taken, number = path, 1
    while os.path.lexists(path):
        number += 1
        path = taken.with_name(f"{taken.name}-{number}")
    return path


def _prune(directory: Path, newest: Path, keep: int, keep_best: bool) -> None:
    try:
        found = list_checkpoints(directory)
    except OSError:  # the checkpoint is there; the next one prunes
        return
    if newest not in found:  # a share may list what was there a second ago
        return
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
    if NAME.fullmatch(path.name) and os.path.lexists(path):
        hidden = _free(path.with_name(f"{path.name}.tmp-removed"))
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
            skeleton[part] = split_tensors(content, part, tensors)
            for number, chunk in enumerate(cut_into_lots(tensors)):
                name = f"{part}-{number:05d}.safetensors"
                files[name] = write_tensors(temporary / name, chunk)
                flushed.append(disk.submit(sync_file, temporary / name))
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
    for name, data in (("state.json", text), (_MANIFEST, manifest)):
        try:
            check_json(data)
        except ValueError as error:
            raise CheckpointError(f"{name} would hold {error}.") from None
        (temporary / name).write_bytes(data)
        sync_file(temporary / name)
    sync_directory(temporary)


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
            f"{path} has format_version {cut_short(version)}; this fastdqn reads {FORMAT_VERSION}."
        )
    if not isinstance(files, dict):
        raise CheckpointError(f"{path}/manifest.json lists no files; it is damaged.")
    wanted = [name for name in files if parts is None or name.partition("-")[0] in parts]
    for name in dict.fromkeys([*wanted, "state.json"]):
        _check_file(path, name, files.get(name))
    with refusing(path):
        skeleton = parse_json(read_small(path / "state.json"))
        tensors = find_tensors([path / name for name in wanted if name.endswith(".safetensors")])
        chosen = skeleton if parts is None else {part: skeleton[part] for part in parts}
        return {part: join_tensors(content, tensors) for part, content in chosen.items()}


def open_newest(
    directory: Path, *, parts: tuple[str, ...] | None = None
) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint of a run that is whole; a warning names each that is not.

    Raises:
        CheckpointError: Where none is whole.
    """
    bad: list[str] = []
    for path in reversed(list_checkpoints(directory)):
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


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Whatever a file's content breaks is the checkpoint's fault, and said so."""
    try:
        yield
    except (FastDQNError, torch.OutOfMemoryError):
        raise
    except (*_UNREADABLE, AssertionError) as error:
        raise CheckpointError(
            f"{path} does not hold what it should ({cut_short(error)})."
        ) from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        data = read_small(path / _MANIFEST)
        manifest = parse_json(data)
        del manifest["crc32"]
        intact = data == _manifest(manifest)  # white space, too
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint: manifest.json cannot be read ({cut_short(error)})."
        ) from None
    if not intact:
        raise CheckpointError(f"{path}/manifest.json is damaged: its own checksum does not fit.")
    return manifest


def _check_file(directory: Path, name: str, entry: Any) -> None:
    path = f"{directory}/{cut_short(name) if len(name) > 100 else name}"
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


def _manifest(body: Mapping[str, Any]) -> bytes:
    """The text of manifest.json, with its own checksum."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":")).encode()
    return json.dumps({"crc32": zlib.crc32(canonical), **body}, indent=1).encode()
