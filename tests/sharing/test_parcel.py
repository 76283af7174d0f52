"""What is sent of a run: one policy alone, nothing of this machine, and a card that is read."""

import json
from pathlib import Path

import pytest
from helpers.short_runs import Own, tiny
from huggingface_hub import ModelCard

import fastdqn
from fastdqn.checkpoints.store import load_checkpoint
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError
from fastdqn.runs.reader import read_evaluations
from fastdqn.sharing.parcel import contents_of, pack
from fastdqn.sharing.portable import portable


def packed(run, tmp_path, **what):
    directory = tmp_path / "parcel"
    directory.mkdir()
    pack(contents_of(run, **what), directory, repo="alice/cart")
    return directory


def test_the_policy_travels_alone(run, tmp_path):
    directory = packed(run, tmp_path)
    whole = load_checkpoint(run / "checkpoints" / "step_000000000240")
    sent = load_checkpoint(directory / "checkpoints" / "step_000000000240")
    assert {name: sorted(part) for name, part in sent.items()} == {
        "run": ["config", "env_steps", "spec"],
        "learner": ["network"],
    }
    assert sent["run"]["spec"] == whole["run"]["spec"]
    parameters = sum(t.numel() * 4 for t in whole["learner"]["network"].values())
    size = sum(path.stat().st_size for path in (directory / "checkpoints").rglob("*"))
    assert size < parameters + 20_000
    assert fastdqn.load(directory, device="cpu").spaces == fastdqn.load(run).spaces


def test_a_parcel_cannot_go_on_and_says_so(run, tmp_path):
    directory = packed(run, tmp_path)
    config = Config.load(directory / "config.json")
    with pytest.raises(CheckpointError, match=r"learner is \['network'\] in the checkpoint"):
        fastdqn.train(config.replace(run_dir=str(directory), resume="require"))


def test_nothing_of_this_machine_is_sent(run, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: run.parents[1])
    directory = packed(run, tmp_path)
    for path in directory.rglob("*"):
        if path.is_file():
            assert str(run.parents[1]).encode() not in path.read_bytes(), path.name
    assert Config.load(directory / "config.json").run_dir is None
    kept = portable(Config(initial=f"{run.parents[1]}/a:best", run_dir="b", resume="auto"))
    assert (kept.initial, kept.run_dir, kept.resume) == ("~/a:best", None, "never")


def test_the_card_has_what_leaderboards_read(run, tmp_path):
    text = (packed(run, tmp_path) / "README.md").read_text()
    final = read_evaluations(run, {})[-1]
    data = ModelCard(text).data
    assert data.library_name == "fastdqn"
    assert {"CartPole-v1", "reinforcement-learning", "fastdqn", "dqn"} <= set(data.tags)
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_type, result.metric_type) == (
        "reinforcement-learning",
        "CartPole-v1",
        "mean_reward",
    )
    assert result.metric_value == f"{final.mean:.2f} +/- {final.std:.2f}"
    assert "fastdqn.load('hf:alice/cart')" in text and "fastdqn eval hf:alice/cart" in text
    assert "![Returns over env steps](returns.png)" in text and "```bibtex" in text


def test_weights_that_were_not_evaluated_have_no_score(tmp_path):
    run = tmp_path / "run"
    fastdqn.train(tiny(run, device="cpu", torch_threads=1), network=Own())
    contents = contents_of(run)
    assert contents.evaluation is None
    text = (packed(run, tmp_path) / "README.md").read_text()
    assert ModelCard(text).data.eval_results is None
    assert "there is no score" in text
    assert "a network passed from Python (Own of helpers.short_runs)" in text
    assert "network=network" in text and "fastdqn eval" not in text


def test_the_newest_film_of_a_run_goes_along(run, tmp_path):
    import os
    import shutil

    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "films").mkdir()
    for age, name in enumerate(["new.mp4", "old.mp4", "notes.txt"]):
        (copy / "films" / name).write_bytes(name.encode())
        os.utime(copy / "films" / name, (1000 - age, 1000 - age))
    directory = packed(copy, tmp_path)
    assert (directory / "replay.mp4").read_bytes() == b"new.mp4"
    assert "[replay.mp4](replay.mp4)" in (directory / "README.md").read_text()


def test_a_card_of_atari(tmp_path):
    pong = Path(__file__).parents[2] / "benchmarks" / "results" / "policies" / "pong"
    text = (packed(pong, tmp_path) / "README.md").read_text()
    assert "# QR-DQN (" in text and ") on ALE/Pong-v5" in text
    assert "pip install 'fastdqn[hub,atari]'" in text
    assert "protocol machado" in text and "sticky actions" in text
    assert json.loads((tmp_path / "parcel" / "config.json").read_text())["env_id"] == "ALE/Pong-v5"
