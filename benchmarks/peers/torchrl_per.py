"""TorchRL's loop with its own prioritized replay and with ours, in turn within one process."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ["RL_LOGGING_LEVEL"] = "ERROR"
warnings.simplefilter("ignore")

import torch  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import TensorDictSequential  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.data import (  # noqa: E402
    LazyTensorStorage,
    TensorDictPrioritizedReplayBuffer,
    TensorDictReplayBuffer,
)
from torchrl.data.replay_buffers import PrioritizedSampler  # noqa: E402
from torchrl.envs import GymEnv, SerialEnv  # noqa: E402
from torchrl.modules import EGreedyModule, QValueActor  # noqa: E402
from torchrl.objectives import DQNLoss, HardUpdate  # noqa: E402

from benchmarks.peers.cycle import raw_priorities  # noqa: E402
from benchmarks.peers.measure import Work, interleaved_s, start  # noqa: E402
from benchmarks.peers.settings import (  # noqa: E402
    ALPHA,
    BETA,
    TASKS,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    mlp,
)
from fastdqn import Learner  # noqa: E402
from fastdqn.integrations.torchrl import (  # noqa: E402
    DQNLossModule,
    FrameReplayBuffer,
    SumTreeSampler,
)

THEIRS, SAMPLER = "TorchRL", "TorchRL, fastdqn's sampler"
REPLAY, LOSS = "TorchRL, fastdqn's replay", "TorchRL, fastdqn's replay and loss"
LEARNER = "TorchRL, fastdqn's replay and learner"
NOTHING = "TorchRL, a replay that costs nothing"
LABELS = (THEIRS, SAMPLER, REPLAY, LOSS, LEARNER, NOTHING)
BATCH = 256
TASK = TASKS["cartpole-16"]
FRAMES_PER_BATCH = 320  # 20 vector steps


def make_env() -> GymEnv:
    return GymEnv("CartPole-v1", device="cpu")


def buffer(label: str, device: str) -> Any:
    """A prioritized replay of as many transitions as the task says."""
    if label == NOTHING:
        return Nothing()
    if label in (REPLAY, LOSS, LEARNER):
        return FrameReplayBuffer(
            TASK.capacity, TASK.num_envs, make_env().observation_spec, gamma=TASK.gamma,
            alpha=ALPHA, beta=BETA, batch_size=BATCH, device=device,
        )  # fmt: skip
    storage = LazyTensorStorage(TASK.capacity, device=device)
    if label == SAMPLER:
        return TensorDictReplayBuffer(
            storage=storage, sampler=SumTreeSampler(TASK.capacity, ALPHA, BETA), batch_size=BATCH,
            priority_key="td_error",
        )  # fmt: skip
    return TensorDictPrioritizedReplayBuffer(
        alpha=ALPHA, beta=BETA, storage=storage, batch_size=BATCH, priority_key="td_error"
    )


class Nothing:
    """Keeps the first chunk and returns the same batch of it: what no replay can be faster than."""

    def __init__(self) -> None:
        self._batch: TensorDict | None = None

    def extend(self, data: TensorDict) -> None:
        """Keeps what comes first."""
        if self._batch is None:
            self._batch = data[:BATCH].clone()

    def sample(self) -> TensorDict:
        """The same ones each time."""
        assert self._batch is not None
        return self._batch

    def update_tensordict_priority(self, batch: TensorDict) -> None:
        """Nothing."""


class Loop:
    """Collects, learns, and writes priorities back, one chunk of env steps at a time.

    Attributes:
        replay_s: Spent in ``sample`` and ``update_tensordict_priority``.
        learning_s: Spent in updates, those two included.
    """

    def __init__(self, label: str, device: str) -> None:
        self.replay = buffer(label, device)
        spec = make_env().action_spec
        network = mlp()
        self.learner: Learner | None = None
        if label == LEARNER:
            self.learner = Learner(
                network, double=False, loss="mse", learning_rate=TASK.learning_rate, mode="eager",
                target_period_updates=TASK.target_period_updates, device=device,
            )  # fmt: skip
        actor = QValueActor(module=network, spec=spec, in_keys=["observation"]).to(device)
        self.explore = EGreedyModule(spec, annealing_num_steps=TASK.epsilon_duration, eps_end=0.05)
        if label == LOSS:
            self.loss: Any = DQNLossModule(network, double=False, loss="mse", gamma=TASK.gamma)
        else:
            self.loss = DQNLoss(actor, loss_function="l2", delay_value=True)
            self.loss.make_value_estimator(gamma=TASK.gamma)
        self.target = HardUpdate(
            self.loss, value_network_update_interval=TASK.target_period_updates
        )
        self.optimizer = torch.optim.Adam(self.loss.parameters(), lr=TASK.learning_rate)
        self.collector = Collector(
            create_env_fn=SerialEnv(TASK.num_envs, make_env),
            policy=TensorDictSequential(actor, self.explore),
            frames_per_batch=FRAMES_PER_BATCH,
            total_frames=FRAMES_PER_BATCH * 10_000_000,
            policy_device=device,
            env_device="cpu",
            storing_device=device,
        )
        self._chunks = iter(self.collector)
        self.replay_s = self.learning_s = 0.0
        for _ in range(4):
            self.collect()

    def collect(self) -> None:
        """One chunk into the replay, flattened, as TorchRL's scripts do."""
        data = next(self._chunks).reshape(-1)
        self.replay.extend(data)
        self.explore.step(data.numel())

    def advance(self, period: int) -> None:
        """One chunk, and an update for each ``period`` of its env steps."""
        self.collect()
        if self.learner is not None:
            for _ in range(FRAMES_PER_BATCH // period):
                self.learner.update_from(self.replay.replay, batch_size=BATCH, beta=BETA)
            return
        clock, began = time.perf_counter, time.perf_counter()
        for _ in range(FRAMES_PER_BATCH // period):
            before = clock()
            batch = self.replay.sample()
            self.replay_s += clock() - before
            self.optimizer.zero_grad()
            self.loss(batch)["loss"].backward()
            self.optimizer.step()
            self.target.step()
            before = clock()
            self.replay.update_tensordict_priority(batch)
            self.replay_s += clock() - before
        self.learning_s += clock() - began

    def cycle(self) -> Callable[[], None]:
        """Draw and write priorities back, without learning between."""
        sets = [torch.from_numpy(raw_priorities(BATCH, seed)).unsqueeze(1) for seed in range(16)]
        turn = 0

        def once() -> None:
            nonlocal turn
            turn += 1
            batch = self.replay.sample()
            batch.set("td_error", sets[turn % 16])
            self.replay.update_tensordict_priority(batch)

        return once


def loops(work: Work) -> dict[str, Any]:
    made = {label: Loop(label, work.device) for label in LABELS}
    values: dict[str, Any] = {}
    shares: dict[str, Any] = {}
    for row, period in (("torchrl-per-loop", 10), ("torchrl-per-loop-2", 2)):
        functions = {k: partial(loop.advance, period) for k, loop in made.items()}
        found = interleaved_s(functions, work.seconds, work.device)
        values[row] = {k: FRAMES_PER_BATCH / s for k, s in found.items()}
        shares[row] = {
            k: loop.replay_s / loop.learning_s for k, loop in made.items() if loop.learning_s
        }
    cycles = {k: loop.cycle() for k, loop in made.items() if k not in (LOSS, LEARNER, NOTHING)}
    per_cycle = interleaved_s(cycles, work.seconds, work.device)
    for loop in made.values():
        loop.collector.shutdown()
    values["torchrl-per-cycle"] = {k: 1e6 * s for k, s in per_cycle.items()}
    return {"values": values, "replay_share_of_updates": shares}


def agreement(rows: int = 1000, batches: int = 400) -> dict[str, float]:
    """What both samplers draw and weigh, given the same priorities, beside the formulas.

    Returns:
        Of each the chi-square of its counts over its degrees of freedom, about 1 for independent
        draws and less for stratified ones; and the largest difference of a weight.

    Raises:
        RuntimeError: Where one is not as the formula says.
    """
    storage = LazyTensorStorage(rows)
    storage.set(range(rows), TensorDict({"a": torch.zeros(rows)}, [rows]))
    raw = torch.from_numpy(raw_priorities(rows))
    leaves = (raw.double() + 1e-8) ** ALPHA
    expected = batches * BATCH * leaves / leaves.sum()
    weights = (leaves / leaves.min()) ** -BETA
    found = {}
    for label, sampler in {
        THEIRS: PrioritizedSampler(rows, ALPHA, BETA),
        "fastdqn": SumTreeSampler(rows, ALPHA, BETA, weights="buffer"),
    }.items():
        sampler.update_priority(torch.arange(rows), raw, storage=storage)
        counts, worst = torch.zeros(rows, dtype=torch.float64), 0.0
        for _ in range(batches):
            index, info = sampler.sample(storage, BATCH)
            index, weight = index.long(), torch.as_tensor(info["priority_weight"]).double()
            counts += torch.bincount(index, minlength=rows)
            worst = max(worst, float((weight - weights[index]).abs().max()))
        chi_square = float(((counts - expected) ** 2 / expected).sum() / (rows - 1))
        if chi_square > 1.25 or worst > 1e-4:
            raise RuntimeError(f"{label}: chi-square {chi_square:.3f}, weights off by {worst:.2g}")
        found |= {f"{label}, chi-square": chi_square, f"{label}, weights off by": worst}
    return found


def samplers(work: Work) -> dict[str, Any]:
    """Draw and write back, without any data."""
    rows = work.scaled(VECTOR_ROWS, 10_000)
    storage = LazyTensorStorage(rows)
    storage.set(range(rows), TensorDict({"a": torch.zeros(rows)}, [rows]))
    made: dict[str, Any] = {
        THEIRS: PrioritizedSampler(rows, ALPHA, BETA),
        "fastdqn": SumTreeSampler(rows, ALPHA, BETA),
        "fastdqn, TorchRL's weights": SumTreeSampler(rows, ALPHA, BETA, weights="buffer"),
    }
    raw = torch.from_numpy(raw_priorities(rows))
    for sampler in made.values():
        sampler.update_priority(torch.arange(rows), raw, storage=storage)
    values = {}
    for size in VECTOR_BATCHES:
        sets = [torch.from_numpy(raw_priorities(size, seed)) for seed in range(16)]

        def cycle(sampler: Any, size: int = size, sets: list[torch.Tensor] = sets) -> Any:
            turn = 0

            def once() -> None:
                nonlocal turn
                turn += 1
                index, _ = sampler.sample(storage, size)
                sampler.update_priority(index, sets[turn % 16], storage=storage)

            return once

        functions = {label: cycle(sampler) for label, sampler in made.items()}
        found = interleaved_s(functions, work.seconds / len(VECTOR_BATCHES))
        values[f"torchrl-sampler-{size}"] = {k: 1e6 * s for k, s in found.items()}
    return {"values": values, "agreement": agreement()}


def main(work: Work) -> dict[str, Any]:
    torch.set_num_threads(1)
    return loops(work) if work.row == "torchrl-loop" else samplers(work)


if __name__ == "__main__":
    start(main)
