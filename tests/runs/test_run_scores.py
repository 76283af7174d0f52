"""Scores of runs, of groups and of games; the human-normalised scale."""

import gymnasium
import pytest

from fastdqn.config.config import Config
from fastdqn.runs.atari_scores import RANDOM_AND_HUMAN, human_normalised
from fastdqn.runs.groups import group_runs
from fastdqn.runs.reader import Evaluation, Run
from fastdqn.runs.scores import (
    FINAL,
    NEWEST,
    TRAINING,
    evaluation_score,
    group_score,
    together,
    training_score,
)


def make(path, mean=None, *, at=20.0, final=True, returns=(1.0, 2.0), **changes):
    columns = {"env_steps": [10.0, 20.0], "return_mean": list(returns)}
    rows = () if mean is None else (Evaluation(env_steps=at, mean=mean, final=final),)
    return Run(path, Config(**changes), columns if returns else {}, None, rows)


def test_the_scale_has_57_games_of_ale():
    ale_py = pytest.importorskip("ale_py")
    gymnasium.register_envs(ale_py)
    assert len(RANDOM_AND_HUMAN) == 57
    assert [game for game in RANDOM_AND_HUMAN if game not in gymnasium.registry] == []
    assert all(human > random for random, human in RANDOM_AND_HUMAN.values())


def test_human_normalised_by_hand():
    assert human_normalised("ALE/Krull-v5", 2665.5) == 1
    assert human_normalised("ALE/Pong-v5", -20.7) == 0
    assert human_normalised("ALE/Breakout-v5", 16.1) == pytest.approx(0.5)  # 14.4 of 28.8
    assert human_normalised("CartPole-v1", 3) is None
    assert human_normalised("ALE/Pooyan-v5", 3) is None, "one of ALE's, none of the 57"


def test_the_score_of_a_run(tmp_path):
    final = evaluation_score(make(tmp_path, 7.0))
    assert (final.value, final.env_steps, final.kind) == (7, 20, FINAL)
    assert evaluation_score(make(tmp_path, 7.0, final=False)).kind == NEWEST
    # Resumed since: the evaluation was of the end of a session.
    assert evaluation_score(make(tmp_path, 7.0, at=10.0)).kind == NEWEST
    assert evaluation_score(make(tmp_path)) is None
    assert training_score(make(tmp_path)).value == 2
    assert training_score(make(tmp_path, returns=())) is None


def test_evaluated_runs_count_where_there_are_any(tmp_path):
    runs = [make(tmp_path / str(k), mean, seed=k) for k, mean in enumerate((4.0, None, 8.0))]
    score = group_score(group_runs(runs)[0])
    assert [each.value for each in score.scores] == [4, 8]
    assert (score.iqm.value, score.median.value, score.mean.value) == (6, 6, 6)
    assert not score.iqm.has_interval
    score = group_score(group_runs([runs[1]])[0])
    assert [(each.value, each.kind) for each in score.scores] == [(2, TRAINING)]
    assert group_score(group_runs([make(tmp_path, returns=())])[0]) is None


def test_games_together_are_of_one_configuration(tmp_path):
    def scores_of(*runs):
        return [group_score(group) for group in group_runs(runs)]

    pong = [make(tmp_path / f"p{k}", -20.7 + 35.3 * k, env_id="ALE/Pong-v5", seed=k)
            for k in range(3)]  # fmt: skip
    krull = [make(tmp_path / f"k{k}", 2665.5, env_id="ALE/Krull-v5", seed=k) for k in range(3)]
    (found,) = together(scores_of(*pong, *krull))
    # Pong 0, 1 and 2, Krull 1, 1 and 1: floor(6 / 4) = 1 left out at each end.
    assert found.iqm.value == pytest.approx(1)
    assert found.mean.value == pytest.approx(1) and found.median.value == pytest.approx(1)
    assert found.iqm.has_interval and found.mean.low < 1 < found.mean.high
    assert [group.env_name for group in found.groups] == ["ALE/Pong-v5", "ALE/Krull-v5"]
    other = [make(tmp_path / "o", 2665.5, env_id="ALE/Krull-v5", gamma=0.5)]
    assert together(scores_of(*pong, *other)) == [], "another algorithm"
    assert together(scores_of(*pong)) == []
    assert together(scores_of(*pong, make(tmp_path / "c", 5.0))) == [], "CartPole has no human"
    unevaluated = [make(tmp_path / "u", env_id="ALE/Krull-v5")]
    assert together(scores_of(*pong, *unevaluated)) == [], "training returns are something else"
