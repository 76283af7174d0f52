"""A user's program with every public name, as a type checker and Python read it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

import fastdqn
from fastdqn import (
    Actor,
    AtariProtocol,
    Batch,
    Callback,
    CheckpointError,
    Config,
    ConfigError,
    EnvError,
    EnvFailure,
    EnvStream,
    Episode,
    EpisodeStatistics,
    EvalResult,
    FastDQNError,
    Learner,
    LiveRun,
    MemoryPlan,
    MemoryPlanError,
    Policy,
    QNetwork,
    ReplayBuffer,
    SumTree,
    TimeStep,
    TrainingError,
    TrainResult,
    UpdateResult,
    config_for,
    evaluate,
    exponential_schedule,
    input_gradient,
    learning,
    linear_schedule,
    load,
    make_envs,
    make_network,
    networks,
    presets,
    train,
)


class Network(nn.Module):
    """A network of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, observation: Tensor) -> Tensor:
        """[B, 4] to [B, 2]."""
        q: Tensor = self.layers(observation)
        return q


class AbsoluteError:
    """An objective of one's own."""

    forwards = (learning.Forward("target", "s2"), learning.Forward("online", "s"))

    def __call__(
        self,
        outputs: learning.Outputs,
        batch: learning.Transitions,
        randoms: Mapping[learning.Forward, Mapping[str, Tensor]],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, TD error and priority."""
        following, own = self.forwards
        target = learning.q_target(outputs.q(following), batch.reward, batch.discount)
        td = learning.td_error(outputs.q(own), batch.action, target)
        return td.abs(), td, td.detach().abs()


class StopsLate(Callback):
    """A callback of one's own."""

    def on_start(self, run: LiveRun) -> None:
        """Another schedule than the configuration's."""
        self.run = run
        run.schedules.epsilon = lambda env_steps: 0.1 if env_steps < 200 else 0.0

    def on_episode(self, episode: Episode) -> bool:
        """Stop at what training never comes to."""
        assert self.run.env_steps == episode.env_steps
        return episode.episode_return > 1e6


def run(directory: Path) -> TrainResult:
    """A run, and its policy."""
    config: Config = presets()["cartpole"].replace(
        total_env_steps=400, learning_starts_env_steps=200, eval_episodes=0, run_dir=str(directory)
    )
    rows: list[float] = []

    def on_log(row: Mapping[str, float]) -> bool:
        rows.append(row["env_steps"])
        return False

    result: TrainResult = train(
        config, on_log=on_log, callbacks=[StopsLate()], objective=AbsoluteError()
    )
    text: str = config_for("CartPole-v1", seed=3).to_json()
    assert rows and Config.from_json(text).seed == 3
    return result


def play(directory: Path) -> float:
    """A policy from the disk, on envs of its own."""
    policy: Policy = load(directory, device="cpu")
    action = policy.act(np.zeros(4, np.float32))
    assert int(action) in (0, 1)
    envs: EnvStream = make_envs("CartPole-v1", num_envs=2)
    score: EvalResult = evaluate(policy, envs, episodes_per_env=1)
    state = torch.zeros(1, 4)
    assert input_gradient(policy, state).shape == state.shape
    return score.mean


def loop() -> tuple[int, int, float, float]:
    """A loop of one's own."""
    stream: EnvStream = make_envs("fastdqn/CartPole-v1", 4, seed=1)
    network: QNetwork = make_network((4,), stream.num_actions, hidden_sizes=(16,))
    plan: MemoryPlan = ReplayBuffer.plan(4_000, 4, stream.observation_space, batch_size=8)
    replay = ReplayBuffer(4_000, 4, stream.observation_space, prioritized=True, n_step=3)
    learner = Learner(network, learning_rate=1e-3)
    actor = Actor(learner.acting_network, stream.num_envs)
    statistics = EpisodeStatistics(stream.num_envs, window=10)
    step: TimeStep = stream.reset(seed=1)
    statistics.add(step)
    replay.add(step, None)
    for number in range(60):
        actor.epsilon = linear_schedule(number, 1.0, 0.1, 0, 40)
        actions: Tensor = actor.act(replay.latest())
        step = stream.step(actions)
        statistics.add(step)
        replay.add(step, actions)
        learner.set_learning_rate(exponential_schedule(number, 1e-3, 1e-4, 0, 40))
    batch: Batch = replay.sample(8, beta=0.5)
    result: UpdateResult = learner.update(batch)
    replay.update_priorities(batch.index, result.priority)
    last: UpdateResult | None = learner.update_from(replay, times=2, batch_size=8)
    assert last is not None and float(last.loss) >= 0 and plan.total > 0
    print(repr(learner.policy()))
    return statistics.read()


def draw() -> Tensor:
    """A sum tree."""
    tree = SumTree(8)
    tree.set(torch.tensor([3]), torch.tensor([2.0]))
    index, _ = tree.sample(torch.rand(tree.levels, 4))
    return index


def parts() -> list[nn.Module]:
    """Torsos, heads and objectives by hand."""
    by_hand = [
        QNetwork(networks.MLP(4, (16,)), networks.DuelingHead(16, 2)),
        QNetwork(networks.NatureCNN(4, 84, 84, 32), networks.LinearHead(32, 2)),
        networks.SmallCNN(1, 10, 10, 16),
        networks.DataEfficientCNN(4, 84, 84, 16),
        networks.ImpalaCNN(3, 32, 32, 16),
        networks.SmallResNet(3, 32, 32, 16),
        networks.BatchNormCNN(3, 40, 60),
        networks.NoisyLinear(4, 2),
        networks.CosineEmbedding(16),
    ]
    torso: networks.Torso = networks.MLP(4, (16,))
    values: list[object] = [networks.ScalarValues(), networks.QuantileValues(8)]
    atoms = networks.CategoricalValues(0.0, 10.0, 11)
    objectives: list[learning.Objective] = [
        learning.QLearning(munchausen=learning.Munchausen()),
        learning.CategoricalQLearning(atoms),
        learning.QuantileQLearning(),
        learning.objective_for(networks.make_network((4,), 2, head="iqn")),
        AbsoluteError(),
    ]
    assert values and objectives
    return [*by_hand, torso]


def losses() -> Tensor:
    """Targets and losses of a batch of two."""
    q, ones, action = torch.zeros(2, 3), torch.ones(2), torch.zeros(2, dtype=torch.int64)
    chances = torch.full((2, 2), 0.5)
    target = learning.double_q_target(q, q, ones, ones)
    td = learning.td_error(q, action, target)
    terms = [
        learning.huber_loss(td),
        learning.mse_loss(td),
        learning.cross_entropy_loss(
            chances, learning.categorical_target(chances, ones, ones, -1.0, 1.0)
        ),
        learning.quantile_huber_loss(chances, q, torch.tensor([0.25, 0.75])),
        learning.munchausen_bonus(q, action),
        learning.soft_value(q, q),
    ]
    maps = learning.perturbation_saliency(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.zeros(1, 1, 8, 8)
    )
    gradient = learning.input_gradient(Network(), torch.zeros(2, 4))
    assert isinstance(maps, np.ndarray | Tensor) and isinstance(gradient, np.ndarray | Tensor)
    first: learning.UpdateResult = learning.Learner(Network()).update(
        Batch(torch.zeros(2, 4), action, ones, ones, torch.zeros(2, 4), ones, action)
    )
    return torch.stack([*terms, first.priority])


def refused() -> list[FastDQNError]:
    """What goes wrong on purpose."""
    found: list[FastDQNError] = []
    kinds = (EnvError, MemoryPlanError, CheckpointError, TrainingError, EnvFailure)
    space = gymnasium.spaces.Box(-1, 1, (4,), np.float32)
    try:
        ReplayBuffer(16, 2, space, alpha=-1.0)
    except ConfigError as error:
        found.append(error)
    try:
        AtariProtocol.classic(noop_max=-1)
    except kinds as error:
        found.append(error)
    return found


if __name__ == "__main__":
    scratch = Path(sys.argv[1])
    print(fastdqn.__version__, run(scratch).summary["env_steps"], play(scratch), loop()[0])
    print(draw(), len(parts()), losses().shape, refused())
