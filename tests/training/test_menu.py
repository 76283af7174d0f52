"""The menu in whole runs: combinations, checkpoints, a run that goes on, weights of another run."""

import numpy as np
import pytest
import torch
from helpers.short_runs import (
    assert_same_checkpoint,
    envs,
    pictures,
    read_rows,
    same_numbers,
    scripted,
    tiny,
)

import fastdqn
from fastdqn.acting.actor import Actor
from fastdqn.checkpoints.names import find_checkpoint
from fastdqn.checkpoints.store import load_checkpoint, save_checkpoint
from fastdqn.errors import ConfigError
from fastdqn.learning.categorical_q_learning import CategoricalQLearning
from fastdqn.learning.q_learning import QLearning
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.make import make_network
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.training.build import as_stream, build_learner, build_network, replay_arguments
from fastdqn.training.train import train

C51 = {"head": "c51", "atoms": 5, "value_min": -2.0, "value_max": 2.0}
QR = {"head": "qr", "quantiles": 4}
IQN = {"head": "iqn", "iqn_samples": 3, "iqn_target_samples": 5, "iqn_policy_samples": 4,
       "iqn_cosines": 6}  # fmt: skip
HEADS = {"scalar": {}, "c51": C51, "qr": QR, "iqn": IQN}
NOISY = {"noisy": True, "epsilon_start": 0.0, "epsilon_end": 0.0}
SOFT = {
    "target": {"munchausen": True},
    "online": {"munchausen": True, "munchausen_policy": "online"},
}
TORSOS = {
    "mlp": {},
    "nature": {"network": "nature", "frame_stack": 2, "padding": "same", "init": "xavier"},
    "der": {"network": "der", "frame_stack": 2, "init": "orthogonal"},
}
SHORT = {"total_env_steps": 64, "learning_starts_env_steps": 48, "replay_capacity": 200,
         "batch_size": 3, "precision": "fp32", "torch_threads": 1, "mode": "eager"}  # fmt: skip
MATRIX = [
    (head, dueling, noisy, soft, torso)
    for head in HEADS
    for dueling in (False, True)
    for noisy in (False, True)
    for soft in (None, "target", "online")
    for torso in TORSOS
    if not (head == "c51" and soft)
]


def fields_of(number):
    """Of one of the matrix; n-step returns and priorities take turns."""
    head, dueling, noisy, soft, torso = MATRIX[number]
    changes = {**HEADS[head], **TORSOS[torso], "dueling": dueling, "n_step": 1 + 2 * (number % 2)}
    changes |= NOISY if noisy else {}
    changes |= SOFT[soft] if soft else {}
    return changes | {"prioritized": number // 2 % 2 == 0}


def test_the_matrix_has_all_that_goes_together():
    assert len(MATRIX) == 120
    for field in ("prioritized", "n_step"):
        for torso in TORSOS:
            for head in HEADS:
                mine = [i for i, (h, *_, t) in enumerate(MATRIX) if (h, t) == (head, torso)]
                assert len({fields_of(i)[field] for i in mine}) == 2, (field, head, torso)


def filled(config, stream):
    """A replay of random rows, as a run makes it."""
    replay = ReplayBuffer(**replay_arguments(config, stream, torch.device("cpu")))
    g = torch.Generator().manual_seed(0)
    replay.add(stream.reset(seed=0), None)
    for _ in range(12):
        actions = torch.randint(0, 5, (4,), generator=g)
        stream.send(actions.numpy())
        replay.add(stream.recv(), actions)
    return replay


@pytest.mark.parametrize("torso", TORSOS)
def test_every_combination_trains_is_saved_and_acts_as_it_did(torso, tmp_path):
    cpu = torch.device("cpu")
    stream = replays = None
    for number, combination in enumerate(MATRIX):
        if combination[-1] != torso:
            continue
        config = tiny(tmp_path, **SHORT, **fields_of(number))
        if stream is None:
            stream, replays = as_stream(envs() if torso == "mlp" else pictures(), config), {}
        key = config.n_step, config.prioritized
        if key not in replays:
            replays[key] = filled(config, stream)
        learner = build_learner(config, build_network(config, stream), cpu)
        before = learner.flat.data.clone()
        result = learner.update_from(replays[key], 2, batch_size=3, beta=0.5)
        assert all(part.isfinite().all() for part in result), combination
        assert not torch.equal(learner.flat.data, before), combination

        save_checkpoint(tmp_path / "saved", number, {"learner": learner.state_dict()}, keep=1)
        state = load_checkpoint(next((tmp_path / "saved").glob("step_*")))
        other = build_learner(
            config.replace(seed=9), build_network(config.replace(seed=9), stream), cpu
        )
        other.load_state_dict(state["learner"])
        seen = replays[key].latest()
        acted = []
        for one in (learner, other):
            actor = Actor(one.acting_network, 4, seed=3, mode="eager")
            actor.epsilon = 0.0
            acted.append([actor.act(seen).tolist(), one.acting_network(seen)])
        assert acted[0][0] == acted[1][0], combination
        assert torch.equal(acted[0][1], acted[1][1]), combination


@pytest.mark.parametrize("number", [11, 25, 58, 71, 93, 118])
def test_a_loaded_policy_acts_as_the_run_did(number, tmp_path):
    torso = MATRIX[number][-1]
    config = tiny(tmp_path / "run", **SHORT, **fields_of(number))
    result = train(config, envs=envs() if torso == "mlp" else pictures())
    assert result.summary["updates"] == 2
    assert np.isfinite(float(read_rows(result.run_dir)[-1]["loss"]))
    policy = fastdqn.load(result.run_dir, device="cpu")
    g = np.random.default_rng(number)
    if torso == "mlp":
        seen = g.random((7, 3), np.float32)
    else:
        seen = g.integers(0, 256, (7, 36, 36), np.uint8)
    q = [p.network(p._observe(torch.from_numpy(seen), None)) for p in (policy, result.policy)]
    assert q[0].isfinite().all() and torch.equal(*q)
    policy.reset(), result.policy.reset()
    assert policy.act(seen).tolist() == result.policy.act(seen).tolist()


@pytest.mark.parametrize(
    "changes",
    [
        {**C51, **NOISY, "dueling": True, "prioritized": True, "n_step": 3},
        {**IQN, **SOFT["target"]},
        {**IQN, **NOISY, "updates_per_launch": 2, "update_period_env_steps": 2.0},
    ],
    ids=["rainbow", "munchausen-iqn", "noisy iqn, two updates at once"],
)
def test_a_run_goes_on_as_if_it_had_not_stopped(changes, tmp_path):
    whole = train(tiny(tmp_path / "whole", **changes), envs=scripted())
    half = tmp_path / "half"
    train(tiny(half, **changes), envs=scripted(), on_log=lambda row: True)
    train(tiny(half, resume="require", **changes), envs=scripted())
    assert same_numbers(read_rows(half)) == same_numbers(read_rows(whole.run_dir))
    assert_same_checkpoint(*(find_checkpoint(path) for path in (half, whole.run_dir)))


def test_acting_by_noise_is_saved_too(tmp_path):
    """The numbers of a noisy run depend on the seed of its actor, and each env has its own."""
    first = train(tiny(tmp_path / "a", **NOISY), envs=scripted())
    again = train(tiny(tmp_path / "b", **NOISY), envs=scripted())
    other = train(tiny(tmp_path / "c", seed=2, **NOISY), envs=scripted())
    rows = [same_numbers(read_rows(run.run_dir)) for run in (first, again, other)]
    assert rows[0] == rows[1] != rows[2]


# --- weights of another run ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    path = tmp_path_factory.mktemp("menu") / "parent"
    train(tiny(path, **C51), envs=scripted())
    return path


@pytest.mark.parametrize(
    "changes", [{}, QR, IQN, {**QR, "quantiles": 5}, {**C51, "value_max": 3.0}]
)
def test_another_head_takes_the_torso_alone(changes, parent, tmp_path):
    """Also where its shapes are the same: five quantiles are no five atoms."""
    config = tiny(tmp_path / "child", initial=str(parent), **changes)
    with pytest.raises(ConfigError, match="set initial_torso_only = True to take all but the head"):
        train(config, envs=scripted())
    with pytest.warns(UserWarning, match=r"but (embedding|head)\."):
        train(config.replace(initial_torso_only=True), envs=scripted())


def test_noise_is_another_network(parent, tmp_path):
    config = tiny(tmp_path / "child", initial=str(parent), **C51, **NOISY)
    with pytest.raises(ConfigError, match="noisy = False, where this run has True"):
        train(config, envs=scripted())


# --- networks of the caller's --------------------------------------------------------------------


@pytest.mark.parametrize("changes", [C51, NOISY], ids=["head", "noisy"])
def test_a_network_of_another_kind_than_the_fields_say_is_refused(changes, tmp_path):
    config = tiny(tmp_path / "run", **changes)
    shape = {"num_actions": 5, "hidden_sizes": (16,)}
    name = next(iter(changes))
    with pytest.raises(ConfigError, match=f"{name} = .* describes another network than yours"):
        train(config, envs=envs(), network=make_network((3,), **shape))
    fields = {field: value for field, value in changes.items() if "epsilon" not in field}
    train(config, envs=envs(), network=make_network((3,), **shape, **fields))


def test_a_learner_takes_the_objective_of_its_network():
    kinds = [QLearning, CategoricalQLearning, QuantileQLearning, QuantileQLearning]
    for head, kind in zip(HEADS, kinds, strict=True):
        learner = fastdqn.Learner(make_network((3,), 2, head=head))
        assert type(learner.objective) is kind
    assert learner.objective.implicit
    with pytest.raises(ConfigError, match="loss = 'mse' is for Q itself"):
        fastdqn.Learner(make_network((3,), 2, head="qr"), loss="mse")
    with pytest.raises(ConfigError, match=r"atom is no argument of make_network.*atoms"):
        make_network((3,), 2, head="c51", atom=3)
