"""TorchRL's components: DQN after its dqn_cartpole.py, its prioritized replay."""

from __future__ import annotations

import os
import warnings
from typing import Any

os.environ["RL_LOGGING_LEVEL"] = "ERROR"
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from tensordict import TensorDict  # noqa: E402
from tensordict.nn import TensorDictSequential  # noqa: E402
from torchrl.collectors import Collector  # noqa: E402
from torchrl.data import (  # noqa: E402
    Composite,
    LazyTensorStorage,
    TensorDictPrioritizedReplayBuffer,
    TensorDictReplayBuffer,
)
from torchrl.envs import RewardSum, SerialEnv, StepCounter, TransformedEnv  # noqa: E402
from torchrl.envs.libs.gym import GymEnv  # noqa: E402
from torchrl.modules import MLP, EGreedyModule, QValueActor  # noqa: E402
from torchrl.objectives import DQNLoss, HardUpdate  # noqa: E402

from benchmarks.peers.cycle import Drawn, measure_cycles, raw_priorities  # noqa: E402
from benchmarks.peers.measure import Pace, Work, resident_bytes, start  # noqa: E402
from benchmarks.peers.settings import (  # noqa: E402
    ALPHA,
    BETA,
    FRAME,
    HIDDEN,
    PIXEL_BATCHES,
    PIXEL_ROWS,
    STACK,
    TASKS,
    VECTOR_BATCHES,
    VECTOR_ROWS,
    transitions,
)

FRAMES_PER_BATCH = 960  # its script takes 1,000; this is whole vector steps of 16 and of 64 envs


def train(work: Work) -> dict[str, Any]:
    task = TASKS[work.row]

    def make_env() -> TransformedEnv:
        env = TransformedEnv(GymEnv(task.env_id, device="cpu"))
        env.append_transform(RewardSum())
        env.append_transform(StepCounter())
        return env

    spec = make_env().full_action_spec["action"]
    network = MLP(
        in_features=4, out_features=2, num_cells=list(HIDDEN), activation_class=torch.nn.ReLU
    )
    model = QValueActor(module=network, spec=Composite(action=spec), in_keys=["observation"]).to(
        work.device
    )
    explore = EGreedyModule(
        annealing_num_steps=task.epsilon_duration, eps_init=1.0, eps_end=task.epsilon_end,
        spec=model.spec,
    )  # fmt: skip
    replay = TensorDictReplayBuffer(
        storage=LazyTensorStorage(task.capacity, device=work.device), batch_size=task.batch_size
    )
    loss = DQNLoss(value_network=model, loss_function="l2", delay_value=True)
    loss.make_value_estimator(gamma=task.gamma)
    target = HardUpdate(loss, value_network_update_interval=task.target_period_updates)
    optimizer = torch.optim.Adam(loss.parameters(), lr=task.learning_rate)
    starts = work.scaled(task.learning_starts, 2 * FRAMES_PER_BATCH)
    collector = Collector(
        create_env_fn=SerialEnv(task.num_envs, make_env),
        policy=TensorDictSequential(model, explore),
        frames_per_batch=FRAMES_PER_BATCH,
        total_frames=FRAMES_PER_BATCH * 100_000,
        policy_device=work.device,
        env_device="cpu",
        storing_device=work.device,
        max_frames_per_traj=-1,
        init_random_frames=starts,
    )
    pace = Pace(work.seconds, task.period, warm_updates=work.scaled(task.warm_updates, 8))
    env_steps = updates = 0
    for data in collector:
        data = data.reshape(-1)
        replay.extend(data)
        env_steps += data.numel()
        explore.step(data.numel())
        if env_steps < starts:
            continue
        for _ in range(data.numel() // task.period):
            value = loss(replay.sample())["loss"]
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            target.step()
            updates += 1
        if pace.tick(env_steps, updates):
            break
    collector.shutdown()
    return pace.result()


def _rows(observation: np.ndarray, following: np.ndarray, done: np.ndarray) -> TensorDict:
    count, ended = len(done), torch.from_numpy(done)[:, None]
    after = {
        "observation": torch.from_numpy(following),
        "reward": torch.ones(count, 1),
        "done": ended,
        "terminated": ended,
    }
    return TensorDict(
        {
            "observation": torch.from_numpy(observation),
            "action": torch.ones(count, dtype=torch.int64),
            "next": TensorDict(after, [count]),
        },
        [count],
    )


def _buffer(count: int, device: str) -> TensorDictPrioritizedReplayBuffer:
    return TensorDictPrioritizedReplayBuffer(
        alpha=ALPHA, beta=BETA, storage=LazyTensorStorage(count, device=device),
        priority_key="td_error",
    )  # fmt: skip


def fill_vector(count: int, device: str) -> TensorDictPrioritizedReplayBuffer:
    """Random observations, 10,000 at a time."""
    random, buffer = np.random.default_rng(0), _buffer(count, device)
    chunk = min(10_000, count)
    for _ in range(count // chunk):
        pair = random.standard_normal((2, chunk, 4), dtype=np.float32)
        buffer.extend(_rows(pair[0], pair[1], np.zeros(chunk, bool)))
    return buffer


def fill_pixels(count: int, device: str) -> TensorDictPrioritizedReplayBuffer:
    """A stream of frames of one env, both stacks stored, 250 at a time."""
    buffer = _buffer(count, device)
    held: list[tuple[np.ndarray, np.ndarray, bool]] = []
    for item in transitions(count):
        held.append(item)
        if len(held) == 250:
            buffer.extend(_rows(*(np.stack(part) for part in zip(*held, strict=True))))
            held = []
    return buffer


def replay(work: Work) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if work.row == "per-vector":
        buffer = fill_vector(work.scaled(VECTOR_ROWS, 10_000), work.device)
        batches, shape = VECTOR_BATCHES, (4,)
    else:
        count = work.scaled(PIXEL_ROWS, 1_000)
        fill_pixels(
            1_000, work.device
        )  # what is loaded and compiled at first use is not the data's
        before = resident_bytes()
        buffer = fill_pixels(count, work.device)
        values["memory-100k"] = (resident_bytes() - before) / 1e9
        batches, shape = PIXEL_BATCHES, (STACK, *FRAME)
    rows = len(buffer)
    buffer.update_priority(torch.arange(rows), torch.from_numpy(raw_priorities(rows)))

    def cycle(batch_size: int, priority: torch.Tensor) -> Any:
        batch = buffer.sample(batch_size)
        batch["td_error"] = priority
        buffer.update_tensordict_priority(batch)
        return batch

    def read(batch: TensorDict) -> Drawn:
        following = batch["next", "observation"]
        return Drawn(batch["observation"], following, batch["index"], batch["priority_weight"])

    def convert(priority: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(priority).to(work.device)

    cycles = measure_cycles(work, cycle, batches, shape, rows=rows, read=read, convert=convert)
    return {"values": {**values, **cycles}}


def main(work: Work) -> dict[str, Any]:
    if work.row.startswith("torchrl-"):
        from benchmarks.peers import torchrl_per

        return torchrl_per.main(work)
    if work.row not in TASKS:
        return replay(work)
    found = train(work)
    return {"values": {work.row: found["env_steps_per_s"]}, **found}


if __name__ == "__main__":
    start(main)
