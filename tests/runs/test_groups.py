"""Runs put together: groups, their labels, means and intervals by hand."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from fastdqn.config.config import Config
from fastdqn.runs.groups import (
    aggregate,
    by_env,
    group_runs,
    returns_of,
    threshold_of,
    window_of,
)
from fastdqn.runs.reader import Evaluation, Run


def make(path, **changes):
    return Run(Path(path), Config(**changes), {}, None)


def test_seeds_of_one_configuration_are_one_group():
    runs = [
        make("a", seed=1, run_dir="a"),
        make("b", seed=1, double=False, n_step=1),
        make("c", seed=2, run_dir="c", checkpoint_keep=9, log_period_env_steps=8, max_wall_s=9.0),
    ]
    groups = group_runs(runs)
    assert [[run.path.name for run in group.runs] for group in groups] == [["a", "c"], ["b"]]
    assert [group.label for group in groups] == ["n_step 3, double True", "n_step 1, double False"]
    assert [group.seeds for group in groups] == ["2 seeds", "seed 1"]
    assert group_runs([make("a"), make("b")])[0].seeds == "2 runs"


def test_one_group_is_called_by_its_env():
    assert [group.label for group in group_runs([make("a"), make("b", seed=9)])] == ["CartPole-v1"]


def test_groups_of_different_envs_are_called_by_them():
    runs = [make("a"), make("b", env_id="Acrobot-v1", gamma=0.5), make("c", seed=3)]
    groups = group_runs(runs)
    assert [group.label for group in groups] == ["CartPole-v1", "Acrobot-v1"]
    assert [group.configuration for group in groups] == [0, 0]


def test_a_configuration_keeps_its_number_and_label_on_every_env():
    # num_envs follows from the env and sets nothing apart.
    runs = [
        make("a", double=True),
        make("b", double=False),
        make("c", env_id="Acrobot-v1", num_envs=4, double=False),
        make("d", env_id="Acrobot-v1", num_envs=4, double=True),
    ]
    groups = group_runs(runs)
    assert [(g.env_name, g.label, g.configuration) for g in groups] == [
        ("CartPole-v1", "double True", 0),
        ("CartPole-v1", "double False", 1),
        ("Acrobot-v1", "double False", 1),
        ("Acrobot-v1", "double True", 0),
    ]
    assert {env: len(mine) for env, mine in by_env(groups).items()} == {
        "CartPole-v1": 2,
        "Acrobot-v1": 2,
    }
    assert groups[1].settings != groups[2].settings, "num_envs is a setting all the same"
    assert group_runs([runs[0].__class__(Path("e"), runs[0].config.replace(env_id="Acrobot-v1"),
                                         {}, None)])[0].settings == groups[0].settings  # fmt: skip


def test_labels_are_short_and_different():
    runs = [
        make("a"),
        make("b", gamma=0.5, loss="mse", batch_size=8, mode="eager"),
        make("c", gamma=0.5, loss="mse", batch_size=8, mode="compile"),
        make("d", env_id="Acrobot-v1"),
    ]
    labels = [group.label for group in group_runs(runs)]
    assert labels[1].startswith("b: ") and labels[1].endswith(" more")
    assert labels[3] == labels[0], "the same configuration on another env"
    assert len(set(labels)) == 3
    assert max(map(len, labels)) < 80
    of_one_name = [
        make(f"{number}/run", gamma=0.5, loss="mse", batch_size=8, num_envs=4, mode=mode)
        for number, mode in enumerate(("auto", "eager", "compile"))
    ]
    labels = [group.label for group in group_runs([make("run"), *of_one_name])]
    assert len(set(labels)) == 4


# --- mean and interval ----------------------------------------------------------------------------


def test_the_mean_by_hand_and_no_interval_of_two():
    total = aggregate([([0, 10, 20], [0, 10, 20]), ([0, 10, 20], [2, 6, 40])])
    assert total.env_steps.tolist() == [0, 10, 20]
    assert total.mean.tolist() == [1, 8, 30]
    assert total.interval is None


def test_other_env_steps_are_interpolated_and_only_what_all_cover_has_a_mean():
    total = aggregate([([0, 10, 30], [0, 10, 30]), ([5, 15, 40], [1, 1, 1])])
    assert total.env_steps.tolist() == [5, 10, 15, 30]
    assert total.mean.tolist() == [(5 + 1) / 2, (10 + 1) / 2, (15 + 1) / 2, (30 + 1) / 2]
    apart = aggregate([([0, 10], [1, 1]), ([20, 30], [2, 2])])
    assert apart.env_steps.tolist() == [] == apart.mean.tolist()
    three = aggregate([([0, 10], [1, 1]), ([20, 30], [2, 2]), ([0, 1], [2, 2])])
    assert three.interval is not None and three.interval[0].tolist() == []


def test_five_runs_get_the_bootstrap_interval_of_the_mean():
    values = [0.0, 0.0, 0.0, 0.0, 10.0]
    total = aggregate([([0, 1], [v, 2 * v]) for v in values])
    # All 5^5 resamples: the mean is 10 k / 5 with k ~ Binomial(5, 1/5).
    means = sorted(sum(draw) / 5 for draw in itertools.product(values, repeat=5))
    low, high = np.percentile(means, [2.5, 97.5])
    assert (low, high) == (0.0, 6.0)
    assert [ends.tolist() for ends in total.interval] == [[low, 2 * low], [high, 2 * high]]
    assert total.mean.tolist() == [2, 4]
    assert high < 10  # not the range


def test_the_interval_covers_95_percent_of_the_resamples():
    values = [0.0, 1.0, 3.0, 7.0, 20.0]
    low, high = aggregate([([0], [v]) for v in values]).interval
    means = [sum(draw) / 5 for draw in itertools.product(values, repeat=5)]
    assert low[0] == pytest.approx(np.percentile(means, 2.5), abs=0.2)
    assert high[0] == pytest.approx(np.percentile(means, 97.5), abs=0.4)
    assert high[0] > np.percentile(means, 95) + 0.4  # that of a 90 % interval


def test_the_interval_narrows_with_the_number_of_runs():
    rng = np.random.default_rng(3)
    widths = []
    for count in (5, 20, 80):
        total = aggregate([([0, 1, 2], [v, v, v]) for v in rng.normal(size=count)])
        low, high = total.interval
        widths.append(float((high - low)[0]))
        assert low[0] <= total.mean[0] <= high[0]
    # 2 * 1.96 / sqrt(n), roughly.
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_long_runs_are_thinned_with_both_ends():
    x = [float(step) for step in range(5_000)]
    total = aggregate([(x, x), (x, [y + 2 for y in x])])
    assert len(total.env_steps) == 1_000
    assert (total.env_steps[0], total.env_steps[-1]) == (0, 4_999)
    assert np.array_equal(total.mean, total.env_steps + 1)


# --- what a group has earned ----------------------------------------------------------------------


def trained(path, evaluations=(), threshold=None, window=100, episodes=150):
    columns = {"env_steps": [10.0, 20.0], "return_mean": [1.0, 2.0], "episodes": [50.0, episodes]}
    rows = tuple(Evaluation(env_steps=x, mean=y, final=final) for x, y, final in evaluations)
    return Run(Path(path), Config(stop_window=window), columns, threshold, rows)


def test_evaluations_lead_as_soon_as_a_run_has_two():
    once = trained("a", [(20, 7, True)])
    (group,) = group_runs([once, trained("b")])
    assert returns_of(group).leads == "trained"
    assert returns_of(group).evaluated == (([20], [7]),)
    (group,) = group_runs([once, trained("b", [(10, 3, False), (20, 4, False), (20, 5, True)])])
    returns = returns_of(group)
    assert returns.leads == "evaluated"
    # Of equal env steps the last one counts.
    assert returns.evaluated == (([20], [7]), ([10, 20], [3, 5]))
    assert returns.trained == (([10, 20], [1, 2]),) * 2
    none = Run(Path("c"), Config(), {}, None, once.evaluations)
    assert returns_of(group_runs([none])[0]).leads == "evaluated"


def test_threshold_and_window():
    groups = group_runs([trained("a", threshold=9.0), trained("b")])
    assert threshold_of(groups) == 9
    assert (
        threshold_of(group_runs([trained("a", threshold=9.0), trained("b", threshold=8.0)])) is None
    )
    assert window_of([trained("a"), trained("b")]) == "mean of 100 episodes"
    assert window_of([trained("a"), trained("b", window=50)]) == "mean of recent episodes"
    assert window_of([trained("a", window=1000)]) == "mean of all episodes so far"
