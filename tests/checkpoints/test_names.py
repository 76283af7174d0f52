"""Which checkpoint of a run somebody means: by words, by env steps, behind a colon."""

from pathlib import Path

import pytest
import torch

from fastdqn.checkpoints.names import find_checkpoint, parse_choice, read_spec, split_suffix
from fastdqn.checkpoints.store import save_checkpoint
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.training.load import load

SCORES = {1: 5.0, 2: 9.0, 3: 9.0, 4: 2.0, 5: None}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory of five checkpoints, with a colon in its name."""
    path = tmp_path_factory.mktemp("runs") / "a:1"
    for step, score in SCORES.items():
        save_checkpoint(path / "checkpoints", step, {}, keep=9, score=score)
    return path


@pytest.mark.parametrize(
    ("choice", "step"), [(None, 5), ("best", 2), (1, 1), (4, 4)], ids=str
)  # of equal scores the oldest
def test_the_choice(run, choice, step):
    found = find_checkpoint(run, choice)
    assert found == run / "checkpoints" / f"step_{step:012d}"
    assert find_checkpoint(found) == found


def test_what_is_not_there_is_refused_with_what_is(run, tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint of 7 env steps; there are 1, 2, 3, 4"):
        find_checkpoint(run, 7)
    with pytest.raises(CheckpointError, match="is one checkpoint already"):
        find_checkpoint(find_checkpoint(run), "best")
    with pytest.raises(CheckpointError, match="does not exist"):
        find_checkpoint(tmp_path / "nothing", "best")
    for step in range(20):
        save_checkpoint(tmp_path / "checkpoints", step, {}, keep=99)
    with pytest.raises(
        CheckpointError, match=r"no checkpoint with a score.*or one of 12, .* 19 an"
    ):
        find_checkpoint(tmp_path, "best")
    with pytest.raises(CheckpointError, match="18, 19 and 12 before them"):
        find_checkpoint(tmp_path, 77)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"score": "high"}', '{"score": NaN}'])
def test_a_score_that_cannot_be_read_is_none(tmp_path, damage):
    for step in (1, 2):
        save_checkpoint(tmp_path / "checkpoints", step, {}, keep=9, score=float(step))
    (find_checkpoint(tmp_path, 2) / "manifest.json").write_text(damage)
    assert find_checkpoint(tmp_path, "best").name.endswith("1")


def test_the_chosen_one_must_be_whole(run):
    """Of the newest an older one may take the place; who names one wants that."""
    with pytest.raises(CheckpointError, match="step_000000000002"):
        load(run, checkpoint="best")  # it holds no policy


@pytest.mark.parametrize(
    ("given", "choice"),
    [(None, None), ("latest", None), ("best", "best"), (0, 0), ("120_000", 120_000), ("7", 7)],
)
def test_choices(given, choice):
    assert parse_choice(given) == choice


@pytest.mark.parametrize("given", ["bset", "", "-1", "1.5", "²", -1, True, 2.0, "1" * 99])
def test_what_is_no_choice(given, run):
    with pytest.raises(ConfigError, match=r"checkpoint = .* names no checkpoint; use best, latest"):
        parse_choice(given)
    with pytest.raises(ConfigError, match="names no checkpoint"):
        load(run, checkpoint=given)


def test_a_suffix_is_one_unless_the_path_exists_with_it(run, tmp_path, monkeypatch):
    monkeypatch.chdir(run.parent)
    for text, expected in {
        "a:1": ("a:1", None),  # a directory, although 1 could be env steps
        "a:1:best": ("a:1", "best"),
        "a:1:1": ("a:1", 1),
        "a:1:latest": ("a:1", None),
        "a:1/:120_000": ("a:1", 120_000),
        "gone:best": ("gone", "best"),  # so that the message names the run
        "gone:12": ("gone", 12),
        "gone:x/y": ("gone:x/y", None),
        ":best": (":best", None),
        "C:\\runs\\a": ("C:\\runs\\a", None),
    }.items():
        assert split_suffix(text, "initial") == (Path(expected[0]), expected[1]), text
    with pytest.raises(ConfigError, match=r"initial = 'a:1:bset'.*mean 'best'"):
        split_suffix("a:1:bset", "initial")


def test_the_description_of_what_a_checkpoint_is_for(tmp_path):
    spec = {"num_actions": 3, "own_envs": True}
    path = save_checkpoint(tmp_path, 1, {"run": {"spec": spec, "x": torch.ones(2)}}, keep=1)
    assert read_spec(path) == spec
    (path / "state.json").write_text('{"run": []}')
    assert read_spec(path) == read_spec(tmp_path / "nothing") == {}
