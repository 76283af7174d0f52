"""File systems that refuse or lack calls: injected errors cost a warning, real ones the write."""

import contextlib
import errno
import json
import os
import shutil
import stat
import types
from pathlib import Path

import pytest
import torch
from helpers.refused_locks import refuse_locks
from helpers.short_runs import read_rows, small

from fastdqn import load, train
from fastdqn.checkpoints.store import clean, latest_checkpoint, load_checkpoint, save_checkpoint
from fastdqn.errors import CheckpointError
from fastdqn.plotting.style import new_figure
from fastdqn.plotting.style import save as save_figure
from fastdqn.runs.directory import write_json
from fastdqn.system import file_systems
from fastdqn.training.metrics_file import MetricsFile
from fastdqn.training.report import COLUMNS

STATE = {"run": {"x": torch.arange(5)}, "learner": {"w": torch.ones(3)}}
FATAL = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE]


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(file_systems, "_said", set())


def refuse(monkeypatch, name, number, when=lambda *args: True):
    """Let ``os.<name>`` fail with an errno where ``when(*args)``."""
    original = getattr(os, name)

    def call(*args, **kwargs):
        if "dir_fd" not in kwargs and when(*args):  # rmtree's calls are not ours
            raise OSError(number, os.strerror(number))
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, call)


def is_directory(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def is_file(descriptor):
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def opens_directory(path, *_):
    return os.path.isdir(path)


def renames_directory(source, target):
    return os.path.isdir(source)


def renames_checkpoint(source, target):
    """Not what only hides what is to be deleted."""
    return os.path.isdir(source) and "removed" not in os.path.basename(target)


# What a checkpoint asks of the disk: the call, for which arguments, and what it may answer there.
LACKING = {
    "fsync of a directory": ("fsync", is_directory, ["EINVAL", "ENOSYS", "ENOTSUP", "EBADF"]),
    "opening a directory": ("open", opens_directory, ["EACCES", "EISDIR", "EINVAL", "EPERM"]),
    "fsync of a file": ("fsync", is_file, ["EINVAL", "ENOSYS", "ENOTSUP"]),
    "renaming a directory": (
        "rename",
        renames_directory,
        ["EXDEV", "ENOSYS", "ENOTSUP", "EPERM", "EACCES", "EBUSY", "EMFILE"],
    ),
}


@pytest.mark.parametrize(
    ("what", "number"), [(w, getattr(errno, n)) for w, case in LACKING.items() for n in case[2]]
)
def test_what_a_file_system_lacks_costs_a_warning_and_no_checkpoint(
    tmp_path, monkeypatch, capsys, what, number
):
    name, when, _ = LACKING[what]
    refuse(monkeypatch, name, number, when)
    for step in (1, 2, 3, 3, 3):
        path = save_checkpoint(tmp_path, step, {**STATE, "step": {"n": step}}, keep=2)
    assert latest_checkpoint(tmp_path) == path
    state = load_checkpoint(path)
    assert state["step"] == {"n": 3} and state["run"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert [int(p.name[5:]) for p in sorted(tmp_path.iterdir())] == [2, 3]
    said = capsys.readouterr().err
    assert said.count("fastdqn: warning: ") == 1 and os.strerror(number) in said


@pytest.mark.parametrize("number", FATAL)
@pytest.mark.parametrize("what", LACKING)
def test_what_fails_is_refused(tmp_path, monkeypatch, capsys, what, number):
    save_checkpoint(tmp_path, 1, STATE, keep=1)
    name, when, _ = LACKING[what]
    when = renames_checkpoint if name == "rename" else when
    with monkeypatch.context() as patch:
        refuse(patch, name, number, when)
        with pytest.raises(CheckpointError, match=os.strerror(number)):
            save_checkpoint(tmp_path, 2, STATE, keep=1)
    assert load_checkpoint(latest_checkpoint(tmp_path))["run"]["x"].tolist() == [0, 1, 2, 3, 4]
    assert "warning" not in capsys.readouterr().err


def test_files_that_cannot_be_opened_to_write_are_synced_all_the_same(tmp_path, monkeypatch):
    """Stores whose files are written once."""
    synced, fsync = [], os.fsync
    refuse(monkeypatch, "open", errno.EPERM, lambda path, flags, *_: flags & os.O_RDWR)
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(is_file(fd)), fsync(fd)))
    save_checkpoint(tmp_path, 1, STATE, keep=1)
    assert sum(synced) == 4, "two of tensors, state.json and the manifest"


def test_a_directory_that_cannot_be_renamed_and_has_no_room_for_a_copy(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 1, STATE, keep=2)
    refuse(monkeypatch, "rename", errno.EXDEV, renames_directory)

    def full(source, target):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left")

    monkeypatch.setattr(shutil, "copyfile", full)
    for step in (1, 2):
        with pytest.raises(CheckpointError, match="No space left"):
            save_checkpoint(tmp_path, step, STATE, keep=2)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000000001"]
    assert load_checkpoint(latest_checkpoint(tmp_path))["run"]["x"].tolist() == [0, 1, 2, 3, 4]


X = {"x": torch.ones(3)}


class Killed(BaseException):
    """Not to be caught."""


@pytest.mark.parametrize("step", [2, 3])
@pytest.mark.parametrize(
    ("owner", "name"), [(shutil, "copyfile"), (shutil, "rmtree"), (os, "unlink"), (os, "fsync")]
)
@pytest.mark.parametrize("call", range(9))
def test_a_kill_while_files_are_moved_one_by_one(tmp_path, monkeypatch, owner, name, call, step):
    for number in (1, 2):
        save_checkpoint(tmp_path, number, {"run": {**X, "generation": number}}, keep=2)
    original, rmtree, calls = getattr(owner, name), shutil.rmtree, []

    def dies(*args, **kwargs):
        if "dir_fd" not in kwargs:
            calls.append(args)
        if len(calls) > call:
            if name == "rmtree":  # in the midst of it
                for file in Path(args[0]).glob("*.safetensors"):
                    file.unlink()
            raise Killed
        return original(*args, **kwargs)

    def cleans_up(*args, **kwargs):
        return None if len(calls) > call else rmtree(*args, **kwargs)

    with monkeypatch.context() as patch:
        refuse(patch, "rename", errno.EXDEV, renames_directory)
        patch.setattr(owner, name, dies)
        if name != "rmtree":
            patch.setattr(shutil, "rmtree", cleans_up)
        with contextlib.suppress(Killed):
            save_checkpoint(tmp_path, step, {"run": {**X, "generation": 3}}, keep=2)
    refuse(monkeypatch, "rename", errno.EXDEV, renames_directory)
    clean(tmp_path)
    found = load_checkpoint(latest_checkpoint(tmp_path))["run"]["generation"]
    assert found in (2, 3)
    path = save_checkpoint(tmp_path, 4, {"run": {"generation": 4}}, keep=2)
    assert load_checkpoint(path)["run"]["generation"] == 4
    assert not list(tmp_path.glob("*.tmp*"))


def test_what_a_share_keeps_of_a_deleted_checkpoint_is_in_nobodys_way(tmp_path, monkeypatch):
    """NFS keeps a deleted file that somebody has open as .nfsXXXX, and its directory with it."""

    def rmtree(path, ignore_errors=False):
        for file in Path(path).iterdir():
            file.unlink()
        (Path(path) / ".nfs0001").touch()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", rmtree)
        for step in (1, 2, 2, 2, 2, 2, 3, 3):
            path = save_checkpoint(tmp_path, step, {"run": {"n": step}}, keep=1)
            assert latest_checkpoint(tmp_path) == path
            assert load_checkpoint(path)["run"] == {"n": step}
    save_checkpoint(tmp_path, 4, {"run": {}}, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["step_000000000004"]


@pytest.mark.parametrize("stale", [False, True])
def test_a_directory_that_lists_badly_costs_no_checkpoint(tmp_path, monkeypatch, stale):
    save_checkpoint(tmp_path, 1, STATE, keep=1)

    def listing(directory):
        if stale:  # what was there a second ago
            return [tmp_path / "step_000000000001"]
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr("fastdqn.checkpoints.store.list_checkpoints", listing)
        path = save_checkpoint(tmp_path, 2, STATE, keep=1)
    assert latest_checkpoint(tmp_path) == path
    assert len(list(tmp_path.iterdir())) == 2, "the next one prunes"


# --- single files --------------------------------------------------------------------------------


def json_file(path):
    write_json(path, {"new": True})


def csv_file(path):
    file = MetricsFile(path, COLUMNS)
    file.write({"env_steps": 1})
    file.close()


def picture(path):
    save_figure(new_figure(1, 1), path)


WRITERS = [(json_file, "summary.json"), (csv_file, "metrics.csv"), (picture, "returns.png")]


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize("number", [errno.EEXIST, errno.EPERM, errno.EACCES, errno.ENOTSUP])
def test_a_file_that_cannot_be_renamed_over_is_deleted_first(
    tmp_path, monkeypatch, capsys, write, name, number
):
    path = tmp_path / name
    path.write_text("old")
    for call in ("replace", "rename"):
        refuse(monkeypatch, call, number, lambda source, target: os.path.exists(target))
    for _ in range(2):
        write(path)
        assert path.read_bytes()[:3] != b"old"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert capsys.readouterr().err.count("is deleted before it is written anew") == 1


@pytest.mark.parametrize(("write", "name"), WRITERS)
@pytest.mark.parametrize("number", [*FATAL, errno.EACCES])
def test_a_rename_that_fails_leaves_the_old_file(tmp_path, monkeypatch, write, name, number):
    path = tmp_path / name
    path.write_text("old")
    refuse(monkeypatch, "replace", number)
    if number == errno.EACCES:  # which may also mean that nothing in the directory can be changed
        refuse(monkeypatch, "unlink", number, lambda victim: str(victim) == str(path))
    with pytest.raises(OSError, match=os.strerror(number)):
        write(path)
    assert path.read_text() == "old"


def rows(path):
    return [line.split(",")[0] for line in path.read_text().splitlines()[1:]]


def test_links_that_a_file_system_does_not_count(tmp_path, monkeypatch):
    real = os.fstat

    def fstat(descriptor):
        found = real(descriptor)
        return types.SimpleNamespace(st_nlink=0, st_size=found.st_size, st_mode=found.st_mode)

    monkeypatch.setattr(os, "fstat", fstat)
    path = tmp_path / "metrics.csv"
    file = MetricsFile(path, COLUMNS)
    file.write({"env_steps": 1})
    path.rename(tmp_path / "kept")
    with pytest.raises(OSError, match="deleted"):
        file.write({"env_steps": 2})
    (tmp_path / "kept").rename(path)
    file.write({"env_steps": 3})
    file.close()
    assert rows(path) == ["1", "2", "3"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EPERM, errno.EIO])
def test_a_row_that_came_in_part_is_completed_where_files_cannot_be_cut(
    tmp_path, monkeypatch, number
):
    path, write = tmp_path / "metrics.csv", os.write
    file = MetricsFile(path, COLUMNS)
    with monkeypatch.context() as patch:
        refuse(patch, "ftruncate", number)
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
        for step in (10_000, 20_000):
            with pytest.raises(OSError, match="No space left"):
                file.write({"env_steps": step})
        patch.setattr(os, "write", write)
        file.flush()
    file.close()
    assert rows(path) == ["10000", "20000"] and path.read_bytes().endswith(b"\n")


def test_rows_that_a_share_gives_up_at_the_end_are_missed(tmp_path, monkeypatch, capsys):
    """NFS takes a write, and says at fsync or close that there was no room for it."""
    kinds = {"metrics.csv": errno.ENOSPC}

    def lost(descriptor):
        return os.readlink(f"/proc/self/fd/{descriptor}").rpartition("/")[2] in kinds

    refuse(monkeypatch, "fsync", errno.ENOSPC, lost)
    refuse(monkeypatch, "close", errno.ENOSPC, lost)
    with pytest.raises(ValueError, match=r"could not write metrics\.csv .*No space left"):
        train(small(tmp_path))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["env_steps"] == 2_000


# --- all at once ---------------------------------------------------------------------------------


def test_a_run_on_a_mount_that_has_next_to_nothing(tmp_path, monkeypatch, capsys):
    real = os.fstat

    def fstat(descriptor):
        found = real(descriptor)
        names = ("st_size", "st_mode", "st_dev")
        return types.SimpleNamespace(
            st_nlink=0, st_ino=id(found), **{name: getattr(found, name) for name in names}
        )

    for call in ("fsync", "ftruncate"):
        refuse(monkeypatch, call, errno.EINVAL)
    refuse(monkeypatch, "open", errno.EACCES, lambda path, *_: os.path.isdir(path))
    refuse(monkeypatch, "rename", errno.ENOSYS, lambda source, target: os.path.isdir(source))
    refuse(monkeypatch, "replace", errno.EEXIST, lambda source, target: os.path.exists(target))
    monkeypatch.setattr("fastdqn.training.metrics_file.os.fstat", fstat)
    refuse_locks(monkeypatch, errno.ENOLCK)
    first = small(
        tmp_path, checkpoint_period_env_steps=400, total_env_steps=1_200, learning_rate_final=None
    )
    for config in (first, first.replace(total_env_steps=2_000, resume="auto")):
        result = train(config)
    assert result.summary["env_steps"] == 2_000
    assert load(tmp_path / "run", device="cpu") is not None
    steps = [int(row["env_steps"]) for row in read_rows(tmp_path / "run")]
    assert steps == sorted(set(steps)) and steps[-1] == 2_000
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    lacks = ["locks", "fsync for files", "fsync for dir", "renaming over", "renaming of dir"]
    for words in lacks:
        assert sum(f"has no {words}" in line for line in warnings) == 1, words
    assert len(warnings) == len(lacks), warnings
