"""What a run says of itself: rows of metrics.csv while it runs, a summary at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fastdqn.acting.evaluation import EvalResult
from fastdqn.config.config import Config
from fastdqn.errors import TrainingError
from fastdqn.frame_format import FrameFormat
from fastdqn.learning.learner import Learner
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.runs.reader import Evaluation, read_evaluations
from fastdqn.system.clock import Clock
from fastdqn.system.faults import DiskFaults
from fastdqn.training.episode_statistics import EpisodeStatistics
from fastdqn.training.finite_frames import FiniteFrames
from fastdqn.training.metrics_file import MetricsFile
from fastdqn.training.row_file import RowFile
from fastdqn.training.run_json import utc_now
from fastdqn.training.schedules import Schedules
from fastdqn.training.speed import TIME_COLUMNS, speeds
from fastdqn.types import TimeStep

COUNTERS = ("env_steps", "updates")
COLUMNS = (
    *COUNTERS,
    *EpisodeStatistics.COLUMNS,
    *Schedules.COLUMNS,
    *Learner.COLUMNS,
    "eval_return_mean",
    *TIME_COLUMNS,
)
"""Of metrics.csv: every source names its own."""

EVALUATION_COLUMNS = (
    *COUNTERS,
    "wall_s",
    "episodes",
    *EvalResult.COLUMNS,
    "unfinished",
    "final",  # 1: of the run's end, on other episodes than those before
)


class Report:
    """Collects figures on the device and reads them once per row.

    Args:
        config: Of the run.
        learner: Whose losses are reported.
        replay: Whose size is.
        threshold: Mean return at which the env counts as solved, if there is one.
        disk: Survives rows that cannot be written.
        format: What the envs' frames are.
    """

    def __init__(
        self,
        config: Config,
        learner: Learner,
        replay: ReplayBuffer,
        threshold: float | None,
        disk: DiskFaults | None = None,
        format: FrameFormat | None = None,
    ) -> None:
        self.config, self.learner, self.replay = config, learner, replay
        self.threshold = threshold
        self.disk = disk or DiskFaults()
        self.episodes = EpisodeStatistics(config.num_envs, config.stop_window)
        self.numbers = FiniteFrames(format)
        self.clock = Clock()
        self._metrics: RowFile | None = None
        self._evaluations: RowFile | None = None
        self.evaluation: Evaluation | None = None  # the newest
        self.given_up = ""  # why it was, as a clause
        self._last: dict[str, float] = {
            "env_steps": 0, "updates": 0, "transitions": 0, "train_s": 0.0,
        }  # fmt: skip
        self.frame_skip = config.atari_frame_skip if config.env_id.startswith("ALE/") else 1

    def add(self, step: TimeStep) -> None:
        """Take in one step, as the envs return it; waits for nothing."""
        self.episodes.add(step)
        self.numbers.add(step)

    def open_files(self, run_dir: Path, keep_until_env_steps: int | None) -> None:
        """Start metrics.csv and evaluations.csv, or go on with them; OSError as the disk has it."""

        def file(name: str, columns: Sequence[str]) -> RowFile:
            rows = MetricsFile(run_dir / name, columns, keep_until_env_steps)
            return RowFile(rows, self.disk.survived)

        self._metrics = file("metrics.csv", COLUMNS)
        self._evaluations = file("evaluations.csv", EVALUATION_COLUMNS)
        if keep_until_env_steps is not None:  # what the run knows of itself, from before the resume
            self.evaluation = next(iter(read_evaluations(run_dir, {})[::-1]), None)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def add_evaluation(
        self, result: EvalResult, env_steps: int, *, final: bool
    ) -> dict[str, float]:
        """Take in an evaluation of the policy as it is now: one row of evaluations.csv."""
        figures = {name: getattr(result, name) for name in EvalResult.COLUMNS}
        row: dict[str, float] = {
            "env_steps": env_steps,
            "updates": self.learner.updates,
            "wall_s": self.clock.wall_s,
            "episodes": result.episodes,
            "unfinished": result.unfinished,
            **figures,
        }
        self.evaluation, self.given_up = Evaluation(**row, final=final), result.given_up  # type: ignore[arg-type]
        row["final"] = int(final)
        if self._evaluations is not None:
            self._evaluations.write(row)
        return row

    def score(self, env_steps: int) -> float | None:
        """What the policy of this very step was found to earn; None: it was not evaluated."""
        if self.evaluation is None or self.evaluation.env_steps != env_steps:
            return None
        return self.evaluation.mean

    def has_row(self, env_steps: int) -> bool:
        """Whether the newest row was written at this step."""
        return self._last["env_steps"] == env_steps

    def write_row(self, env_steps: int, epsilon: float) -> dict[str, float]:
        """One row of metrics.csv about the time since the last one. Waits for the device.

        Raises:
            TrainingError: Where a number since then was not finite.
        """
        self.check_finite(env_steps)
        sums = self.learner.read_statistics()
        episodes, reset_rows, return_mean, length_mean = self.episodes.read()
        # Transitions, without the rows that NEXT_STEP envs spend on resets.
        now: dict[str, float] = {
            "env_steps": env_steps,
            "updates": self.learner.updates,
            "transitions": env_steps - reset_rows,
            "train_s": self.clock.train_s,
        }
        since = {name: value - self._last[name] for name, value in now.items()}
        self._last = now
        updates = since["updates"]
        row: dict[str, float] = {
            "env_steps": env_steps,
            "updates": self.learner.updates,
            "episodes": episodes,
            "return_mean": return_mean,
            "length_mean": length_mean,
            "epsilon": epsilon,
        }
        for name in Learner.COLUMNS:
            row[name] = sums[name] / updates if updates else math.nan
        if (score := self.score(env_steps)) is not None:
            row["eval_return_mean"] = score
        row |= speeds(since["transitions"], updates, since["train_s"], self.frame_skip)
        row["wall_s"] = self.clock.wall_s
        if self._metrics is not None:
            self._metrics.write(row)
        return row

    @property
    def _files(self) -> list[RowFile]:
        return [file for file in (self._metrics, self._evaluations) if file is not None]

    def flush(self) -> None:
        """Write rows that the disk has refused before."""
        for file in self._files:
            file.flush()

    def check_finite(self, env_steps: int) -> None:
        """Raise TrainingError where a number since the last row was NaN or infinite.

        Causes come before what follows from them. Waits for the device.
        """
        since = f"between env steps {int(self._last['env_steps'])} and {env_steps}"
        advice = "look for a division by zero in the env. Earlier checkpoints are intact."
        if not self.episodes.rewards_are_finite():
            raise TrainingError(f"A reward was not finite {since}; {advice}")
        if not self.numbers.are_finite():
            raise TrainingError(f"An observation was not finite {since}; {advice}")
        before = int(self._last["updates"])
        finite = int(self.learner.statistics[-1].item())
        if finite < self.learner.updates - before:
            raise TrainingError(
                f"The loss is not finite since about update {before + finite + 1} ({since}); lower "
                f"learning_rate = {self.config.learning_rate:g} or set max_grad_norm, and clip "
                f"large rewards with reward_clip. Earlier checkpoints are intact."
            )
        if bool(self.replay.nonfinite_priority.item()):
            raise TrainingError(
                f"A TD error was not finite {since}; lower learning_rate = "
                f"{self.config.learning_rate:g}. Earlier checkpoints are intact."
            )
        self.check_parameters()

    def check_parameters(self) -> None:
        """Raise TrainingError where a parameter is NaN or infinite."""
        if not bool(torch.isfinite(self.learner.flat.data).all()):
            raise TrainingError(
                f"The parameters are not finite at update {self.learner.updates}; lower "
                f"learning_rate = {self.config.learning_rate:g}. No checkpoint of them is written, "
                f"earlier ones are intact."
            )

    def summary(
        self, name: str, stopped_by: str, env_steps: int, session: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the run came to; also summary.json.

        Args:
            name: Of the envs.
            stopped_by: Why it ended.
            env_steps: And when.
            session: Of this process, as in run.json.
        """
        c, result = self.config, self.evaluation
        episodes, reset_rows, return_mean, _ = self.episodes.read()
        train_s = max(self.clock.train_s, 1e-9)
        transitions, updates = env_steps - reset_rows, self.learner.updates
        figures = {name: _finite(getattr(result, name, math.nan)) for name in EvalResult.COLUMNS}
        score = self.score(env_steps)  # of what the run has come to, not of older parameters
        solved = None if score is None or self.threshold is None else score >= self.threshold
        return {
            "stopped_by": stopped_by,
            "env_id": name,
            "seed": c.seed,
            "env_steps": env_steps,
            "updates": updates,
            "episodes": episodes,
            "train_return_mean": _finite(return_mean),
            **{f"eval_return_{name}": value for name, value in figures.items()},
            "eval_env_steps": None if result is None else int(result.env_steps),
            "eval_episodes": _count(getattr(result, "episodes", math.nan)),
            "eval_unfinished_episodes": _count(getattr(result, "unfinished", math.nan)),
            "eval_given_up": self.given_up,
            "reward_threshold": self.threshold,
            "solved": solved,
            "wall_s": self.clock.wall_s,
            "train_s": train_s,  # without evaluation and checkpoints
            **speeds(transitions, updates, train_s, self.frame_skip),
            "replay_ratio": c.replay_ratio,
            "replay_bytes": self.replay.nbytes(),
            **{name: value for name, value in session.items() if name != "from_env_steps"},
            "ended": utc_now(),
        }

    def state_dict(self) -> dict[str, Any]:
        """Episodes, times and the figures at the last row."""
        return {
            "episodes": self.episodes.state_dict(),
            "clock": self.clock.state_dict(),
            "last": self._last,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.episodes.load_state_dict(state["episodes"])
        self.clock = Clock(**state["clock"])
        self._last = dict(state["last"])


def _count(value: float) -> int:
    return int(value) if math.isfinite(value) else 0


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON knows no NaN
