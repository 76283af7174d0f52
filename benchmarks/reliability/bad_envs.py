"""Envs that lie, break their contract, or are only unusual: refused with the fix, or right.

Right means: what a replay makes of them is, transition by transition, what the script of the env
says (tests/helpers/scripted_env.py). Refused means: before the first update, in one sentence.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

from benchmarks.reliability import Outcome

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))
from helpers import replay_oracle as oracle
from helpers.scripted_env import Script, ScriptedEnv, ScriptedVectorEnv

from fastdqn import Config, FastDQNError
from fastdqn.envs import make_envs
from fastdqn.system.signals import StopSignals
from fastdqn.training.trainer import Trainer

FIGURE = "30 fixtures and more: refused before the first update with the fix, or proved right"
FLOATS = Script(3, seed=1)
FLAT = Script(3, seed=1, frame_shape=(8,), dtype="uint8")
CUBES = Script(3, seed=1, frame_shape=(5, 5, 5), dtype="uint8")


class Odd(ScriptedVectorEnv):
    """A scripted env with something changed.

    Args:
        script: The truth.
        mode: Of autoreset.
        change: What of an answer to change, from which vector step on, and how.
        observation: Another space of one observation.
        action: Another space of one action.
        kwargs: As for ScriptedVectorEnv.
    """

    def __init__(
        self,
        script: Script = FLOATS,
        mode: str = "NEXT_STEP",
        change: tuple[str, int, Callable[[Any], Any]] | None = None,
        observation: Any = None,
        action: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(script, mode, **kwargs)
        self.change = change
        if observation is not None:
            self.single_observation_space = observation
            self.observation_space = gymnasium.vector.utils.batch_space(observation, 3)
        if action is not None:
            self.single_action_space = action

    def reset(self, **kwargs: Any) -> Any:
        """Change the observation, if from step 0 on."""
        observation, info = super().reset(**kwargs)
        if self.change is not None and self.change[:2] == ("observation", 0):
            observation = self.change[2](observation)
        return observation, info

    def step(self, actions: Any) -> Any:
        """Change what is to be changed."""
        names = ["observation", "reward", "terminated", "truncated", "info"]
        answer = dict(zip(names, super().step(actions), strict=True))
        if self.change is not None and len(self.actions) >= self.change[1]:
            name, _, how = self.change
            answer[name] = how(answer[name])
        return tuple(answer.values())


class Raising(ScriptedEnv):
    """Raises in its fourth step."""

    def step(self, action: Any) -> Any:
        """Raise, sooner or later."""
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps == 4:
            raise ZeroDivisionError("the env is broken")
        return super().step(action)


def _no_mode() -> Any:
    envs = Odd()
    envs.metadata = {}
    return envs


def _odd_mode() -> Any:
    envs = Odd()
    envs.metadata = {"autoreset_mode": "SOMETIMES"}
    return envs


def _batch() -> Any:
    envs = Odd()
    envs.num_envs = 6
    return envs


def _nan(x: Any) -> Any:
    return np.full_like(x, np.nan)


def _sync(mode: str, cls: type = ScriptedEnv, copy: bool = True) -> Any:
    fns = [lambda i=i: cls(FLOATS, i) for i in range(3)]  # type: ignore[misc]
    mode_ = gymnasium.vector.AutoresetMode[mode]
    return SyncVectorEnv(fns, copy=copy, autoreset_mode=mode_)


_BOX = spaces.Box(-1, 1, (2,))
# Name: the env, and a word of the fix in the message.
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "Box actions": (lambda: Odd(action=_BOX), "discretise"),
    "MultiDiscrete actions": (lambda: Odd(action=spaces.MultiDiscrete([2, 3])), "discretise"),
    "Tuple actions": (lambda: Odd(action=spaces.Tuple([spaces.Discrete(2)])), "discretise"),
    "MultiBinary actions": (lambda: Odd(action=spaces.MultiBinary(3)), "discretise"),
    "a Dict that is none": (lambda: Odd(observation=spaces.Dict(a=_BOX)), "correct one"),
    "Sequence observations": (lambda: Odd(observation=spaces.Sequence(_BOX)), "wrap each env"),
    "Text observations": (lambda: Odd(observation=spaces.Text(5)), "wrap each env"),
    "a single env": (lambda: ScriptedEnv(FLOATS, 0), "make_vec"),
    "no env at all": (lambda: [1, 2], "make_vec"),
    "no autoreset mode": (_no_mode, "autoreset_mode"),
    "an unknown autoreset mode": (_odd_mode, "autoreset_mode"),
    "batch_size below num_envs": (_batch, "batch_size"),
    "shape lies": (lambda: Odd(observation=spaces.Box(-9, 9, (4,))), "correct one"),
    "dtype lies: complex": (
        lambda: Odd(change=("observation", 0, lambda x: x.astype(np.complex64))), "correct one"
    ),
    "dtype lies: floats": (
        lambda: Odd(FLAT, change=("observation", 0, lambda x: x.astype(np.float32))), "correct one"
    ),
    "images with channels first or last": (lambda: Odd(CUBES), "image_layout"),
    "observations change their size": (
        lambda: Odd(change=("observation", 5, lambda x: x[:, :2])), "correct one"
    ),
    "observations change their dtype": (
        lambda: Odd(change=("observation", 5, lambda x: x.astype(np.complex64))), "correct one"
    ),
    "a list of observations": (lambda: Odd(change=("observation", 0, list)), "numpy array"),
    "rewards [N, 2]": (
        lambda: Odd(change=("reward", 1, lambda x: x[:, None].repeat(2, 1))), "one value per"
    ),
    "one reward for all": (lambda: Odd(change=("reward", 1, lambda x: 0.0)), "one value per"),
    "flags of one env": (lambda: Odd(change=("terminated", 1, lambda x: x[:1])), "one value per"),
    "no final_obs": (lambda: Odd(mode="SAME_STEP", final_obs="absent"), "NEXT_STEP"),
    "final_info alone": (
        lambda: Odd(mode="SAME_STEP", change=("info", 1, lambda i: {"final_info": i})),
        "NEXT_STEP",
    ),
    "NaN reward": (lambda: Odd(change=("reward", 7, _nan)), "division by zero"),
    "infinite reward": (lambda: Odd(change=("reward", 7, lambda x: x + np.inf)), "division"),
    "NaN observation": (lambda: Odd(change=("observation", 7, _nan)), "division by zero"),
    "raises in a step": (lambda: _sync("NEXT_STEP", Raising), "mend the env"),
}  # fmt: skip
# Name: the script, and the env.
RIGHT: dict[str, tuple[Script, Callable[[Script], Any]]] = {
    "Discrete(n, start=3)": (FLOATS, lambda s: Odd(s, start=3)),
    "one action": (Script(3, seed=2, num_actions=1), Odd),
    "float64 observations": (
        FLOATS,
        lambda s: Odd(
            s,
            observation=spaces.Box(-np.inf, np.inf, (3,), np.float64),
            change=("observation", 0, lambda x: x.astype(np.float64)),
        ),
    ),
    "int64 observations": (
        FLOATS,
        lambda s: Odd(
            s,
            observation=spaces.Box(-100, 10_000, (3,), np.int64),
            change=("observation", 0, lambda x: x.astype(np.int64)),
        ),
    ),
    "uint8 frames of one channel": (Script(3, seed=1, frame_shape=(1, 4, 4), dtype="uint8"), Odd),
    "uint8 frames, channels first": (Script(3, seed=1, frame_shape=(3, 4, 4), dtype="uint8"), Odd),
    "mode DISABLED": (FLOATS, lambda s: Odd(s, "DISABLED")),
    "mode SAME_STEP, final_obs an object array": (FLOATS, lambda s: Odd(s, "SAME_STEP")),
    "mode SAME_STEP, final_obs dense with junk": (
        FLOATS, lambda s: Odd(s, "SAME_STEP", final_obs="dense")
    ),
    "its own buffer returned": (FLOATS, lambda s: Odd(s, reuse_buffer=True)),
    "its own buffer returned, DISABLED": (FLOATS, lambda s: Odd(s, "DISABLED", reuse_buffer=True)),
    "copy=False": (FLOATS, lambda s: _sync("NEXT_STEP", copy=False)),
    "copy=False, SAME_STEP": (FLOATS, lambda s: _sync("SAME_STEP", copy=False)),
    "reset rows with a reward and flags": (FLOATS, lambda s: Odd(s, rude=True)),
    "rewards float64, from Sync": (FLOATS, lambda s: _sync("DISABLED")),
}  # fmt: skip


def run(short: bool) -> Outcome:
    """Every fixture; the short form is the same."""
    faults = {}
    for name, (make, fix) in REFUSED.items():
        if why := refuse_fault(make, fix):
            faults[name] = why
    transitions = 0
    for name, (script, envs) in RIGHT.items():
        sampled, bad = count_bad(script, lambda e=envs, s=script: e(s), 60 if short else 600)  # type: ignore[misc]
        transitions += sampled
        if bad or not sampled:
            faults[name] = f"{bad} of {sampled} transitions wrong"
    for name, why in faults.items():
        print(f"  {name}: {why}", flush=True)
    count = len(REFUSED) + len(RIGHT)
    return Outcome(
        f"{count - len(faults)}/{count}: {len(REFUSED)} refused with the fix, {len(RIGHT)} right "
        f"in {transitions:,} transitions",
        not faults,
        {"refused": list(REFUSED), "right": list(RIGHT), "faults": faults},
    )


def refuse_fault(make: Callable[[], Any], fix: str) -> str | None:
    """What is wrong with the way a run refuses an env; None if nothing."""
    updates = 0
    with tempfile.TemporaryDirectory() as scratch:
        config = Config(
            num_envs=3,
            total_env_steps=3_000,
            learning_starts_env_steps=300,
            log_period_env_steps=60,
            hidden_sizes=(8,),
            replay_capacity=3_000,
            device="cpu",
            run_dir=str(Path(scratch) / "run"),
        )
        try:
            trainer = Trainer(config, make())
            try:
                with StopSignals() as signals:
                    trainer.run([], signals)
            finally:
                updates = trainer.learner.updates
                trainer.close()
        except FastDQNError as error:
            if updates:
                return f"{updates} updates before it was refused"
            text = str(error)
            if fix not in text or "\n" in text:
                return f"the message does not name the fix {fix!r}: {text}"
            return None
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return "trained"


def count_bad(script: Script, make: Callable[[], Any], steps: int) -> tuple[int, int]:
    """Transitions sampled from a replay of the env, and those that are not the script's."""
    made = oracle.make_stream
    oracle.make_stream = lambda *_: make_envs(make())
    try:
        with warnings.catch_warnings():  # that the ring is small
            warnings.simplefilter("ignore")
            return oracle.count_bad(script, "odd", n_step=3, prioritized=True, steps=steps)
    finally:
        oracle.make_stream = made
