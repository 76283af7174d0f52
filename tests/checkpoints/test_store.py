"""Checkpoints: everything comes back, damage is named, and nothing in them is executed."""

import json
import math
import os
import re
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fastdqn
from fastdqn.checkpoints import state_tree, store, tensor_file
from fastdqn.checkpoints.store import (
    find_checkpoint,
    latest_checkpoint,
    load_checkpoint,
    open_newest,
    save_checkpoint,
)
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError
from fastdqn.learning.learner import Learner
from fastdqn.networks.copies import lower
from fastdqn.networks.make import make_network
from fastdqn.training.load import load

DTYPES = [
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
]


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def same(a, b):
    """Bit for bit, with dtypes and shapes."""
    if isinstance(a, torch.Tensor):
        if not isinstance(b, torch.Tensor) or (a.dtype, a.shape) != (b.dtype, b.shape):
            return False
        return torch.equal(*(x.detach().reshape(-1).view(torch.uint8) for x in (a, b)))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def round_trip(directory, state, **kwargs):
    return load_checkpoint(save_checkpoint(directory, 1, state, keep=2), **kwargs)


# --- round trips ---------------------------------------------------------------------------------


def random_tensor(dtype, shape):
    g = torch.Generator().manual_seed(0)
    size = math.prod(shape) * torch.empty((), dtype=dtype).element_size()
    if dtype == torch.bool:
        return torch.randint(0, 2, shape, generator=g).bool()
    raw = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=g)
    if dtype.is_floating_point:  # no NaN among them
        return torch.randn(shape, generator=g, dtype=torch.float64).to(dtype)
    return raw.view(dtype).view(shape)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_of_every_dtype_and_shape(tmp_path, dtype):
    shapes = [(), (0,), (1,), (7,), (3, 4), (0, 5), (5, 0), (2, 3, 4, 5)]
    state = {str(shape): random_tensor(dtype, shape) for shape in shapes}
    assert same(state, round_trip(tmp_path, {"part": state})["part"])


def nested():
    return {
        "run": {
            "int": 3,
            "big": 2**127 + 1,  # as numpy's bit generators have them
            "float": 0.1,
            "nan": math.nan,
            "infinite": -math.inf,
            "none": None,
            "flag": True,
            "text": "Grüße \n\0",
            "list": [1, [2.5, None], {"deep": torch.arange(3)}],
            "empty": {},
            "nothing": [],
            "a/b": torch.tensor([1.0]),
            "a": {"b": torch.tensor([2.0])},  # the same path
            "with # and 'quotes'": torch.tensor([3.0]),
        },
        "learner": {
            "network": {"layer.weight": torch.randn(4, 5)},
            "generator": torch.ByteTensor(9),
        },
        "no tensors": {"x": 1},
        "scalar": 5,
        "tensor": torch.tensor(3.5),
    }


def test_nested_state(tmp_path):
    state = nested()
    assert same(state, round_trip(tmp_path, state))


def test_parts_can_be_read_alone(tmp_path):
    state = nested()
    got = round_trip(tmp_path, state, parts=("run", "scalar"))
    assert got.keys() == {"run", "scalar"} and same(state["run"], got["run"])
    with pytest.raises(CheckpointError, match="replay"):
        load_checkpoint(tmp_path / "step_000000000001", parts=("run", "replay"))


def test_a_part_is_read_though_another_is_damaged(tmp_path):
    path = save_checkpoint(tmp_path, 1, nested(), keep=1)
    (path / "learner-00000.safetensors").write_bytes(b"junk")
    assert load_checkpoint(path, parts=("run",))["run"]["int"] == 3


def test_tensors_that_are_not_contiguous(tmp_path):
    base = torch.arange(24.0).view(2, 3, 4)
    conv = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    state = {
        "transposed": base.permute(2, 0, 1),
        "strided": base[:, ::2, 1:3],
        "expanded": torch.tensor([1.0, 2.0]).expand(3, 2),
        "channels_last": conv,
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    got = round_trip(tmp_path, {"part": state})["part"]
    assert all(torch.equal(state[name], got[name]) for name in state)
    assert all(tensor.is_contiguous() and not tensor.requires_grad for tensor in got.values())


def test_tensors_that_share_storage_come_back_apart(tmp_path):
    base = torch.arange(6.0)
    got = round_trip(tmp_path, {"part": {"whole": base, "view": base[2:4], "again": base}})["part"]
    assert torch.equal(got["whole"], base) and torch.equal(got["view"], base[2:4])
    got["view"].fill_(-1)
    assert torch.equal(got["whole"], base) and torch.equal(got["again"], base)


def test_saving_changes_and_keeps_nothing_of_the_state(tmp_path):
    tensor = torch.arange(5.0)
    path = save_checkpoint(tmp_path, 1, {"part": {"x": tensor}}, keep=1)
    tensor.fill_(-1)
    assert load_checkpoint(path)["part"]["x"].tolist() == [0, 1, 2, 3, 4]


def test_numpy_arrays_come_back_as_tensors_and_scalars_as_numbers(tmp_path):
    read_only = np.arange(3)
    read_only.flags.writeable = False
    state = {
        "matrix": np.arange(6, dtype=np.float64).reshape(2, 3),
        "transposed": np.arange(6, dtype=np.int16).reshape(2, 3).T,
        "reversed": np.arange(4)[::-1],
        "zero-d": np.array(2.5),
        "empty": np.zeros((0, 3), np.uint8),
        "flags": np.array([True, False]),
        "read-only": read_only,
    }
    scalars = {
        "int": np.int64(2**40),
        "uint8": np.uint8(7),
        "float": np.float64(0.1),
        "float32": np.float32(0.5),
        "flag": np.bool_(True),
        "text": np.str_("abc"),
    }
    got = round_trip(tmp_path, {"part": {**state, "list": [scalars]}})["part"]
    for name, array in state.items():
        assert got[name].shape == array.shape and np.array_equal(got[name].numpy(), array)
        assert got[name].numpy().dtype == array.dtype
    wanted = {"int": 2**40, "uint8": 7, "float": 0.1, "float32": 0.5, "flag": True, "text": "abc"}
    assert same(got["list"], [wanted])


def test_the_state_of_a_numpy_generator(tmp_path):
    rng = np.random.default_rng(3)
    rng.random(5)
    got = round_trip(tmp_path, {"rng": rng.bit_generator.state})["rng"]
    other = np.random.default_rng(0)
    other.bit_generator.state = got
    assert np.array_equal(other.random(10), rng.random(10))


@pytest.mark.parametrize("chunk", [1, 7, 16, 100, 1000])
def test_long_tensors_are_cut_into_files(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(state_tree, "_CHUNK", chunk)
    g = torch.Generator().manual_seed(0)
    state = {
        "long": torch.randint(0, 256, (50, 3), dtype=torch.uint8, generator=g),
        "small": torch.tensor([1.5]),
        "zero-d": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "wide": torch.randn(2, 40, generator=g),  # rows longer than most chunks
        "column": torch.randn(33, 2, generator=g).T,
    }
    path = save_checkpoint(tmp_path, 1, {"part": state, "other": {"x": torch.ones(5)}}, keep=1)
    assert same(state, load_checkpoint(path)["part"])
    files = sorted(path.glob("part-*.safetensors"))
    sizes = [sum(piece.nbytes for piece in read(file).values()) for file in files]
    longest_row = 160
    assert max(sizes) <= max(chunk, longest_row)
    assert len(files) >= sum(sizes) / max(chunk, longest_row)
    if chunk >= longest_row:  # nothing is cut finer than it must be
        assert len(files) <= 2 * sum(sizes) / chunk + 1


def read(file):
    from safetensors.torch import load_file

    return load_file(file)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    shapes=st.lists(st.lists(st.integers(0, 6), max_size=3), max_size=5),
    chunk=st.integers(1, 200),
)
def test_any_shapes_in_any_chunks(tmp_path, shapes, chunk):
    state = {str(k): torch.randn(shape, dtype=torch.float64) for k, shape in enumerate(shapes)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state_tree, "_CHUNK", chunk)
        assert same(state, round_trip(tmp_path, {"part": state})["part"])


def test_the_default_chunk_is_what_the_docs_say():
    assert state_tree._CHUNK == 256 * 1024**2


# --- files on the disk ---------------------------------------------------------------------------


def test_files_are_listed_readable_and_named(tmp_path):
    umask = os.umask(0o022)
    try:
        path = save_checkpoint(tmp_path, 1234, nested(), keep=1)
    finally:
        os.umask(umask)
    assert path == tmp_path / "step_000000001234"
    manifest = json.loads((path / "manifest.json").read_text())
    names = {file.name for file in path.iterdir()}
    assert names == {*manifest["files"], "manifest.json"}
    assert manifest["env_steps"] == 1234 and manifest["format_version"] == 1
    for name, entry in manifest["files"].items():
        data = (path / name).read_bytes()
        assert entry == {"bytes": len(data), "crc32": zlib.crc32(data)}
    assert {file.stat().st_mode & 0o777 for file in path.iterdir()} == {0o644}


@pytest.mark.parametrize(("keep", "left"), [(1, [5]), (2, [4, 5]), (10, [1, 2, 3, 4, 5])])
def test_older_ones_are_pruned(tmp_path, keep, left):
    for step in range(1, 6):
        save_checkpoint(tmp_path, step, {"run": {"step": step}}, keep)
    assert sorted(p.name for p in tmp_path.glob("step_*")) == [f"step_{s:012d}" for s in left]
    for step in left:
        got = load_checkpoint(tmp_path / f"step_{step:012d}")
        assert got == {"run": {"step": step}}


def test_latest_is_by_number(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None
    for step in (900, 1000, 10**9):
        path = save_checkpoint(tmp_path, step, {}, keep=5)
        assert latest_checkpoint(tmp_path) == path
    (tmp_path / "step_999999999999.tmp-77").mkdir()  # not whole
    (tmp_path / "step_x").mkdir()
    (tmp_path / "notes").mkdir()
    assert latest_checkpoint(tmp_path) == path


def test_what_a_killed_save_left_is_removed(tmp_path):
    for name in ("step_000000000005.tmp-1234", "step_000000000001.tmp-replaced"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run-00000.safetensors").write_bytes(b"half")
    (tmp_path / "step_000000000007.tmp-1").write_bytes(b"no directory")
    (tmp_path / "step_000000000007.tmp-2").symlink_to(tmp_path.parent)
    save_checkpoint(tmp_path, 1, {}, keep=1)
    assert {p.name for p in tmp_path.iterdir()} == {"step_000000000001"}


def test_the_same_step_again_replaces_the_old_one(tmp_path):
    save_checkpoint(tmp_path, 1, {"run": {"x": torch.zeros(3), "old": torch.ones(1)}}, keep=1)
    path = save_checkpoint(tmp_path, 1, {"run": {"x": torch.ones(3)}}, keep=1)
    assert load_checkpoint(path)["run"]["x"].tolist() == [1, 1, 1]
    assert {p.name for p in tmp_path.iterdir()} == {path.name}


def test_a_step_saved_twice_costs_no_other_checkpoint(tmp_path):
    for step in (1, 2, 2):
        save_checkpoint(tmp_path, step, {}, keep=2)
    assert [path.name[5:] for path in sorted(tmp_path.iterdir())] == [f"{k:012d}" for k in (1, 2)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_everything_is_on_the_disk_before_it_is_named(tmp_path, monkeypatch):
    events = []
    rename = Path.rename

    def fsync(descriptor):
        events.append(("sync", Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(
        Path, "rename", lambda a, b: (events.append(("rename", b.name)), rename(a, b))[1]
    )
    path = save_checkpoint(tmp_path, 1, nested(), keep=1)
    named = events.index(("rename", path.name))
    before = {name for _, name in events[:named]}
    assert {file.name for file in path.iterdir()} < before
    assert any(name.startswith(f"{path.name}.tmp-") for name in before)  # the directory, too
    assert events[named + 1 :] == [("sync", tmp_path.name)]


class Killed(BaseException):
    """Not to be caught."""


STEPS_OF_A_SAVE = [
    ("write", store, "write_tensors"),
    ("manifest", store, "_manifest"),
    ("fsync", os, "fsync"),
    ("rename", Path, "rename"),
    ("rmtree", shutil, "rmtree"),
]


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize(
    ("owner", "name"), [step[1:] for step in STEPS_OF_A_SAVE], ids=[s[0] for s in STEPS_OF_A_SAVE]
)
@pytest.mark.parametrize("call", [0, 1, 2])
def test_at_any_moment_the_newest_checkpoint_is_whole(
    tmp_path, monkeypatch, owner, name, call, same_step
):
    save_checkpoint(tmp_path, 1, {"run": {"generation": 1}}, keep=2)
    save_checkpoint(tmp_path, 2, {"run": {"generation": 2}}, keep=2)
    calls = iter(range(10**6))
    original = getattr(owner, name)

    def dies(*args, **kwargs):
        if next(calls) >= call:
            raise Killed  # and whatever cleaning up follows dies as well
        return original(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        if owner is not shutil:
            patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        try:
            state = {"run": {"generation": 3, "x": torch.ones(2)}}
            save_checkpoint(tmp_path, 2 if same_step else 3, state, keep=2)
        except Killed:
            pass
    path = latest_checkpoint(tmp_path)
    assert load_checkpoint(path)["run"]["generation"] in (2, 3)
    # ... and the next save goes through and leaves nothing behind.
    path = save_checkpoint(tmp_path, 4, {"run": {"generation": 4}}, keep=2)
    assert load_checkpoint(path)["run"]["generation"] == 4
    assert not list(tmp_path.glob("*.tmp*"))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_nothing_and_harms_nothing(tmp_path, monkeypatch, error):
    save_checkpoint(tmp_path, 1, {"run": {"generation": 1}}, keep=1)

    def fails(*_):
        raise error

    monkeypatch.setattr(store, "write_tensors", fails)
    kind = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(kind) as caught:
        save_checkpoint(tmp_path, 2, {"run": {"x": torch.ones(2)}}, keep=1)
    if kind is CheckpointError:
        assert "step_000000000002" in str(caught.value) and "No space left" in str(caught.value)
    assert {p.name for p in tmp_path.iterdir()} == {"step_000000000001"}
    assert load_checkpoint(latest_checkpoint(tmp_path)) == {"run": {"generation": 1}}


def test_state_that_json_cannot_hold_is_a_mistake_of_the_caller(tmp_path):
    with pytest.raises(TypeError):
        save_checkpoint(tmp_path, 1, {"run": {"x": object()}}, keep=1)
    assert list(tmp_path.iterdir()) == []


# --- damage --------------------------------------------------------------------------------------


def flip(path, position, bit=0):
    data = bytearray(path.read_bytes())
    data[position % len(data)] ^= 1 << bit
    path.write_bytes(data)


def resign(path):
    """Make the manifest's own checksum fit again, as a forger would."""
    manifest = json.loads((path / "manifest.json").read_text())
    manifest.pop("crc32")
    return manifest, lambda body: (path / "manifest.json").write_bytes(store._manifest(body))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A checkpoint of several files."""
    monkeypatch.setattr(state_tree, "_CHUNK", 64)
    state = {
        "run": {"x": torch.arange(20), "n": 3},
        "learner": {"w": torch.ones(30), "v": torch.zeros(30)},
    }
    return save_checkpoint(tmp_path, 1, state, keep=1)


NAMES = ["run-00000.safetensors", "learner-00001.safetensors", "state.json", "manifest.json"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("end", [0, 1, 20, -1])
def test_truncated(saved, name, end):
    (saved / name).write_bytes((saved / name).read_bytes()[:end])
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", NAMES)
def test_any_flipped_bit(saved, name):
    whole = (saved / name).read_bytes()
    for position in range(0, len(whole), 7):
        flip(saved / name, position, bit=position % 8)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            load_checkpoint(saved)
        (saved / name).write_bytes(whole)


@pytest.mark.parametrize("name", NAMES)
def test_deleted(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", NAMES)
def test_replaced_by_a_directory(saved, name):
    (saved / name).unlink()
    (saved / name).mkdir()
    with pytest.raises(CheckpointError, match=re.escape(name)):
        load_checkpoint(saved)


def test_swapped(saved):
    one, two = saved / "learner-00000.safetensors", saved / "learner-00002.safetensors"
    a, b = one.read_bytes(), two.read_bytes()
    assert a != b
    one.write_bytes(b)
    two.write_bytes(a)
    with pytest.raises(CheckpointError, match=r"learner-0000[02].safetensors is damaged"):
        load_checkpoint(saved)


def test_appended(saved):
    with (saved / "state.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CheckpointError, match=r"state.json is damaged"):
        load_checkpoint(saved)


def test_an_edited_manifest(saved):
    path = saved / "manifest.json"
    path.write_text(path.read_text().replace('"env_steps": 1', '"env_steps": 2'))
    with pytest.raises(CheckpointError, match=r"manifest.json is damaged"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", "3", '"x"', '{"crc32": 1}', '{"a": ' * 100_000, "\x00\xff"],
    ids=lambda text: text[:10] or "empty",
)
def test_a_manifest_that_is_none(saved, text):
    (saved / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"manifest.json"):
        load_checkpoint(saved)


def test_another_format_version(saved):
    body, write = resign(saved)
    write({**body, "format_version": 99})
    with pytest.raises(CheckpointError, match="format_version 99; this fastdqn reads 1"):
        load_checkpoint(saved)


def test_a_forged_manifest_cannot_lead_out_of_the_directory(saved):
    outside = saved.parent / "outside.safetensors"
    outside.write_bytes((saved / "run-00000.safetensors").read_bytes())
    body, write = resign(saved)
    entry = body["files"].pop("run-00000.safetensors")
    for name in (f"../{outside.name}", str(outside)):
        write({**body, "files": {**body["files"], name: entry}})
        with pytest.raises(CheckpointError, match="is missing"):
            load_checkpoint(saved)


def test_a_link_is_no_file_of_a_checkpoint(saved):
    outside = saved.parent / "outside"
    (saved / "state.json").rename(outside)
    (saved / "state.json").symlink_to(outside)
    with pytest.raises(CheckpointError, match=r"state.json is missing"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "files", [[], None, 3, {"state.json": 3}, {}], ids=["list", "null", "int", "entry", "empty"]
)
def test_forged_lists_of_files_are_no_traceback(saved, files):
    body, write = resign(saved)
    write({**body, "files": files})
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


def test_a_forged_list_without_a_piece(saved):
    body, write = resign(saved)
    del body["files"]["learner-00001.safetensors"]
    write(body)
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


# --- which one -----------------------------------------------------------------------------------


def test_find_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist; name a run directory"):
        find_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)
    for step in (1, 2):
        path = save_checkpoint(tmp_path / "checkpoints", step, {}, keep=5)
    assert find_checkpoint(tmp_path) == path
    older = tmp_path / "checkpoints" / "step_000000000001"
    assert find_checkpoint(older) == older
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "checkpoints" / "latest")


# --- policies ------------------------------------------------------------------------------------


def run_state(network, **spec):
    config = Config(env_id="X-v0", hidden_sizes=(8,), network="mlp")
    spec = {
        "frame_shape": [3],
        "image": False,
        "num_actions": 5,
        "action_start": 2,
        "frame_stack": 2,
        "stack_padding": "repeat",
        "bf16": False,
        "own_network": False,
        **spec,
    }
    learner = Learner(network).state_dict()
    return {"run": {"config": json.loads(config.to_json()), "spec": spec}, "learner": learner}


def mlp():
    torch.manual_seed(0)
    return make_network((3,), 5, frame_stack=2, hidden_sizes=(8,))


def test_load_gives_the_policy_that_was_saved(tmp_path):
    network = mlp()
    path = save_checkpoint(tmp_path / "checkpoints", 7, run_state(network), keep=1)
    frames = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    stacked = torch.tensor(frames).unsqueeze(1).repeat(1, 2, 1)
    wanted = (network(stacked).argmax(1) + 2).tolist()
    for where in (tmp_path, str(tmp_path), path):
        policy = load(where, device="cpu")
        assert policy.act(frames).tolist() == wanted
        assert (policy.frame_stack, policy.stack_padding) == (2, "repeat")
        assert not policy.network.training and policy.acting_network is policy.network
        assert all(p.requires_grad for p in policy.network.parameters()), "it can be trained on"
    assert len(set(wanted)) > 1


def test_of_a_bfloat16_run_the_network_is_float32_and_its_lowered_copy_acts(tmp_path):
    network = mlp()
    save_checkpoint(tmp_path / "checkpoints", 7, run_state(network, bf16=True), keep=1)
    policy = load(tmp_path, device="cpu")
    assert same(policy.network.state_dict(), network.state_dict())
    assert {p.dtype for p in policy.network.parameters()} == {torch.float32}
    lowered = lower(network)
    assert same(policy.acting_network.state_dict(), lowered.state_dict())
    seen = []
    policy.acting_network.register_forward_hook(lambda _, given, q: seen.append((given[0], q)))
    policy.act(np.ones((4, 3), np.float32))
    ((given, q),) = seen
    assert torch.equal(q, lowered(given)) and not torch.equal(q, network(given))


def test_a_network_passed_to_load_keeps_what_is_frozen_of_it(tmp_path):
    network = mlp()
    save_checkpoint(tmp_path / "checkpoints", 7, run_state(network, own_network=True), keep=1)
    own = mlp()
    own.torso.requires_grad_(False)
    load(tmp_path, device="cpu", network=own)
    assert {n for n, p in own.named_parameters() if p.requires_grad} == {
        "head.q.weight",
        "head.q.bias",
    }


def test_an_own_network_must_be_passed(tmp_path):
    torch.manual_seed(0)
    own = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 5))
    save_checkpoint(tmp_path / "checkpoints", 7, run_state(own, own_network=True), keep=1)
    with pytest.raises(
        CheckpointError, match=r"network of its own; pass it as load\(\.\.\., netwo"
    ):
        load(tmp_path, device="cpu")
    fresh = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(6, 5))
    load(tmp_path, device="cpu", network=fresh)
    assert torch.equal(fresh[1].weight, own[1].weight)
    with pytest.raises(CheckpointError, match=r"unknown to this network|missing from the checkp"):
        load(tmp_path, device="cpu", network=mlp())


def test_a_network_of_another_shape_is_refused(tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 7, run_state(mlp(), num_actions=4), keep=1)
    with pytest.raises(CheckpointError, match=r"'head.q.(bias|weight)' is \[5.*and \[4"):
        load(tmp_path, device="cpu")


@pytest.mark.parametrize("missing", ["frame_shape", "stack_padding", "own_network"])
def test_a_description_that_lacks_something_is_refused(tmp_path, missing):
    state = run_state(mlp())
    del state["run"]["spec"][missing]
    save_checkpoint(tmp_path / "checkpoints", 7, state, keep=1)
    with pytest.raises(CheckpointError, match=missing):
        load(tmp_path, device="cpu")


# --- going back to one that is whole -----------------------------------------------------------


def three(tmp_path):
    """A run directory of three checkpoints."""
    for step in (1, 2, 3):
        state = run_state(mlp())
        state["run"]["step"] = step
        save_checkpoint(tmp_path / "checkpoints", step, state, keep=5)
    return sorted((tmp_path / "checkpoints").iterdir())


def test_the_newest_that_is_whole_is_taken_and_the_bad_ones_named(tmp_path):
    one, two, three_ = three(tmp_path)
    path, state = open_newest(tmp_path / "checkpoints")
    assert path == three_ and state["run"]["step"] == 3
    flip(three_ / "learner-00000.safetensors", 500)
    (two / "state.json").unlink()
    with pytest.warns(UserWarning) as caught:
        path, state = open_newest(tmp_path / "checkpoints")
    assert path == one and state["run"]["step"] == 1
    texts = [str(warning.message) for warning in caught]
    assert len(texts) == 2 and all(text.endswith(f"Going back to {one.name}.") for text in texts)
    assert f"{three_}/learner-00000.safetensors is damaged" in texts[0]
    assert f"{two}/state.json is missing" in texts[1]
    with pytest.warns(UserWarning) as caught:
        load(tmp_path, device="cpu")
    assert [str(warning.message) for warning in caught] == texts
    with pytest.raises(CheckpointError, match=r"learner-00000\.safetensors is damaged"):
        load(three_, device="cpu")  # this one and no other
    flip(one / "manifest.json", 100)
    with pytest.raises(
        CheckpointError, match=r"no whole checkpoint.*step_0*3/.*step_0*2/.*step_0*1"
    ):
        open_newest(tmp_path / "checkpoints")


def test_a_damaged_one_of_later_steps_is_not_kept_in_place_of_a_new_one(tmp_path):
    *_, last = three(tmp_path)
    flip(last / "state.json", 3)
    new = save_checkpoint(tmp_path / "checkpoints", 2, {"run": {}}, keep=1)
    assert list((tmp_path / "checkpoints").iterdir()) == [new]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path):
    path = save_checkpoint(tmp_path, 1, {"run": {"x": 1}}, keep=1)
    path.rename(tmp_path / f"{path.name}.tmp-replaced")
    assert load_checkpoint(latest_checkpoint(tmp_path)) == {"run": {"x": 1}}
    store.clean(tmp_path)
    assert latest_checkpoint(tmp_path) == path
    path.rename(tmp_path / f"{path.name}.tmp-replaced")
    save_checkpoint(tmp_path, 2, {}, keep=2)
    assert [p.name[-1] for p in sorted(tmp_path.iterdir())] == ["1", "2"]


def test_links_and_files_are_no_checkpoints(tmp_path):
    path = save_checkpoint(tmp_path, 1, {}, keep=1)
    (tmp_path / "step_000000000002").symlink_to(path)
    (tmp_path / "step_000000000003").touch()
    (tmp_path / "step_٠٠٠٠٠٠٠٠٠٠٠٤").mkdir()  # digits, but not ours
    assert latest_checkpoint(tmp_path) == path


@pytest.mark.parametrize(
    ("scores", "left"),
    [
        ([5.0, 9.0, 3.0, 4.0, 1.0], [2, 5]),
        ([5.0, 9.0, 9.0, 4.0, 9.0], [2, 5]),  # the first of equals is nearest to the evaluation
        ([None, None, None, None, None], [5]),
        ([None, math.nan, -2.0, math.inf, -3.0], [3, 5]),
        ([1, 2, 3, 4, 5], [5]),
    ],
)
def test_the_best_is_kept(tmp_path, scores, left):
    for step, score in enumerate(scores, 1):
        save_checkpoint(tmp_path, step, {}, keep=1, score=score, keep_best=True)
    assert [int(path.name[5:]) for path in sorted(tmp_path.iterdir())] == left
    save_checkpoint(tmp_path, 9, {}, keep=1)
    assert [int(path.name[5:]) for path in sorted(tmp_path.iterdir())] == [9]


def test_large_json_is_refused_when_it_is_saved(tmp_path):
    for value in ([0] * 200_000, "x" * 3_000_000):
        with pytest.raises(CheckpointError, match=r"state\.json would hold .* keep numbers in arr"):
            save_checkpoint(tmp_path, 1, {"run": {"x": value}}, keep=1)
    assert list(tmp_path.iterdir()) == []


# --- files of tensors --------------------------------------------------------------------------


def test_the_library_reads_what_is_written(tmp_path):
    tensors = {str(dtype): random_tensor(dtype, (3, 5)) for dtype in DTYPES}
    tensors |= {"zero-d": torch.tensor(2.5), "empty": torch.zeros(0, 3)}
    tensor_file.write_tensors(tmp_path / "x", tensors)
    got = read(tmp_path / "x")
    assert got.keys() == tensors.keys()
    assert all(torch.equal(got[name], tensors[name]) for name in tensors)


def test_a_pipe_is_not_waited_for(saved):
    for name in NAMES:
        kept = (saved / name).read_bytes()
        (saved / name).unlink()
        os.mkfifo(saved / name)
        with pytest.raises(CheckpointError, match=re.escape(name)):
            load_checkpoint(saved)
        (saved / name).unlink()
        (saved / name).write_bytes(kept)


def test_tensors_go_straight_to_where_they_belong(tmp_path, monkeypatch):
    monkeypatch.setattr(state_tree, "_CHUNK", 64)
    state = {"a": torch.arange(100), "b": {"c": torch.randn(7, 3)}, "d": torch.tensor(3.0)}
    path = save_checkpoint(tmp_path, 1, {"part": state}, keep=1)
    own = {"a": torch.zeros(100, dtype=torch.int64), "b": {"c": torch.zeros(3, 7).T}, "d": None}
    got = state_tree.materialize(store.open_checkpoint(path)["part"], into=own)
    assert same(got, state) and got["a"] is own["a"] and got["b"]["c"] is own["b"]["c"]
    other = {"a": torch.zeros(99, dtype=torch.int64), "b": {"c": torch.zeros(7, 3).double()}}
    got = state_tree.materialize(store.open_checkpoint(path)["part"], into=other)
    assert same(got, state) and not other["a"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": -1}, "part/n is -1"),
        ({"n": True}, "part/n is True"),
        ({"n": 2**54}, "part/n"),
        ({"f": math.nan}, "part/f is nan"),
        ({"f": "1"}, "part/f is '1'"),
        ({"flag": 1}, "part/flag is 1"),
        ({"t": 3}, "part/t is 3"),
        ({"t": torch.zeros(3, dtype=torch.float64)}, r"part/t is torch.float64 \[3\]"),
        ({"t": torch.zeros(4)}, r"part/t is torch.float32 \[4\]"),
        ({"generator": torch.zeros(4)}, "part/generator"),
        ({"more": 1}, "part is .*'more'"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    own = {"n": 3, "f": 0.5, "flag": False, "t": torch.zeros(3), "generator": torch.ByteTensor(9)}
    path = save_checkpoint(tmp_path, 1, {"part": own}, keep=1)
    state_tree.check_fits(store.open_checkpoint(path)["part"], own, "part")
    path = save_checkpoint(tmp_path, 2, {"part": {**own, **change}}, keep=1)
    with pytest.raises(CheckpointError, match=message):
        state_tree.check_fits(store.open_checkpoint(path)["part"], own, "part")


# --- nothing is executed -------------------------------------------------------------------------

EXECUTES = re.compile(
    r"\bc?[pP]ickle\b(?! *[.:;,)\n])|import c?pickle|pickle\.\w|[Uu]npickle(?!s?[.)])|"
    r"torch\.(load|save|jit|package|hub)\b|\bdill\b|\bcloudpickle\b|\bjoblib\b|\bmarshal\b|"
    r"\bshelve\b|\b(eval|exec|compile|__import__)\(|\byaml\b|allow_pickle|weights_only|"
    r"np\.(load|save|fromfile|memmap)\b|os\.(system|popen|exec)|shell=True|\bmmap\b"
)


def test_nothing_in_the_package_unpickles():
    files = sorted(Path(fastdqn.__file__).parent.rglob("*.py"))
    assert len(files) > 25
    for file in files:
        for number, line in enumerate(file.read_text().splitlines(), 1):
            code = re.sub(r"\.eval\(\)|(torch|re)\.compile\(|torch\.jit\.is_tracing\(", "", line)
            assert not EXECUTES.search(code), f"{file}:{number}: {line}"


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "pickle.loads(x)", "pickle.Unpickler(f)",
     "import cloudpickle", "torch.load(path)", "torch.load(p, weights_only=True)",
     "torch.save(x, p)", "torch.jit.load(p)", "x = eval(text)", "exec(code)", "np.load(f)",
     "import yaml",
     "yaml.safe_load(f)", "np.load(f, allow_pickle=False)", "compile(text, '', 'exec')",
     "import marshal", "import shelve", "import dill", "import joblib", "__import__(name)",
     "os.system(text)", "subprocess.run(text, shell=True)"],
)  # fmt: skip
def test_what_would_execute_is_found(line):
    assert EXECUTES.search(line)
