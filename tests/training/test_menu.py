"""The menu in whole runs: combinations, checkpoints, a run that goes on, weights of another run."""

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete
from gymnasium.vector import SyncVectorEnv
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
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.learning.categorical_q_learning import CategoricalQLearning
from fastdqn.learning.q_learning import QLearning
from fastdqn.learning.quantile_q_learning import QuantileQLearning
from fastdqn.networks.draws import Draw
from fastdqn.networks.make import make_network
from fastdqn.networks.values import CategoricalValues
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.training.build import as_stream, build_learner, build_network, replay_arguments
from fastdqn.training.train import train
from fastdqn.training.trainer import Trainer

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


def test_an_objective_without_length_is_one(tmp_path):
    class Empty(QLearning, list):
        """What Python takes for false."""

    objective = Empty(double=False)
    network = make_network((3,), 2, hidden_sizes=(4,))
    config = tiny(tmp_path / "run")
    learner = build_learner(config, network, torch.device("cpu"), objective)
    assert learner.objective is objective


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


# --- what does not go together in Python ---------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "objective"),
    [
        ({"head": "qr", "quantiles": 51}, CategoricalQLearning(CategoricalValues())),
        ({"head": "c51", "value_max": 5.0}, CategoricalQLearning(CategoricalValues())),
        ({"head": "c51"}, QuantileQLearning()),
        ({"head": "qr"}, QuantileQLearning(implicit=True)),
        ({"head": "iqn"}, QuantileQLearning()),
        ({}, QuantileQLearning()),
    ],
)
def test_an_objective_for_another_head_is_refused_although_shapes_agree(head, objective):
    with pytest.raises(ConfigError, match=r"head makes .* leave the objective out"):
        fastdqn.Learner(make_network((3,), 2, **head), objective=objective)
    fastdqn.Learner(make_network((3,), 2, **head), objective=QLearning())  # of its mean


def test_a_network_of_the_callers_may_have_implicit_quantiles():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)

        def random_shapes(self, batch_size, samples=3):
            return {"tau": Draw("uniform", (batch_size, samples))}

        def forward(self, observation, randoms=None):
            tau = torch.full((len(observation), 3), 0.5) if randoms is None else randoms["tau"]
            rows = observation.unsqueeze(1).expand(-1, tau.shape[1], -1)
            return self.layer(torch.cat((rows, tau.unsqueeze(2)), dim=2)).mT

        def q_values(self, output):
            return output.mean(dim=2)

    class Fixed(Own):
        def random_shapes(self, batch_size):
            return {"tau": Draw("uniform", (batch_size, 3))}

    objective = QuantileQLearning(implicit=True, samples=5, target_samples=2)
    learner = fastdqn.Learner(Own(), objective=objective, learning_rate=1e-2)
    ones, action = torch.ones(4), torch.tensor([0, 1, 1, 0])
    seen = torch.rand(4, 3)
    batch = fastdqn.Batch(seen, action, ones, 0.9 * ones, seen, ones, action)
    before = learner.flat.data.clone()
    assert learner.update(batch).priority.shape == (4,)
    assert not torch.equal(before, learner.flat.data)
    with pytest.raises(ConfigError, match="give it a second argument, samples"):
        fastdqn.Learner(Fixed(), objective=objective)


def test_munchausen_beside_an_objective_of_ones_own_is_refused(tmp_path):
    config = tiny(tmp_path / "run", munchausen=True)
    with pytest.raises(ConfigError, match="munchausen = True has no effect beside an objective"):
        train(config, envs=scripted(), objective=QLearning())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"head": "qr", "atoms": 5}, "atoms = 5 has no effect with head = 'qr'"),
        ({"iqn_cvar": 0.1}, "iqn_cvar = 0.1 has no effect with head = 'scalar'"),
        ({"noisy_sigma": 0.1}, "noisy_sigma = 0.1 has no noise to scale"),
    ],
)
def test_details_of_another_head_are_refused(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make_network((3,), 2, **options)


def test_logits_are_not_taken_for_quantiles_by_a_network_that_was_passed(parent, tmp_path):
    config = tiny(tmp_path / "child", initial=str(parent))
    network = make_network((3,), 5, hidden_sizes=(16,), head="qr", quantiles=5)
    with pytest.raises(ConfigError, match="initial_torso_only = True to take all but the head"):
        train(config, envs=envs(), network=network)


@pytest.mark.parametrize("head", [{"head": "qr", "quantiles": 5}, {**C51, "value_max": 3.0}])
def test_logits_are_not_loaded_into_a_network_that_takes_them_otherwise(parent, head):
    network = make_network((3,), 5, hidden_sizes=(16,), **head)
    with pytest.raises(CheckpointError, match=r"has CategoricalValues.*; leave network out"):
        fastdqn.load(parent, network=network)
    same = make_network((3,), 5, hidden_sizes=(16,), **C51)
    seen = torch.rand((4, 3), generator=torch.Generator().manual_seed(0))
    policies = [fastdqn.load(parent), fastdqn.load(parent, network=same)]
    assert torch.equal(*(policy.network(seen) for policy in policies))


def header_of(path, changes):
    """What the header of a run says, by the name of its line."""
    trainer = Trainer(tiny(path, **changes), scripted())
    try:
        return dict(line.split(maxsplit=1) for line in trainer.header().splitlines())
    finally:
        trainer.close()


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "DQN, double"),
        ({"munchausen": True, "dueling": True}, "Munchausen DQN, dueling"),
        (C51 | NOISY, "C51 (5 values from -2 to 2), double, noisy layers (sigma 0.5)"),
        (QR, "QR-DQN (4 quantiles), double"),
        (IQN, "IQN (3 fractions, 5 of the target), double"),
    ],
)
def test_the_header_says_what_is_learned(changes, text, tmp_path):
    assert header_of(tmp_path / "run", changes)["algorithm"] == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "1 to 0.05, linear over 10,000 env steps"),
        (NOISY, "0 throughout"),
        (NOISY | {"noisy": False}, "0 throughout, and no noisy layers: nothing explores"),
        ({"epsilon_start": 0.3, "epsilon_end": 0.3}, "0.3 throughout"),
    ],
)
def test_the_header_says_whether_anything_explores(changes, text, tmp_path):
    assert header_of(tmp_path / "run", changes)["epsilon"] == text


@pytest.mark.parametrize("changes", [IQN, {**IQN, **NOISY, "dueling": True}, C51 | NOISY])
def test_an_image_and_a_vector_go_with_every_head(changes, tmp_path):
    """A batch is counted by its rows, not by the parts of an observation."""
    config = tiny(tmp_path / "run", **SHORT, **changes, network="small_cnn", num_envs=4)
    result = train(config, envs=SyncVectorEnv([PictureAndVector] * 4))
    assert result.summary["updates"] == 2
    policy = fastdqn.load(result.run_dir, device="cpu")
    observation, _ = SyncVectorEnv([PictureAndVector] * 3).reset(seed=0)
    assert policy.act(observation).shape == (3,)


class PictureAndVector(gymnasium.Env):
    """A picture of 8 x 8 and three numbers; five steps."""

    observation_space = Dict(
        image=Box(0, 255, (8, 8, 1), np.uint8), numbers=Box(-1, 1, (3,), np.float32)
    )
    action_space = Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.observation_space.sample(), {}

    def step(self, action):
        self.left -= 1
        return self.observation_space.sample(), float(action), self.left == 0, False, {}
