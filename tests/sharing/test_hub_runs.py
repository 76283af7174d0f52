"""Runs to the Hub and back: the same bits, nothing executed, and a sentence for what fails."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from helpers.hub_server import OF_HTTPX, READ_ONLY
from helpers.short_runs import tiny
from huggingface_hub import constants, scan_cache_dir, snapshot_download

import fastdqn
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.sharing.hub_run import local_run
from fastdqn.sharing.parcel import contents_of, pack
from fastdqn.sharing.upload import check_account, upload

pytestmark = pytest.mark.filterwarnings(OF_HTTPX)

NAME = "alice/cart"
ADDRESS = f"hf:{NAME}"


def push(run, tmp_path, name=NAME, *, private=False, **what):
    directory = tmp_path / "parcel"
    directory.mkdir()
    files = pack(contents_of(run, **what), directory, repo=name)
    check_account(name, private=private)
    upload(directory, name, private=private, message="a run")
    return {str(file.relative_to(directory)): file.read_bytes() for file in files}


def refused(call, *args, **kwargs):
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        call(*args, **kwargs)
    return str(caught.value)


def test_a_run_comes_back_bit_for_bit(run, hub, tmp_path):
    sent = push(run, tmp_path)
    there = dict(hub.repos[NAME].commits[hub.repos[NAME].main])
    assert {name: there[name] for name in sent} == sent
    assert there.keys() - sent.keys() == {".gitattributes"}
    policy, original = (fastdqn.load(path, device="cpu") for path in (ADDRESS, run))
    ours, theirs = (p.network.state_dict() for p in (policy, original))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32))
    with torch.no_grad():
        assert torch.equal(policy.network(x), original.network(x))
    assert policy.spaces == original.spaces
    asked = len(hub.asked)
    commit = hub.repos[NAME].main
    again = fastdqn.load(f"{ADDRESS}@{commit}", device="cpu")
    assert len(hub.asked) == asked, "what a commit names is not asked for twice"
    assert torch.equal(again.network(x), policy.network(x))


def test_the_files_are_plain_and_the_cache_is_the_client_s(run, hub, tmp_path):
    push(run, tmp_path)
    directory = local_run(ADDRESS)
    assert directory.is_relative_to(tmp_path / "cache" / "models--alice--cart")
    files = [path for path in directory.rglob("*") if not path.is_dir()]
    assert len(files) == 8 and not any(path.is_symlink() for path in files)
    assert local_run(ADDRESS) == directory
    assert list(directory.parent.iterdir()) == [directory]
    assert len(scan_cache_dir(tmp_path / "cache").warnings) == 0


def test_a_newer_push_replaces_the_older_one(run, hub, tmp_path):
    film = tmp_path / "a.mp4"
    film.write_bytes(b"film")
    push(run, tmp_path / ".", film=str(film))
    first = set(hub.repos[NAME].commits[hub.repos[NAME].main])
    assert "replay.mp4" in first
    shorter = tmp_path / "shorter"
    fastdqn.train(tiny(shorter, total_env_steps=160, device="cpu", torch_threads=1))
    (tmp_path / "parcel").rename(tmp_path / "sent")
    push(shorter, tmp_path)
    now = set(hub.repos[NAME].commits[hub.repos[NAME].main])
    assert "replay.mp4" not in now
    assert {name.split("/")[1] for name in now if "/" in name} == {"step_000000000160"}
    assert local_run(ADDRESS).joinpath("checkpoints", "step_000000000160").is_dir()


def test_a_run_starts_from_one_of_the_hub(run, hub, tmp_path):
    push(run, tmp_path)
    changes = {"initial": ADDRESS, "device": "cpu", "torch_threads": 1}
    result = fastdqn.train(tiny(tmp_path / "new", learning_rate=1e-12, **changes))
    ours, theirs = (p.network.state_dict() for p in (result.policy, fastdqn.load(run)))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in ours)


def test_without_a_connection_the_cache_serves(run, hub, tmp_path, monkeypatch):
    push(run, tmp_path)
    directory = local_run(ADDRESS)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert local_run(ADDRESS) == directory
    said = refused(local_run, "hf:alice/other")
    assert "hf:alice/other is not in the cache, and http://127.0.0.1:9 cannot be reached" in said
    assert "cannot be written at http://127.0.0.1:9 (" in refused(
        check_account, NAME, private=False
    )


def test_offline_is_said(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(local_run, ADDRESS)


def test_what_the_hub_refuses_is_one_sentence(run, hub, tmp_path, monkeypatch):
    push(run, tmp_path)
    hub.make("bob/bert", {"config.json": b"{}", "model.safetensors": b"x"})
    hub.make("bob/gated", {"config.json": b"{}"}, gated=True)
    hub.make("bob/private", {"config.json": b"{}"}, private=True)
    for address, words in {
        "hf:alice/nothing": "does not exist, or is private; correct its name",
        f"{ADDRESS}@nothing": "has no such revision",
        "hf:bob/bert": "holds no run of fastdqn",
        "hf:bob/gated": "is gated; ask for access at http",
    }.items():
        assert words in refused(fastdqn.load, address)
    monkeypatch.delenv("HF_TOKEN")
    assert "does not exist, or is private" in refused(local_run, "hf:bob/private")


@pytest.mark.parametrize(
    ("name", "token", "private", "words"),
    [
        (NAME, None, False, "cannot be written without a token; run 'hf auth login'"),
        (NAME, "hf_nobody", False, "the token is refused"),
        ("bob/cart", True, False, "belongs to 'bob', and the token to 'alice'; use one of alice"),
        ("alice/bert", True, False, "holds something else than a run; name another"),
        (NAME, True, True, "exists and is public"),
    ],
)
def test_what_would_be_refused_is_before_anything_is_sent(
    hub, monkeypatch, name, token, private, words
):
    hub.make("alice/bert", {"config.json": b"{}", "README.md": b""})
    hub.make(NAME, {".gitattributes": b""})
    if token is None:
        monkeypatch.delenv("HF_TOKEN")
    elif token is not True:
        monkeypatch.setenv("HF_TOKEN", token)
    assert words in refused(check_account, name, private=private)
    assert not any("commit" in line or "create" in line for line in hub.asked)


def test_a_token_that_may_only_read(run, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READ_ONLY)
    assert "cannot be written with this token; set HF_TOKEN to one that may" in refused(
        push, run, tmp_path
    )
    assert hub.repos == {}


def test_a_private_run_is_made_private(run, hub, tmp_path):
    push(run, tmp_path, "a-club/cart", private=True)
    assert hub.repos["a-club/cart"].private


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'fastdqn[hub]'" in refused(fastdqn.load, ADDRESS)


# --- what a hub may hold against us --------------------------------------------------------------


def forged(run, hub, tmp_path, **files):
    there = push(run, tmp_path)
    hub.make("mallory/run", {**there, **files})
    return "hf:mallory/run"


def test_a_damaged_file_is_found(run, hub, tmp_path):
    name = "checkpoints/step_000000000240/learner-00000.safetensors"
    body = bytearray((push(run, tmp_path))[name])
    body[-1] ^= 1
    files = hub.repos[NAME].commits[hub.repos[NAME].main] | {name: bytes(body)}
    hub.make("mallory/run", files)
    assert "no whole checkpoint" in refused(fastdqn.load, "hf:mallory/run")


def test_only_files_of_a_run_are_downloaded(run, hub, tmp_path):
    more = {"setup.py": b"raise", "model.pkl": b"raise", "checkpoints/x.py": b"raise",
            "checkpoints/step_000000000240/replay-00000.safetensors": b"large"}  # fmt: skip
    directory = local_run(forged(run, hub, tmp_path, **more))
    names = {path.name for path in (tmp_path / "cache").rglob("*")}
    assert not names & {"setup.py", "model.pkl", "x.py", "replay-00000.safetensors"}
    assert (directory / "config.json").is_file()


def test_what_else_the_cache_has_of_a_commit_is_no_part_of_the_run(run, hub, tmp_path):
    address = forged(run, hub, tmp_path, **{"setup.py": b"raise", "checkpoints/a.py": b"raise"})
    snapshot_download("mallory/run")  # by its user, whole
    names = {path.name for path in local_run(address).rglob("*")}
    assert "config.json" in names and not names & {"setup.py", "a.py", "README.md"}


def test_no_file_leads_out_of_the_cache(run, hub, tmp_path):
    outside = "checkpoints/step_/../../../../../../../learner-evil.safetensors"
    address = forged(run, hub, tmp_path, **{outside: b"evil"})
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    try:
        local_run(address)
    except (CheckpointError, ConfigError) as error:
        assert "mallory/run cannot be read" in str(error)
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before
    taken = tmp_path.rglob("learner-evil.safetensors")
    assert not [path for path in taken if "fastdqn" in path.parts]


def test_an_env_of_a_module_is_not_imported(run, hub, tmp_path, capsys):
    from fastdqn.cli.main import main

    there = json.loads((run / "config.json").read_text())
    there |= {"env_id": "evil_module:Env-v0", "run_dir": None}
    address = forged(run, hub, tmp_path, **{"config.json": json.dumps(there).encode()})
    (tmp_path / "evil_module.py").write_text("raise SystemExit('executed')")
    sys.path.insert(0, str(tmp_path))
    try:
        assert main(["eval", address]) == 2
        assert "add --allow-env-import if you trust it" in capsys.readouterr().err
    finally:
        sys.path.remove(str(tmp_path))
    assert "evil_module" not in sys.modules
    fastdqn.load(address, device="cpu")
    assert "evil_module" not in sys.modules


def test_a_file_system_without_hard_links(run, hub, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no links here")

    push(run, tmp_path)
    monkeypatch.setattr(os, "link", refuse)
    assert fastdqn.load(ADDRESS, device="cpu").spaces.num_actions == 2
