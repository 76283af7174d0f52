"""An env that fails on demand, and a ``fastdqn train`` to watch while it does.

The demand comes from outside: files appear in the directory that the env is given. ``hang-step``,
``busy-step``, ``slow-step``, ``raise-step`` and the same with ``-reset`` are obeyed by the training
env whose number the file holds (all envs where it is empty), those that begin with ``eval-`` by
evaluation envs. The envs leave their process ids there.

    fastdqn train --env-id benchmarks.reliability.faulty:Faulty-v0 --env-kwargs '{"orders": "/tmp"}'
    python -m benchmarks.reliability.faulty ORDERS RUN_DIR [FLAGS]     the same on ALE's envs
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Discrete

ROOT = Path(__file__).parents[2]
ENV_ID = "benchmarks.reliability.faulty:Faulty-v0"
LENGTH = 20
_EVALUATION = 2**16  # seeds of evaluation envs are larger (and those of a resumed run's envs)
SEED = 1

# Small, never done before somebody says so, and a checkpoint twice per second or so.
FLAGS = [
    "--device", "cpu", "--seed", str(SEED), "--num-envs", "3", "--total-env-steps", "100000000",
    "--learning-starts-env-steps", "100", "--hidden-sizes", "16", "--batch-size", "16",
    "--replay-capacity", "3000", "--eval-episodes", "0", "--log-period-env-steps", "300",
    "--checkpoint-period-env-steps", "900", "--learning-rate-final", "None",
]  # fmt: skip


class Faulty(gymnasium.Env):
    """Random observations, episodes of 20 steps, until a file orders otherwise.

    Args:
        orders: Directory of the orders.
    """

    def __init__(self, orders: str) -> None:
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float32)
        self.action_space = Discrete(2)
        self.orders, self.number, self.prefix, self.t = Path(orders), -1, "", 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Take a number from the first seed; fail if that is ordered."""
        super().reset(seed=seed)
        if seed is not None:
            evaluation = seed > _EVALUATION
            self.prefix = "eval-" if evaluation else ""
            self.number = seed - SEED - (2**30 if evaluation else 0)
            (self.orders / f"{self.prefix}pid-{self.number}").write_text(str(os.getpid()))
        self.obey("reset")
        self.t = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        """Fail if that is ordered."""
        self.obey("step")
        self.t += 1
        return self.observe(), 1.0, False, self.t == LENGTH, {}

    def observe(self) -> np.ndarray:
        """Noise."""
        return self.np_random.normal(size=4).astype(np.float32)

    def obey(self, call: str) -> None:
        """Look for an order, and do it."""
        for what, act in (("hang", hang), ("busy", busy), ("slow", dawdle), ("raise", fail)):
            order = self.orders / f"{self.prefix}{what}-{call}"
            if order.exists() and order.read_text() in ("", str(self.number)):
                (self.orders / f"{self.prefix}{what}-began").touch()
                act()


def hang() -> None:
    time.sleep(600)


def busy() -> None:
    while True:
        pass


def dawdle() -> None:
    time.sleep(0.2)


def fail() -> None:
    raise ZeroDivisionError("ordered to fail")


gymnasium.register("Faulty-v0", Faulty)


class Run:
    """One ``fastdqn train`` in a session of its own, watched from outside.

    Args:
        scratch: An empty directory, or that of a run to go on with (``--resume auto``).
        flags: Beside those above.
        ale: On ALE's envs, with orders ``ale-action`` and ``ale-silence``.
        before: Called in the child before it starts.
    """

    def __init__(
        self,
        scratch: Path,
        *flags: str,
        ale: bool = False,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.orders, self.directory = scratch / "orders", scratch / "run"
        self.orders.mkdir(parents=True, exist_ok=True)
        if ale:
            head = ["-m", "benchmarks.reliability.faulty", str(self.orders), str(self.directory)]
        else:
            kwargs = json.dumps({"orders": str(self.orders)})
            head = ["-m", "fastdqn", "train", "--env-id", ENV_ID, "--env-kwargs", kwargs]
            head += ["--run-dir", str(self.directory), *FLAGS]
        self.process = subprocess.Popen(
            [sys.executable, *head, *flags],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,  # not files, which a limit of file sizes would hit, too
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=before,
        )
        self._said = {1: bytearray(), 2: bytearray()}
        self._readers = [
            threading.Thread(target=self._read, args=(1, self.process.stdout), daemon=True),
            threading.Thread(target=self._read, args=(2, self.process.stderr), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, number: int, pipe: Any) -> None:
        while block := pipe.read1():
            self._said[number] += block
        pipe.close()

    def signal_all(self, number: int) -> None:
        """Send a signal to the process group, as schedulers do."""
        os.killpg(self.process.pid, number)

    def order(self, what: str, env: int | None = None) -> None:
        """Let an env do something; all of them if ``env`` is None."""
        temporary = self.orders / "next"
        temporary.write_text("" if env is None else str(env))
        temporary.rename(self.orders / what)

    def take_back_orders(self) -> None:
        """Forget them, and what the envs have left beside them."""
        for path in self.orders.iterdir():
            path.unlink()

    def pid_of(self, env: int) -> int:
        """Of the process that env runs in."""
        return int((self.orders / f"pid-{env}").read_text())

    def wait_for(self, ready: Callable[[], bool], seconds: float = 90.0) -> None:
        """Wait; RuntimeError where the run ends before or it takes too long."""
        end = time.monotonic() + seconds
        while not ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"not ready: {self.stderr()[-500:]}")
            time.sleep(0.05)

    def wait_for_checkpoint(self) -> None:
        """Until there is one."""
        self.wait_for(lambda: bool(self.checkpoints()))

    def checkpoints(self) -> list[str]:
        """Names of those that are whole, the oldest first."""
        found = (self.directory / "checkpoints").glob("step_*")
        return sorted(path.name for path in found if "." not in path.name)

    def end(self, seconds: float = 60.0) -> int:
        """The exit code; kills all of it where that takes too long, and gives None's -9."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.wait()

    def kill(self) -> None:
        """End every process of the run."""
        for pid in self.members():
            with suppress(ProcessLookupError):  # ended meanwhile
                os.kill(pid, signal.SIGKILL)

    def stderr(self) -> str:
        """What it has said so far."""
        return self._said[2].decode(errors="replace")

    def stdout(self) -> str:
        """Its progress."""
        return self._said[1].decode(errors="replace")

    def members(self) -> list[int]:
        """Processes of its session that live."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.process.pid and fields[0] not in "ZX":
                found.append(int(path.parent.name))
        return found

    def orphans(self, seconds: float = 5.0) -> int:
        """Processes left after so long; they are killed."""
        end = time.monotonic() + seconds
        while (left := self.members()) and time.monotonic() < end:
            time.sleep(0.05)
        self.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        return len(left)

    def checkpoint_fault(self) -> str | None:
        """Why the newest checkpoint cannot be loaded, if so."""
        from fastdqn import FastDQNError, load

        try:
            load(self.directory, device="cpu")
        except FastDQNError as error:
            return str(error)
        return None


def main(orders: Path, run_dir: str) -> None:
    """Train on ALE's envs, whose actions get lost or wrong on the way at the first order."""
    from ale_py import AtariVectorEnv

    import fastdqn

    class Envs(AtariVectorEnv):
        def send(self, actions: np.ndarray) -> None:
            if (orders / "ale-silence").exists():
                return
            super().send(np.full_like(actions, 99) if (orders / "ale-action").exists() else actions)

    config = fastdqn.Config(
        env_id="ALE/Pong-v5",
        hidden_sizes=(64,),
        total_env_steps=2**40,
        mode="eager",
        learning_starts_env_steps=2**39,
        frame_stack=4,
        replay_capacity=1_000,
        learning_rate_final=None,
        log_period_env_steps=40,
        checkpoint_period_env_steps=40,
        eval_episodes=0,
        device="cpu",
        torch_threads=1,
        step_timeout_s=float(sys.argv[3]),
        run_dir=run_dir,
    )
    fastdqn.train(config, envs=Envs("pong", 2, stack_num=1, grayscale=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
