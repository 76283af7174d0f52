"""A model or a replay in one file: a checkpoint, which holds no pickle, as an uncompressed zip."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from fastdqn.checkpoints.store import load_checkpoint, save_checkpoint
from fastdqn.config.checks import shown
from fastdqn.errors import CheckpointError, ConfigError, cut_short
from fastdqn.system.file_systems import replace

PathOrFile = str | os.PathLike[str] | IO[bytes]

_SUFFIX = ".zip"
_KIND = "fastdqn.integrations.sb3"


def write_file(path: PathOrFile, part: str, state: Mapping[str, Any], env_steps: int) -> None:
    """Write a file, whole or not at all; directories on the way to it are made.

    Args:
        path: A path, to which ``.zip`` is added where it has no suffix; or a file open to write.
        part: What it holds, by which it is told from others.
        state: As for :func:`fastdqn.checkpoints.store.save_checkpoint`.
        env_steps: Into the manifest.

    Raises:
        CheckpointError: Where the disk refuses.
        ConfigError: Where path is none.
    """
    _check(path, "write")
    file: Any = path
    target = None
    if isinstance(path, str | os.PathLike):
        target = Path(path)
        target = target if target.suffix else target.with_name(target.name + _SUFFIX)
    try:
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            file = target.with_name(f"{target.name}.tmp-{os.getpid()}")
        with tempfile.TemporaryDirectory(dir=None if target is None else target.parent) as scratch:
            whole = {"kind": {"kind": _KIND, "part": part}, **state}
            made = save_checkpoint(Path(scratch), env_steps, whole, 1)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
                for piece in sorted(made.iterdir()):
                    archive.write(piece, piece.name)
        if target is not None:
            replace(file, target)
    except OSError as error:
        if target is not None:
            with suppress(OSError):  # what is no directory has no files
                Path(file).unlink()
        raise CheckpointError(
            f"{path} cannot be written ({error}); make room, or take another path."
        ) from None


def read_file(path: PathOrFile, part: str) -> dict[str, Any]:
    """What :func:`write_file` wrote; every byte is checked, and nothing in it is executed.

    Raises:
        CheckpointError: Where the file is missing, damaged or of another kind.
        ConfigError: Where path is none.
    """
    _check(path, "read")
    if isinstance(path, str | os.PathLike):
        path = _found(Path(path))
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
            if sum(entry.file_size for entry in archive.infolist()) > archive.start_dir:
                raise ValueError("it has less than it says")
            for entry in archive.infolist():
                plain = entry.filename == Path(entry.filename).name != ""
                if not plain or entry.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{cut_short(entry.filename)} is no file of a model")
                archive.extract(entry, scratch)
            state = load_checkpoint(Path(scratch))
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is no file that fastdqn wrote, or is damaged ({cut_short(error)}); files of "
            f"SB3's own DQN are read by that only."
        ) from None
    kind = state.pop("kind", None)
    if kind != {"kind": _KIND, "part": part}:
        raise CheckpointError(f"{path} holds another thing than a {part}; take another.")
    return state


def _check(path: Any, method: str) -> None:
    named = isinstance(path, str | os.PathLike) and Path(path).name
    if not named and (isinstance(path, io.TextIOBase) or not hasattr(path, method)):
        raise ConfigError(
            f"path = {shown(path)} names no file; pass a path, or a file open in binary mode."
        )


def _found(path: Path) -> Path:
    """The file, with its suffix where that was left out."""
    for name in (path, path.with_name(path.name + _SUFFIX)):
        if name.is_file():
            return name
    raise CheckpointError(f"{path} does not exist, nor does {path.name}{_SUFFIX} beside it.")
