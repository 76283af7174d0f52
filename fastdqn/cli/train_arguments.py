"""The options of ``fastdqn train``, and the configuration they come to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from fastdqn.cli.arguments import options_in, parse, unknown, words_of
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
from fastdqn.config.presets import preset
from fastdqn.errors import ConfigError

DEFAULT_PRESET = "cartpole"


@dataclass(frozen=True, kw_only=True)
class TrainFlags:
    """Every field of Config, shown by groups whose names stand in no option, and these three."""

    preset: Annotated[
        tyro.conf.Positional[str | None],
        tyro.conf.arg(metavar="[PRESET]", help_behavior_hint=f"(default: {DEFAULT_PRESET})"),
    ] = None
    """Recipe to start from; 'fastdqn presets' lists them. The options below replace its fields."""
    config: Annotated[str | None, tyro.conf.arg(metavar="FILE.json")] = None
    """Start from this file, or from the config.json of this run directory, instead."""
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


def train_config(args: list[str]) -> Wanted:
    """What ``fastdqn train ARGS`` would run."""
    # The defaults that the parser shows and fills in depend on two of its own arguments. A PRESET
    # at the front is kept from it: its help would leave out an argument that it has already got.
    name = args[0] if args and not args[0].startswith("-") else None
    words = args if name is None else args[1:]
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

        config, chosen = choose(changes.pop("env_id"), changes)
        return Wanted(config, flags.dry_run, "replay_capacity" in typed, str(chosen))
    return Wanted(
        base.replace(**changes), flags.dry_run, "replay_capacity" in typed or bool(flags.config)
    )


def _parse_train(words: list[str], name: str | None, file: str | None) -> tuple[Config, TrainFlags]:
    """What the options start from, and what they make of it."""
    base = _base(name, file)
    flags = parse(
        TrainFlags,
        words,
        prog="fastdqn train",
        description=f"Train an agent. Defaults are those of {file or name or DEFAULT_PRESET}.",
        default=TrainFlags.of(base),
    )
    return base, flags


def _base(name: str | None, file: str | None) -> Config:
    if file is None:
        return preset(name or DEFAULT_PRESET)
    if name is not None:
        raise ConfigError(f"The preset {name!r} and --config exclude each other; drop one.")
    path = Path(file) / "config.json" if Path(file).is_dir() else Path(file)
    config = Config.load(path)
    # The record of an earlier run, maybe moved or copied: run it again, not into its files.
    own = config.run_dir is not None and Path(config.run_dir).resolve() == path.parent.resolve()
    own = own or (path.name == "config.json" and (path.parent / "metrics.csv").exists())
    return config.replace(run_dir=None, resume="never") if own else config
