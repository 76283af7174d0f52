"""Checkpoints made to harm, their checksums right: all that may come of them is a refusal.

What is allowed: CheckpointError; ConfigError where the run's directory itself is refused (a link
where it would write, a bad config.json); and, where the forgery is a state that a run could have
had, to go on with it, which may end in the TrainingError of numbers that are not finite.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import pickle
import random
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

import fastdqn
from benchmarks.reliability import Outcome
from fastdqn import Config
from fastdqn.checkpoints import store
from fastdqn.checkpoints.store import load_checkpoint
from fastdqn.checkpoints.tensor_file import MAX_JSON
from fastdqn.errors import CheckpointError, ConfigError, TrainingError
from fastdqn.training.run_state import restore_run
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer

FIGURE = (
    "5,000 fuzz runs: only CheckpointError (ConfigError for the directory), 0 writes outside, "
    "nothing executed, RSS growth < 2x file + 16 MB"
)
COUNT, SHORT_COUNT = 5_000, 300
SLACK = 16 * 2**20
CLEAR_REFS = "/proc/self/clear_refs"  # writing 5 starts the peak of memory anew
TARGETS = ("load_checkpoint", "fastdqn.load", "resume")

Forgery = Callable[[Path, random.Random, Path], None]


def run(short: bool) -> Outcome:
    count = SHORT_COUNT if short else COUNT
    watch = Watch()
    ends: Counter[str] = Counter()
    faults: list[str] = []
    growth, slowest = 0.0, 0.0
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        scratch = Path(temporary)
        config = _make_run(scratch / "original")
        sentinel = scratch / "sentinel"
        sentinel.mkdir()
        for name in ("file", "file.json"):
            (sentinel / name).write_text("untouched")
        (sentinel / "directory").mkdir()
        (sentinel / "directory" / "inside").write_text("untouched")
        before = _tree(sentinel)
        gc.collect()
        gc.freeze()  # else every measurement would walk through all of torch
        stack.callback(gc.unfreeze)
        for trial in range(count):
            rng = random.Random(trial)
            run_dir = scratch / "run"
            shutil.copytree(scratch / "original", run_dir)
            path = next((run_dir / "checkpoints").iterdir())
            done = forge(path, rng, sentinel)
            size = sum(f.lstat().st_size for f in path.iterdir()) if path.exists() else 0
            target = TARGETS[trial % 3]
            what = f"{trial} {target}: {', '.join(done)}"
            began = time.perf_counter()
            with watch.over(run_dir):
                end, grown = _attack(target, path, run_dir, config)
            slowest = max(slowest, time.perf_counter() - began)
            ends[f"{target}: {end.partition(':')[0]}"] += 1
            if end not in ("CheckpointError", "ConfigError", "TrainingError", "accepted"):
                faults.append(f"{what}: {end}")
            growth = max(growth, grown - 2 * size)
            if grown > 2 * size + SLACK:
                faults.append(f"{what}: {grown / 1e6:.0f} MB for {size / 1e6:.1f} MB of files")
            if _tree(sentinel) != before:
                faults.append(f"{what}: wrote outside")
                before = _tree(sentinel)
            faults += [f"{what}: {event}" for event in watch.take()]
            shutil.rmtree(run_dir)
    return Outcome(
        f"{count} forgeries: {len(faults)} faults; refused "
        f"{sum(n for e, n in ends.items() if not e.endswith('accepted'))}, harmless "
        f"{sum(n for e, n in ends.items() if e.endswith('accepted'))}; memory at most 2x file "
        f"{growth / 2**20:+.1f} MB",
        not faults,
        {"ends": dict(ends), "faults": faults[:50], "slowest_s": slowest, "growth": growth},
    )


def _attack(target: str, path: Path, run_dir: Path, config: Config) -> tuple[str, float]:
    """How it ended, and by how much memory grew."""
    trainer = None
    try:
        with _no_unpickling():
            if target == "resume":
                trainer = Trainer(config.replace(run_dir=str(run_dir), resume="require"))
            with _growth() as grown:
                try:
                    if target == "load_checkpoint":
                        load_checkpoint(path)
                    elif target == "fastdqn.load":
                        fastdqn.load(run_dir if path.stat().st_size % 2 else path, device="cpu")
                    elif trainer is not None:
                        restore_run(trainer)
                except (CheckpointError, ConfigError) as error:
                    return type(error).__name__, grown()
                memory = grown()
            if trainer is not None:  # and go on: nothing that was let in may break the run
                with contextlib.suppress(TrainingError):
                    _go_on(trainer)
        return "accepted", memory
    except (CheckpointError, ConfigError) as error:
        return type(error).__name__, 0.0
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})", 0.0
    finally:
        if trainer is not None:
            trainer.close()


def _go_on(trainer: Trainer) -> None:
    from fastdqn.system.signals import StopSignals

    with StopSignals() as signals:
        trainer.run(lambda row: True, signals)


def _make_run(run_dir: Path) -> Config:
    config = Config(
        total_env_steps=600,
        num_envs=4,
        learning_starts_env_steps=100,
        hidden_sizes=(8,),
        batch_size=8,
        replay_capacity=400,
        prioritized=True,
        eval_episodes=0,
        log_period_env_steps=40,
        device="cpu",
        torch_threads=1,
        save_final_checkpoint=True,
        run_dir=str(run_dir),
    )
    train(config)
    for name in ("returns.png", "summary.json"):
        (run_dir / name).unlink()
    return config.replace(total_env_steps=1_200)


# --- forging -----------------------------------------------------------------------------------


def forge(path: Path, rng: random.Random, sentinel: Path) -> list[str]:
    """One to three forgeries, then right sizes and checksums (mostly); their names."""
    chosen = rng.choices(FORGERIES, k=rng.choice([1, 1, 1, 2, 3]))
    done = []
    for forgery in chosen:
        done.append(forgery.__name__.lstrip("_"))
        try:
            forgery(path, rng, sentinel)
        except Exception:  # of the forger, not of what is tested
            done[-1] += " (not possible any more)"
        if forgery in UNSIGNED:
            return done  # it has written the manifest, or changed nothing that is in it
    if rng.random() < 0.95:
        sign(path)
    return done


def sign(path: Path, change: Callable[[dict[str, Any]], None] = lambda body: None) -> None:
    """A manifest that fits the files that are there."""
    files = {}
    for file in sorted(path.iterdir()):
        if file.name != "manifest.json" and file.is_file():
            with file.open("rb") as opened:  # as far as a forger would go
                data = opened.read(2**27)
            files[file.name] = {"bytes": len(data), "crc32": zlib.crc32(data)}
    body = {"format_version": 1, "env_steps": 600, "score": None, "files": files}
    change(body)
    (path / "manifest.json").unlink(missing_ok=True)
    (path / "manifest.json").write_bytes(store._manifest(body))


def nasty(rng: random.Random) -> Any:
    """A value that nobody expects."""
    deep: Any = []
    for _ in range(rng.choice([3, 100, 400])):
        deep = [deep] if rng.random() < 0.5 else {"x": deep}
    values = [
        float("nan"), float("inf"), -float("inf"), -1, 0, 1, 2**31, 2**53, 2**63, -(2**63), 10**30,
        10**4000, 1e308, 0.5, True, False, None, "", "x" * 10_000, "\ud800", "\0", "../../x", [],
        {}, [[]], deep, {"__tensor__": "learner/statistics"}, {"__tensor__": []},
        {"__tensor__": "nowhere"}, {"__tensor__": None}, [1] * 1000, "cos\nsystem\n", [-1, 4],
        [65_536] * 3, [65_536] * 50_000, [2**31] * 8, [0], "zero",
    ]  # fmt: skip
    return rng.choice(values)


def _places(body: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    found = [] if found is None else found
    items = body.items() if isinstance(body, dict) else enumerate(body)
    for key, value in items:
        found.append((body, key))
        if isinstance(value, dict | list):
            _places(value, found)
    return found


def _state_value(path: Path, rng: random.Random, _: Path) -> None:
    body = json.loads((path / "state.json").read_text())
    for _i in range(rng.choice([1, 1, 3])):
        container, key = rng.choice(_places(body))
        container[key] = nasty(rng)
    (path / "state.json").write_text(json.dumps(body))


def _state_policy(path: Path, rng: random.Random, _: Path) -> None:
    body = json.loads((path / "state.json").read_text())
    part = body["run"][rng.choice(["spec", "config"])]
    part[rng.choice(list(part))] = nasty(rng)
    (path / "state.json").write_text(json.dumps(body))


def _state_counter(path: Path, rng: random.Random, _: Path) -> None:
    body = json.loads((path / "state.json").read_text())
    numbers = [(c, k) for c, k in _places(body) if type(c[k]) in (int, float)]
    for container, key in rng.choices(numbers, k=rng.choice([1, 2, 5])):
        container[key] = rng.choice(
            [0, 1, 7, 10**6, 2**40, 2**53, 2**53 + 1, -1, container[key] + 1]
        )
    (path / "state.json").write_text(json.dumps(body))


def _state_keys(path: Path, rng: random.Random, _: Path) -> None:
    body = json.loads((path / "state.json").read_text())
    places = [(c, k) for c, k in _places(body) if isinstance(c, dict)]
    container, key = rng.choice(places)
    if rng.random() < 0.6:
        del container[key]
    else:
        container[rng.choice(["", "x" * 5_000, "__tensor__", "../x", "\ud800"])] = nasty(rng)
    (path / "state.json").write_text(json.dumps(body))


def _raw(rng: random.Random) -> bytes:
    bomb = rng.choice([b"[],", b"{},", b'{"a":1},', b"0,", b'"",', b"1e5,", b'{"":[]},'])
    return rng.choice(
        [
            b"", b"{", b"null", b"[]", b"3", b'"x"', b"\x80\x04\x95", b"\xff\xfe{\x00}\x00",
            b"\xef\xbb\xbf{}", "{\"ä\": 1}".encode("latin-1"), b"[" * 100_000,
            b'{"a":' * 50_000 + b"1" + b"}" * 50_000, b'{"run": ' + b"9" * 100_000 + b"}",
            b'{"run": NaN, "learner": -Infinity}', pickle_bytes(), torch_bytes(),
            b"[" + bomb * (99_000 // (bomb.count(b",") + 1)) + b"0]",
            b"[" + bomb * (MAX_JSON // len(bomb)) + b"0]",
            b'"' + b"x" * (MAX_JSON - 200) + b"\\ud83d\\ude00" + b'"',
            b'"' + b"x" * (8 * MAX_JSON) + b'"', rng.randbytes(rng.choice([1, 8, 100, 10_000])),
        ]
    )  # fmt: skip


def _state_raw(path: Path, rng: random.Random, _: Path) -> None:
    (path / "state.json").write_bytes(_raw(rng))


def _manifest_raw(path: Path, rng: random.Random, _: Path) -> None:
    (path / "manifest.json").write_bytes(_raw(rng))


def _manifest_value(path: Path, rng: random.Random, sentinel: Path) -> None:
    def change(body: dict[str, Any]) -> None:
        entry = body["files"].pop("state.json")
        names = [
            "../../../sentinel/file", str(sentinel / "file"), "", ".", "..", "/", "\0", "x" * 300,
            "x" * 100_000, "\ud800", "run-00000.safetensors/../state.json", "/dev/zero",
        ]  # fmt: skip
        kind = rng.randrange(5)
        if kind == 0:
            body["files"][rng.choice(names)] = entry
            body["files"]["state.json"] = entry
        elif kind == 1:
            body["files"][f"run-{rng.choice(names)}.safetensors"] = entry
            body["files"]["state.json"] = entry
        elif kind == 2:
            body["format_version"] = rng.choice([2, 99, 0, -1, True, 1.0, "1", None, [1], 10**100])
            body["files"]["state.json"] = entry
        elif kind == 3:
            body["files"]["state.json"] = nasty(rng)
        else:
            body[rng.choice(["files", "format_version", "env_steps"])] = nasty(rng)

    sign(path, change)


# --- files of tensors


def _read(file: Path) -> tuple[dict[str, Any], bytes]:
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def _put(file: Path, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _tensors(path: Path, rng: random.Random) -> Path:
    return rng.choice(sorted(path.glob("*.safetensors")))


def _tensor_entry(path: Path, rng: random.Random, _: Path) -> None:
    file = _tensors(path, rng)
    header, data = _read(file)
    name = rng.choice(list(header))
    entry = header[name]
    begin, end = entry["data_offsets"]
    kind = rng.randrange(8)
    if kind == 0:
        same = {1: ["BOOL", "U8", "I8"], 2: ["F16", "BF16", "I16"], 4: ["F32", "I32", "U32"],
                8: ["F64", "I64", "U64"]}  # fmt: skip
        width = next(w for w, names in same.items() if entry["dtype"] in names)
        entry["dtype"] = rng.choice([n for n in same[width] if n != entry["dtype"]])
    elif kind == 1:
        entry["dtype"] = rng.choice(["F8_E4M3", "C64", "object", "", None, 3, "f32"])
    elif kind == 2:
        entry["shape"] = rng.choice(
            [[*entry["shape"], 1], [1, *entry["shape"]], entry["shape"][::-1], [2**62, 0], [0],
             [2**40, 2**40], [-1], [-1, -1], [2**63], [0.5], [True], "x", None, {}, [[1]],
             [1] * 200]
        )  # fmt: skip
    elif kind == 3:
        entry["data_offsets"] = rng.choice(
            [[0, 0], [end, begin], [begin, end + 8], [-8, end], [0, 2**62], [2**63, 2**63], [0],
             [begin + 8, end + 8], None, [0.0, 8.0], ["0", "8"]]
        )  # fmt: skip
    elif kind == 4:
        header[rng.choice([name.replace("#0#", "#1#"), name.split("#")[0], f"{name}#0#1",
                           name.rsplit("#", 1)[0] + "#" + str(2**60), name + "0", "../x#0#1",
                           name.replace("#0#", "#-1#")])] = header.pop(name)  # fmt: skip
    elif kind == 5:
        del header[name]
    elif kind == 6:
        header[f"alias/{name}"] = dict(entry)  # the same bytes twice
    else:
        header[name] = nasty(rng)
    _put(file, header, data)


def _tensor_reshaped(path: Path, rng: random.Random, _: Path) -> None:
    """Another shape or dtype in a file that is right in itself."""
    file = _tensors(path, rng)
    header, data = _read(file)
    name = rng.choice(list(header))
    new: dict[str, Any] = {}
    out = b""
    for key, entry in header.items():
        piece = data[slice(*entry["data_offsets"])]
        if key == name:
            size = rng.choice([0, 1, 3, 16, 4096, 2**20])
            piece = rng.choice([bytes(size * 4), b"\xff" * size * 4, rng.randbytes(size * 4)])
            shape = rng.choice([[size], [size, 1], [1, size]])
            entry = {"dtype": rng.choice(["F32", "I32"]), "shape": shape}
            if shape[0] and rng.random() < 0.7:
                key = f"{key.split('#')[0]}#0#{shape[0]}"
        new[key] = {**entry, "data_offsets": [len(out), len(out) + len(piece)]}
        out += piece
    _put(file, new, out)


def _tensor_data(path: Path, rng: random.Random, _: Path) -> None:
    """Other numbers: NaN, negative indices, random generators."""
    for file in rng.sample(sorted(path.glob("*.safetensors")), rng.choice([1, 1, 2])):
        header, data = _read(file)
        changed = bytearray(data)
        for name in rng.choices(list(header), k=rng.choice([1, 1, 3])):
            begin, end = header[name]["data_offsets"]
            size = end - begin
            changed[begin:end] = rng.choice(
                [b"\xff" * size, bytes(size), rng.randbytes(size), b"\x7f" * size,
                 (struct.pack("<f", float("nan")) * size)[:size],
                 (struct.pack("<f", -1.0) * size)[:size], (struct.pack("<q", 2**62) * size)[:size]]
            )  # fmt: skip
        _put(file, header, bytes(changed))


def _tensor_raw(path: Path, rng: random.Random, _: Path) -> None:
    file = _tensors(path, rng)
    raw = _raw(rng)
    length = rng.choice([len(raw), 0, 1, 2**63, 2**64 - 1, len(raw) + 1, 100 * 2**20, 8])
    file.write_bytes(rng.choice([struct.pack("<Q", length) + raw, raw]))


# --- what a directory may hold


def _no_file(path: Path, rng: random.Random, sentinel: Path) -> None:
    victim = rng.choice(sorted(path.iterdir()))
    victim.unlink()
    kind = rng.randrange(6)
    if kind == 0:
        victim.symlink_to(sentinel / "file")
    elif kind == 1:
        os.mkfifo(victim)
    elif kind == 2:
        victim.mkdir()
    elif kind == 3:
        victim.symlink_to(rng.choice(["/dev/zero", "/dev/stdin", "/proc/self/mem", victim.name]))
    elif kind == 4:
        with victim.open("wb") as file:
            file.truncate(rng.choice([2**22, 2**24]))  # of zeros, a hole
    if kind in (0, 1, 2, 3) and victim.name != "manifest.json":
        (path / "x").write_bytes(b"")
        _sign_kept(path, victim.name)


def _sign_kept(path: Path, name: str) -> None:
    """A manifest that also lists what is no file."""
    sign(path, lambda body: body["files"].update({name: {"bytes": 9, "crc32": 0}}))


def _unpicklable(path: Path, rng: random.Random, _: Path) -> None:
    rng.choice(sorted(path.iterdir())).write_bytes(rng.choice([pickle_bytes(), torch_bytes()]))


def _around(path: Path, rng: random.Random, sentinel: Path) -> None:
    """Not the checkpoint, but the run's directory."""
    run_dir = path.parents[1]
    kind = rng.randrange(9)
    if kind == 0:
        name = rng.choice(["metrics.csv", "config.json", "lock"])
        (run_dir / name).unlink()
        (run_dir / name).symlink_to(sentinel / "file.json")
    elif kind == 1:
        name = rng.choice(["config.json.tmp", "metrics.csv.tmp", "summary.json.tmp",
                           "summary.json", "returns.png"])  # fmt: skip
        (run_dir / name).symlink_to(sentinel / "file")
    elif kind == 2:
        (path.parent / "step_000000000001.tmp-1").symlink_to(sentinel / "directory")
    elif kind == 3:
        (path.parent / f"step_{10**9:012d}").symlink_to(sentinel / "directory")
    elif kind == 4:
        path.rename(run_dir / "elsewhere")
        path.symlink_to(run_dir / "elsewhere")
    elif kind == 5:
        path.parent.rename(run_dir / "elsewhere")
        path.parent.symlink_to(run_dir / "elsewhere")
    elif kind == 6:
        name = rng.choice(["metrics.csv", "config.json", "lock"])
        (run_dir / name).unlink()
        os.mkfifo(run_dir / name)
    elif kind == 7:
        (run_dir / "config.json").write_bytes(_raw(rng))
    else:
        (run_dir / "metrics.csv").write_bytes(_raw(rng))


FORGERIES: list[Forgery] = [
    _state_value, _state_value, _state_policy, _state_policy, _state_counter, _state_keys,
    _state_raw, _manifest_raw, _manifest_value, _tensor_entry, _tensor_entry, _tensor_reshaped,
    _tensor_reshaped, _tensor_data, _tensor_data, _tensor_raw, _no_file, _unpicklable, _around,
]  # fmt: skip
UNSIGNED: set[Forgery] = {_manifest_raw, _manifest_value, _no_file, _around}


def pickle_bytes() -> bytes:
    """Would write a file if it were ever unpickled."""
    return b"cos\nsystem\n(S'touch fastdqn-was-here'\ntR."


def torch_bytes() -> bytes:
    """What torch.save writes."""
    buffer = io.BytesIO()
    torch.save({"w": torch.zeros(3)}, buffer)
    return buffer.getvalue()


# --- watching ----------------------------------------------------------------------------------


def _tree(directory: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *directory.rglob("*")]
    }


class Watch:
    """Python's own audit events: what is opened for writing, moved, removed, run, unpickled."""

    def __init__(self) -> None:
        self._root: str | None = None
        self._seen: list[str] = []
        sys.addaudithook(self._hook)

    @contextlib.contextmanager
    def over(self, root: Path) -> Iterator[None]:
        """Take note of everything outside ``root``."""
        self._root = str(root)
        try:
            yield
        finally:
            self._root = None

    def take(self) -> list[str]:
        """What was seen since the last call."""
        seen, self._seen = self._seen, []
        return seen

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self._root is None:
            return
        if event in ("pickle.find_class", "os.system", "os.exec", "subprocess.Popen"):
            self._seen.append(f"{event} {args}")
        elif event == "open":
            path, _, flags = args
            writes = flags is not None and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes:  # one that follows no link is about the name
                follows = not flags & getattr(os, "O_NOFOLLOW", 0)
                self._check(event if follows else "open, no link", path)
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "shutil.rmtree",
                       "os.truncate", "os.link", "os.symlink", "os.chmod"):  # fmt: skip
            self._check(event, args[0])

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int):  # of a file that is open: its opening was checked
            return
        text = os.fsdecode(path)
        if event != "open":  # these are about the name, where a link is no way out
            text = os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))
            inside = text.startswith(f"{self._root}/")
        else:
            inside = os.path.realpath(text).startswith(f"{self._root}/")
        # rmtree names what it removes by descriptor and last part; its root was checked.
        bare = "/" not in os.fsdecode(path) and event in ("os.remove", "os.rmdir")
        if not (inside or bare or text in ("/dev/null", CLEAR_REFS, self._root)):
            self._seen.append(f"{event} {text}")


@contextlib.contextmanager
def _no_unpickling() -> Iterator[None]:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something is being unpickled")

    owners = [(pickle, "load"), (pickle, "loads"), (torch, "load")]
    kept = [getattr(owner, name) for owner, name in owners]
    for owner, name in owners:
        setattr(owner, name, refuse)
    try:
        yield
    finally:
        for (owner, name), original in zip(owners, kept, strict=True):
            setattr(owner, name, original)


@contextlib.contextmanager
def _growth() -> Iterator[Callable[[], float]]:
    """Peak of the resident memory above where it was."""
    gc.collect()
    Path(CLEAR_REFS).write_text("5")
    before = _status("VmRSS")
    yield lambda: _status("VmHWM") - before


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return float(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}")
