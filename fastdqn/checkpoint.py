"""Checkpoints: complete, checked, atomic, and free of pickle.

A checkpoint is a directory ``step_<env steps>`` with ``state.json`` (everything that is not a
tensor), safetensors files of at most 256 MB, and ``manifest.json``, which holds size and CRC-32 of
every file and of itself. It is written under a temporary name, flushed to the disk and renamed;
only then does the file ``latest`` name it, and only then are older ones deleted. Nothing in it is
executed on loading.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fastdqn.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.learner import load_network
from fastdqn.networks import make_network
from fastdqn.policy import Policy

FORMAT_VERSION = 1
_CHUNK = 256 * 1024**2  # bytes per file: what a save needs on the host beside the replay itself
_TENSOR = "__tensor__"  # key that marks a tensor's place in state.json
_NAME = re.compile(r"step_(\d{12})")

PathLike = str | os.PathLike[str]


def save_checkpoint(directory: Path, env_steps: int, state: Mapping[str, Any], keep: int) -> Path:
    """Write one checkpoint and delete all but the newest ``keep``.

    Args:
        directory: The run's ``checkpoints``.
        env_steps: Names the checkpoint.
        state: Nested dicts with string keys; leaves are tensors, arrays (which come back as
            tensors), or JSON values (numpy's scalars too). Each top-level entry becomes a set of
            files of its own.
        keep: Checkpoints to keep, this one included.

    Returns:
        The checkpoint's directory.

    Raises:
        CheckpointError: Where the disk refuses; earlier checkpoints stay as they are.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for orphan in directory.glob("step_*.tmp-*"):
        shutil.rmtree(orphan, ignore_errors=True)
    final = directory / f"step_{env_steps:012d}"
    temporary = directory / f"{final.name}.tmp-{os.getpid()}"
    temporary.mkdir()
    try:
        _write(temporary, env_steps, state)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)  # whatever stopped it, a full disk first
        if isinstance(error, OSError | SafetensorError):
            raise CheckpointError(f"{final} cannot be written ({error}); make room.") from None
        raise
    if final.exists():  # out of the way until the new one is in its place
        replaced = directory / f"{final.name}.tmp-replaced"
        final.rename(replaced)
        temporary.rename(final)
        shutil.rmtree(replaced, ignore_errors=True)
    else:
        temporary.rename(final)
    _sync(directory)
    pointer = directory / "latest.tmp"
    pointer.write_text(final.name + "\n", encoding="utf-8")
    os.replace(pointer, directory / "latest")
    for old in _list(directory)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def _write(temporary: Path, env_steps: int, state: Mapping[str, Any]) -> None:
    """All files of one checkpoint, on the disk when this returns."""
    skeleton: dict[str, Any] = {}
    for part, content in state.items():
        tensors: dict[str, Tensor] = {}
        skeleton[part] = _split(content, part, tensors)
        for number, chunk in enumerate(_chunks(tensors)):
            save_file(chunk, temporary / f"{part}-{number:05d}.safetensors")
    (temporary / "state.json").write_text(json.dumps(skeleton), encoding="utf-8")
    files = {
        path.name: {"bytes": path.stat().st_size, "crc32": _crc32(path)}
        for path in sorted(temporary.iterdir())
    }
    body = {"format_version": FORMAT_VERSION, "env_steps": env_steps, "files": files}
    manifest = {"crc32": zlib.crc32(_canonical(body)), **body}
    (temporary / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    for path in temporary.iterdir():
        path.chmod(0o666 & ~_umask())  # safetensors makes its files private
        _sync(path)
    _sync(temporary)


def latest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint in a run's ``checkpoints``, or None."""
    found = _list(directory)
    return found[-1] if found else None


def load_checkpoint(path: Path, *, parts: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Read a checkpoint back, every file checked against the manifest first.

    Args:
        path: The checkpoint's directory.
        parts: Top-level entries to read; None reads all.

    Raises:
        CheckpointError: Where anything is missing, damaged or of another version.
    """
    try:
        manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        checksum = manifest.pop("crc32")
        intact = checksum == zlib.crc32(_canonical(manifest))
        version, files = manifest["format_version"], dict(manifest["files"])
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not a whole checkpoint: manifest.json cannot be read ({error})."
        ) from None
    if not intact:
        raise CheckpointError(f"{path}/manifest.json is damaged: its own checksum does not fit.")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} has format_version {version!r}; this fastdqn reads {FORMAT_VERSION}."
        )
    wanted = [name for name in files if parts is None or name.partition("-")[0] in parts]
    try:
        for name in dict.fromkeys([*wanted, "state.json"]):
            _check_file(path, name, files.get(name))
        skeleton = json.loads((path / "state.json").read_text(encoding="utf-8"))
        tensors = _read_tensors([path / name for name in wanted if name.endswith(".safetensors")])
        chosen = skeleton if parts is None else {part: skeleton[part] for part in parts}
        return {part: _join(content, tensors) for part, content in chosen.items()}
    except CheckpointError:
        raise
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path} does not hold what it should ({error}).") from None


def load(path: PathLike, *, device: str = "auto", network: nn.Module | None = None) -> Policy:
    """The policy of a run directory's newest checkpoint, or of one checkpoint. Never unpickles.

    Args:
        path: Run directory or checkpoint directory.
        device: ``auto``, ``cpu`` or ``cuda``.
        network: Where the run trained a network of its own; its parameters are overwritten.

    Raises:
        CheckpointError: Where there is no checkpoint or it is damaged or does not fit.
    """
    from fastdqn.devices import resolve_device

    resolved = resolve_device(device)
    path = find_checkpoint(Path(path))
    state = load_checkpoint(path, parts=("run", "learner"))
    try:
        spec = state["run"]["spec"]
        config = Config.from_json(json.dumps(state["run"]["config"]))
        if network is None:
            if spec["own_network"]:
                raise CheckpointError(
                    f"{path} was trained with a network of its own; pass it as load(..., network=)."
                )
            network = make_network(
                spec["frame_shape"],
                spec["num_actions"],
                kind=config.network,
                frame_stack=spec["frame_stack"],
                image=spec["image"],
                hidden_sizes=config.hidden_sizes,
                dueling=config.dueling,
            )
        network = network.to(resolved).eval().requires_grad_(False)
        load_network(network, state["learner"]["network"])
        return Policy(
            network,
            frame_stack=spec["frame_stack"],
            stack_padding=spec["stack_padding"],
            action_start=spec["action_start"],
            device=resolved,
            bf16=spec["bf16"],
            seed=config.seed,
        )
    except (KeyError, TypeError, ConfigError) as error:
        raise CheckpointError(f"{path} does not describe a policy ({error}).") from None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint that a path means: itself, or the newest of a run directory."""
    if (path / "manifest.json").exists():
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
    """Complete checkpoints, oldest first."""
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


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


def _join(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {name: _join(item, tensors) for name, item in value.items()}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value


def _chunks(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Host copies in lots of at most _CHUNK bytes; long tensors are cut along axis 0.

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
            lot[f"{key}#{start}#{length}"] = piece.detach().cpu().contiguous().clone()
            room -= size
            start += rows
            if start >= length:
                break
    if lot:
        yield lot


def _read_tensors(paths: list[Path]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    filled: dict[str, int] = {}
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                key, start, length = name.rsplit("#", 2)
                piece = file.get_tensor(name)
                if piece.dim() == 0 or piece.shape[0] == int(length):
                    tensors[key] = piece
                    continue
                if key not in tensors:
                    tensors[key] = piece.new_empty((int(length), *piece.shape[1:]))
                tensors[key][int(start) : int(start) + piece.shape[0]] = piece
                filled[key] = filled.get(key, 0) + piece.shape[0]
    for key, rows in filled.items():
        if rows != tensors[key].shape[0]:
            raise ValueError(f"{key} has {rows} of {tensors[key].shape[0]} rows")
    return tensors


def _check_file(directory: Path, name: str, entry: Any) -> None:
    path = directory / name
    if not isinstance(entry, dict):
        raise CheckpointError(f"{path} is not in the checkpoint's manifest; it is damaged.")
    if name != path.name or not path.is_file() or path.is_symlink():
        raise CheckpointError(f"{path} is missing; the checkpoint is not whole.")
    if path.stat().st_size != entry.get("bytes") or _crc32(path) != entry.get("crc32"):
        raise CheckpointError(f"{path} is damaged: size or checksum differ from the manifest.")


def _crc32(path: Path) -> int:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def _canonical(body: Any) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
