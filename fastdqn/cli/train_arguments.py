"""The options of ``fastdqn train``, and the configuration they come to."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from fastdqn.cli.arguments import options_in, parse, unknown, words_of
from fastdqn.cli.help import HELP
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.config import Config
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import (
    GROUPS,
    EnvFields,
    EvaluationFields,
    ExplorationFields,
    FileFields,
    LearningFields,
    NetworkFields,
    ReplayFields,
    RunFields,
)
from fastdqn.config.presets import preset, presets
from fastdqn.errors import ConfigError

DEFAULT_PRESET = "cartpole"

COMMON = {
    "preset": "recipe; 'fastdqn presets' lists them",
    "config": "a TOML or JSON file, or a run, to start from",
    "dry_run": "print the memory plan and the schedule only",
    "env_id": "Gymnasium id, as ALE/Pong-v5",
    "num_envs": "environments stepped together",
    "frame_stack": "frames per observation; Atari: 4",
    "seed": "of the envs and of every random draw",
    "total_env_steps": "length of the run",
    "device": "auto, cpu, cuda or cuda:1",
    "run_dir": "where its files go; else a new one in runs/",
    "resume": "go on in --run-dir: auto, require",
    "initial": "a run, for its weights; all else anew",
    "network": "auto, mlp, nature, impala, ...",
    "hidden_sizes": "hidden layers of the mlp",
    "dueling": "split Q into value and advantage",
    "head": "scalar (Q), c51, qr or iqn",
    "update_period_env_steps": "env steps for each update",
    "batch_size": "transitions in an update",
    "n_step": "steps of the n-step return",
    "gamma": "discount per env step",
    "learning_rate": "step size",
    "epsilon_end": "chance of a random action in the end",
    "epsilon_duration_env_steps": "steps until then",
    "replay_capacity": "rows that are remembered",
    "prioritized": "prioritized experience replay",
    "eval_episodes": "in the final evaluation; 0: none",
    "eval_period_env_steps": "evaluate so often; 0: at the end",
    "logger": "tensorboard wandb mlflow trackio",
    "record_period_env_steps": "film an episode so often",
    "checkpoint_period_env_steps": "save so often; else at the end",
}
"""What most people set, and what its short help says of it."""


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Every field of Config, shown by groups whose names stand in no option, and these three."""

    preset: Annotated[
        tyro.conf.Positional[str | None],
        tyro.conf.arg(metavar="PRESET", help_behavior_hint=DEFAULT_PRESET),
    ] = None
    """Recipe to start from; 'fastdqn presets' lists them. The options below replace its fields."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """Start from this file, TOML (.toml) or JSON, or from the config.json of this run directory,
    instead of a preset."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print the memory plan and the schedule, and do not run."""
    env: tyro.conf.OmitArgPrefixes[EnvFields] = field(default_factory=EnvFields)
    run: tyro.conf.OmitArgPrefixes[RunFields] = field(default_factory=RunFields)
    network: tyro.conf.OmitArgPrefixes[NetworkFields] = field(default_factory=NetworkFields)
    learning: tyro.conf.OmitArgPrefixes[LearningFields] = field(default_factory=LearningFields)
    exploration: tyro.conf.OmitArgPrefixes[ExplorationFields] = field(
        default_factory=ExplorationFields
    )
    replay: tyro.conf.OmitArgPrefixes[ReplayFields] = field(default_factory=ReplayFields)
    evaluation: tyro.conf.OmitArgPrefixes[EvaluationFields] = field(
        default_factory=EvaluationFields
    )
    files: tyro.conf.OmitArgPrefixes[FileFields] = field(default_factory=FileFields)

    @classmethod
    def of(cls, config: Config) -> TrainFlags:
        """The flags whose defaults are this configuration."""
        return cls(
            **{
                group: kind(**{name: getattr(config, name) for name in fields_of(kind)})
                for group, kind in GROUPS.items()
            }
        )

    @property
    def fields(self) -> dict[str, Any]:
        """The value of every field of Config."""
        return {
            name: value for group in GROUPS for name, value in vars(getattr(self, group)).items()
        }


class Wanted(NamedTuple):
    """What ``fastdqn train`` is asked for."""

    config: Config
    dry_run: bool
    """Only plan it."""
    named_capacity: bool
    """Whether somebody chose the size of the replay, be it in a file."""
    chosen: str | None = None
    """The preset that was chosen, and why, where none was named."""
    start: str = ""
    """What was started from: a preset or a file."""


def train_config(args: list[str]) -> Wanted:
    """What ``fastdqn train ARGS`` would run."""
    # The defaults that the parser shows and fills in depend on two of its own arguments. A PRESET
    # at the front is kept from it: its help would leave out an argument that it has already got.
    name = args[0] if args and not args[0].startswith("-") else None
    words = args if name is None else args[1:]
    if name is None and any(word in HELP for word in args):
        name = next((word for word in args if word in presets()), None)
    base, flags = _parse_train(words, name, next(iter(words_of(words, "--config")), None))
    if name is not None and flags.preset is not None:
        raise ConfigError(unknown(flags.preset, TrainFlags, "fastdqn train"))
    if name is None and flags.preset is not None:  # it stood after some options
        base, flags = _parse_train(words, flags.preset, flags.config)
    typed = options_in(words)
    changes = {
        name: value
        for name, value in flags.fields.items()
        if name in typed or value != getattr(base, name)
    }
    unnamed = name is None and flags.preset is None and flags.config is None
    if unnamed and "env_id" in changes:
        from fastdqn.training.starting_point import choose

        env_id = changes.pop("env_id")
        with StatusLine(sys.stdout, in_a_pipe=not flags.dry_run) as status:
            said = f"{env_id}: loading torch, to look at its observations ..."
            config, chosen = choose(env_id, changes, before_a_look=lambda: status.say(said))
        start = f"preset {chosen.preset}"
        return Wanted(config, flags.dry_run, "replay_capacity" in typed, str(chosen), start)
    capacity = "replay_capacity" in typed or bool(flags.config)
    start = flags.config or f"preset {name or flags.preset or DEFAULT_PRESET}"
    return Wanted(base.replace(**changes), flags.dry_run, capacity, None, start)


def _parse_train(words: list[str], name: str | None, file: str | None) -> tuple[Config, TrainFlags]:
    """What the options start from, and what they make of it."""
    base = _base(name, file)
    flags = parse(
        TrainFlags,
        words,
        prog="fastdqn train",
        description="Train an agent.",
        defaults_of=file or f"the preset {name or DEFAULT_PRESET}",
        default=TrainFlags.of(base),
        example="fastdqn train dqn-atari --env-id ALE/Breakout-v5 --seed 2",
        common=COMMON,
    )
    return base, flags


def _refuse_other_names(name: str | None) -> None:
    """A file or an env in the place of the preset."""
    if name is None or name in presets():
        return
    if name.endswith((".toml", ".json")) or Path(name).is_dir():
        raise ConfigError(f"There is no preset {name!r}; did you mean --config {name}?")
    if re.search(r"[/:]|-v\d+$", name):
        raise ConfigError(f"There is no preset {name!r}; did you mean --env-id {name}?")


def _base(name: str | None, file: str | None) -> Config:
    if file is None:
        _refuse_other_names(name)
        return preset(DEFAULT_PRESET if name is None else name)
    if name is not None:
        raise ConfigError(f"The preset {name!r} and --config exclude each other; drop one.")
    path = Path(file) / "config.json" if Path(file).is_dir() else Path(file)
    config = Config.load(path)
    # The record of an earlier run, maybe moved or copied: run it again, not into its files.
    own = config.run_dir is not None and Path(config.run_dir).resolve() == path.parent.resolve()
    own = own or (path.name == "config.json" and (path.parent / "metrics.csv").exists())
    return config.replace(run_dir=None, resume="never") if own else config
