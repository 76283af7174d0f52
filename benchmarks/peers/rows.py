"""What is measured: rows, and the processes that fill them."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One table.

    Attributes:
        unit: Of its numbers.
        protocol: What every system of it does.
        more_is_better: False for times and bytes.
    """

    unit: str
    protocol: str
    more_is_better: bool = True


@dataclass(frozen=True)
class Job:
    """One process, run once a round.

    Attributes:
        label: Of its numbers in the table; a suffix from the process itself may follow.
        system: Module of this package.
        variant: Its ``--variant``.
        malloc: Whether glibc is told by the environment to keep freed memory.
        rounds: At most so many, for what is slow and does not vary.
    """

    label: str
    system: str
    variant: str = ""
    malloc: bool = False
    rounds: int | None = None


@dataclass(frozen=True)
class Group:
    """Jobs that take turns, and the rows they fill."""

    rows: tuple[str, ...]
    jobs: tuple[Job, ...]


_CARTPOLE = (
    "CartPole-v1, MLP 120-84, plain DQN, batch 128, 1 update per 10 env steps, replay 10k, Adam "
    "2.5e-4, epsilon 1 to 0.05, fp32, {} envs (CleanRL-like, LeanRL-like: 1); after learning "
    "starts, without compiling; steps that envs spend on resets do not count"
)
_PONG = (
    "PongNoFrameskip-v4 (no sticky actions), Nature CNN, plain DQN, batch 32, 1 update per 4 env "
    "steps, replay 20k, Adam 1e-4, 8 envs (CleanRL-like: 1); after learning starts; + malloc: "
    "glibc keeps freed memory, which fastdqn asks it for by itself"
)
_SB3_BUFFER = (
    "Stable-Baselines3's DQN on PongNoFrameskip-v4, settings as in the row above, with its own "
    "replay buffer and with FrameReplayBuffer of fastdqn.integrations.sb3; after learning starts"
)
_UPDATE = (
    "Nature CNN, double DQN, mean squared error, Adam, batch {}, windows taken in turn within one "
    "process; CleanRL-like and LeanRL-like train on one fixed batch, fastdqn draws from a replay"
)
_PER = (
    "prioritized replay, {}: draw, gather, importance weights, write the priorities back, batch {}"
)
_PIXELS = "100k transitions of 4x84x84 bytes resident"
_TORCHRL = (
    "TorchRL's loop on CartPole-v1: Collector, SerialEnv of 16 GymEnvs, MLP 120-84, DQNLoss, "
    "HardUpdate, Adam, prioritized replay of 10k, batch 256, 1 thread; chunks of 320 env steps "
    "taken in turn within one process, {}"
)
_SAMPLER = (
    "TorchRL's PrioritizedSampler (with its extension) against SumTreeSampler, 1M rows, 1 thread, "
    "in turn within one process: draw, importance weights, write the priorities back, batch {}"
)
_STORE = "fastdqn's ring, {} of 4 floats: FrameRing against the same operations on plain tensors"

ROWS = {
    "cartpole-16": Row("env steps/s", _CARTPOLE.format(16)),
    "cartpole-64": Row("env steps/s", _CARTPOLE.format(64)),
    "pong-8": Row("env steps/s", _PONG),
    "sb3-buffer-pong": Row("env steps/s", _SB3_BUFFER),
    "update-32": Row("updates/s", _UPDATE.format(32)),
    "update-256": Row("updates/s", _UPDATE.format(256)),
    "per-vector-256": Row("us", _PER.format("1M rows of 4 floats", 256), False),
    "per-vector-1024": Row("us", _PER.format("1M rows of 4 floats", 1024), False),
    "per-pixels-32": Row("us", _PER.format(_PIXELS, 32), False),
    "per-pixels-256": Row("us", _PER.format(_PIXELS, 256), False),
    "memory-100k": Row("GB", "growth of resident memory by 100k Atari transitions", False),
    "torchrl-per-loop": Row("env steps/s", _TORCHRL.format("1 update per 10 env steps")),
    "torchrl-per-loop-2": Row("env steps/s", _TORCHRL.format("1 update per 2 env steps")),
    "torchrl-per-cycle": Row(
        "us", _TORCHRL.format("sample and update_tensordict_priority alone"), False
    ),
    "torchrl-sampler-256": Row("us", _SAMPLER.format(256), False),
    "torchrl-sampler-1024": Row("us", _SAMPLER.format(1024), False),
    "tensordict-write": Row("us", _STORE.format("64 rows written"), False),
    "tensordict-sample": Row("us", _STORE.format("256 transitions gathered"), False),
}

_HUBER = "huber, clip 10"
# As shipped: fastdqn takes one thread for an MLP by itself.
_OURS = (
    Job(f"fastdqn eager ({_HUBER}, 1 thread)", "ours", "mode=eager"),
    Job(f"fastdqn compile ({_HUBER}, 1 thread)", "ours", "mode=compile"),
    Job(f"fastdqn compile x10 ({_HUBER}, 1 thread)", "ours", "mode=compile updates_per_launch=10"),
    Job(
        f"fastdqn compile x10 ({_HUBER}, 2 threads)",
        "ours",
        "mode=compile updates_per_launch=10 torch_threads=2",
    ),
)
_OURS_MSE = (
    Job(
        "fastdqn compile (mse, no clip, 1 thread)",
        "ours",
        "mode=compile loss=mse max_grad_norm=none",
    ),
    Job(
        "fastdqn compile x10 (mse, no clip, 1 thread)",
        "ours",
        "mode=compile updates_per_launch=10 loss=mse max_grad_norm=none",
    ),
)
_PEERS = (
    Job(f"SB3 ({_HUBER})", "sb3"),
    Job(f"SB3 ({_HUBER}, 1 thread)", "sb3", "1 thread"),
    Job("CleanRL-like (mse, 1 env)", "plain"),
    Job("Tianshou (mse, without its NaN scan)", "tianshou"),
    Job("TorchRL components (mse)", "torchrl"),
)
_LEAN = Job("LeanRL-like compiled (mse, 1 env)", "plain", "lean")

GROUPS = {
    "cartpole-16": Group(("cartpole-16",), (*_PEERS, _LEAN, *_OURS, *_OURS_MSE)),
    "cartpole-64": Group(("cartpole-64",), (*_PEERS, *_OURS, *_OURS_MSE)),
    "pong-8": Group(
        ("pong-8",),
        (
            Job("SB3 (huber, clip 10, fp32)", "sb3"),
            Job("SB3 (huber, clip 10, fp32) + malloc", "sb3", malloc=True),
            Job("CleanRL-like (mse, fp32, 1 env)", "plain"),
            Job("CleanRL-like (mse, fp32, 1 env) + malloc", "plain", malloc=True),
            Job("Tianshou (mse, fp32, without its NaN scan)", "tianshou"),
            # Its trainer reads the whole buffer for NaNs before each phase: buffer.hasnull().
            Job("Tianshou as shipped (mse, fp32)", "tianshou", "as shipped", rounds=1),
            Job("fastdqn eager (huber, clip 10, fp32)", "ours", "mode=eager precision=fp32"),
            Job("fastdqn eager (huber, clip 10, bf16)", "ours", "mode=eager precision=bf16"),
        ),
    ),
    "sb3-buffer-pong": Group(
        ("sb3-buffer-pong",),
        (
            Job("SB3, its own buffer", "sb3"),
            Job("SB3, its own buffer + malloc", "sb3", malloc=True),
            Job("SB3, FrameReplayBuffer", "sb3", "frames"),
            Job("SB3, FrameReplayBuffer + malloc", "sb3", "frames", malloc=True),
        ),
    ),
    "update-32": Group(("update-32",), (Job("", "ours"), Job("+ malloc", "ours", "malloc"))),
    "update-256": Group(("update-256",), (Job("", "ours"), Job("+ malloc", "ours", "malloc"))),
    "per-vector": Group(
        ("per-vector-256", "per-vector-1024"),
        (
            Job("cpprb", "cpprb"),
            Job("Tianshou", "tianshou"),
            Job("TorchRL", "torchrl"),
            Job("fastdqn", "ours"),
        ),
    ),
    "pixels": Group(
        ("per-pixels-32", "per-pixels-256", "memory-100k"),
        (
            Job("SB3", "sb3", rounds=1),  # has no prioritized replay
            Job("SB3, optimize_memory_usage", "sb3", "optimized", rounds=1),
            Job("SB3, FrameReplayBuffer", "sb3", "frames", rounds=1),
            Job("cpprb, whole stacks", "cpprb"),
            Job("cpprb, one frame each", "cpprb", "one frame"),
            Job("Tianshou, whole stacks", "tianshou", rounds=1),
            Job("Tianshou, one frame each", "tianshou", "one frame"),
            Job("TorchRL, whole stacks", "torchrl"),
            Job("fastdqn, one frame each", "ours"),
        ),
    ),
    "torchrl-loop": Group(
        ("torchrl-per-loop", "torchrl-per-loop-2", "torchrl-per-cycle"), (Job("", "torchrl"),)
    ),
    "torchrl-sampler": Group(
        ("torchrl-sampler-256", "torchrl-sampler-1024"), (Job("", "torchrl"),)
    ),
    "tensordict": Group(("tensordict-write", "tensordict-sample"), (Job("", "ours"),)),
}


def for_cuda(group: str, job: Job) -> Job:
    """The job as it runs with ``--device cuda``: captured in graphs; numpy replays stay as is."""
    if job.system == "ours":
        mode = "eager" if group == "pong-8" else "compile"
        return replace(
            job,
            label=job.label.replace(f"fastdqn {mode}", "fastdqn graph"),
            variant=job.variant.replace(f"mode={mode}", "mode=graph"),
        )
    if job.variant == "lean":
        return replace(job, label=job.label.replace("compiled", "captured"))
    if group in ("per-vector", "pixels") and job.system in ("cpprb", "tianshou", "sb3"):
        return replace(job, label=f"{job.label} (CPU)")
    return job


# How the peers' own published throughput settings relate to the rows here.
PUBLISHED = {
    "SB3": (
        "Publishes no throughput. Its zoo's Atari DQN is reported at over 2 days for 10M steps "
        "(under 58 env steps/s) on a 2080 Ti with evaluation on (rl-baselines3-zoo#95); another "
        "machine, not reproduced."
    ),
    "CleanRL": (
        "Publishes wall-clock plots, read off here: CartPole 500k steps in about 145 s (3.4k env "
        "steps/s) with the settings of the CartPole rows and logging, Breakout 10M steps in about "
        "365 min (457 env steps/s); on hardware that it does not name, so there is nothing to "
        "reproduce within a tolerance."
    ),
    "LeanRL": "Publishes no DQN figure; its PPO, SAC and TD3 figures are of an H100.",
    "Tianshou": (
        "Publishes DQN on Atari at 10M env steps in 3 to 4 h (700 to 930 env steps/s), on hardware "
        "that it does not name; not reproduced."
    ),
    "TorchRL": (
        "Publishes no DQN throughput; its replay benchmark samples 65,536 at once and never writes "
        "priorities back, so it says nothing about the cycle here."
    ),
    "cpprb": "No published figure for the whole cycle was looked for; it trains nothing itself.",
}
