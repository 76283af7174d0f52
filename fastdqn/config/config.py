"""The one configuration object: frozen, flat, checked when it is made, free of torch.

Units are in the names. ``env_steps`` counts agent steps summed over all envs and is the clock of
every schedule; ``updates`` counts optimizer steps. Only the trainer and the command line read a
``Config``; every component takes plain keyword arguments. The fields stand in ``groups``.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn.config import json_format, layout, toml_format
from fastdqn.config.atari_ids import with_atari_meaning
from fastdqn.config.checks import checked, refuse_unknown, shown
from fastdqn.config.combinations import check_pairs, without_rivals
from fastdqn.config.details import settled
from fastdqn.config.fields import fields_of
from fastdqn.config.groups import (
    EnvFields,
    EvaluationFields,
    ExplorationFields,
    FileFields,
    LearningFields,
    NetworkFields,
    ReplayFields,
    RunFields,
)
from fastdqn.errors import ConfigError
from fastdqn.system.bounded_json import read_bounded

_EVALUATIONS, _FEW_EPISODES = 20, 10  # during a run, where no period is named
_LONGEST_LAUNCH = 16  # updates; each then bears a sixteenth of what a launch costs


# A dataclass takes the fields of its last base first: EnvFields, RunFields, ...
@dataclass(frozen=True, kw_only=True)
class Config(
    FileFields,
    EvaluationFields,
    ReplayFields,
    ExplorationFields,
    LearningFields,
    NetworkFields,
    RunFields,
    EnvFields,
):
    """Everything a run depends on. The defaults are the preset ``cartpole``.

    A value other than the default is refused where nothing would use it, such as a ``huber_delta``
    of 2 with ``loss = 'mse'``.
    """

    def __post_init__(self) -> None:
        """Check types, choices, ranges and pairs; raise ConfigError with one sentence."""
        values = checked(vars(self), fields_of(Config))
        defaults = _defaults()
        was_set = [name for name, value in values.items() if value != defaults[name]]
        values = with_atari_meaning(values, was_set)
        vars(self).update(settled(values, was_set, defaults))
        vars(self)["env_kwargs"] = json_format.plain_copy("env_kwargs", self.env_kwargs)
        check_pairs(self)

    def replace(self, **changes: Any) -> Config:
        """A copy with some fields changed; an unknown name is refused with the nearest one.

        A change that has no effect is refused; what it leaves without effect falls back to its
        default: ``replace(loss="mse")`` forgets ``huber_delta``.

        Args:
            changes: Fields and their values.
        """
        refuse_unknown(changes, fields_of(Config))
        return _settled({**vars(self), **changes}, changes)

    def to_json(self) -> str:
        """The whole configuration as a JSON object."""
        return json_format.write(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Read what :meth:`to_json` wrote (or a part of it); unknown keys are refused.

        With ``format_version`` it is the record of a run: what has no effect in it is left over.
        Without, somebody wrote it, and that is refused.

        Args:
            text: A JSON object of fields; those that it leaves out have their defaults.
        """
        body, record = json_format.read(text)
        if not record:
            return _written(layout.ungrouped(body))
        refuse_unknown(body, fields_of(Config))
        return _settled({**_defaults(), **body}, ())

    @classmethod
    def load(cls, path: str | Path) -> Config:
        """Read a configuration from a file: TOML if its name ends in ``.toml``, else JSON.

        Either holds fields by name. Some may stand in tables (in JSON objects) that are called like
        the groups of docs/config.md. ``preset`` names what the others replace fields of; without
        it they replace the defaults. TOML has no null: the text ``"None"`` stands for it.

        Args:
            path: Of the file.

        Raises:
            ConfigError: Where it cannot be read or parsed, or holds what no field may have.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigError(f"path = {shown(path)} is no path; pass that of a config.json.")
        try:
            if not Path(path).is_file():  # reading a pipe would wait for ever
                raise OSError("it is no file")
            text = read_bounded(Path(path))
        except (OSError, ValueError) as error:  # ValueError: too much, not UTF-8, or a bad path
            raise ConfigError(
                f"The configuration {path} cannot be read ({error}); name a config.json, a TOML "
                f"file in UTF-8 or a run directory."
            ) from None
        try:
            if Path(path).suffix.lower() != ".toml":
                return cls.from_json(text)
            values = layout.ungrouped(toml_format.read(text))
            return _written(layout.with_none(values))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

    @property
    def expected_updates(self) -> int:
        """Updates of the whole run."""
        learning = max(0, self.total_env_steps - self.learning_starts_env_steps)
        return int(learning / self.update_period_env_steps)

    def launch_on(self, device_type: str) -> int:
        """``updates_per_launch``, resolved for a type of device: cpu or cuda.

        Args:
            device_type: ``cpu`` or ``cuda``.
        """
        if self.updates_per_launch is not None:
            return self.updates_per_launch
        owed = int(self.num_envs / self.update_period_env_steps)  # by one vector step
        if device_type != "cuda" or owed <= 1:
            return 1
        most = _LONGEST_LAUNCH
        if self.target_period_updates is not None and self.target_period_updates > 1:
            most = min(most, self.target_period_updates)
        if not self.prioritized:
            most = min(most, self.replay_capacity // self.batch_size)
        return owed // math.ceil(owed / most)

    def drawn_at_once(self, launch: int) -> int:
        """Transitions in one draw for a launch: prioritized ones depend on those before.

        Args:
            launch: Updates of the launch.
        """
        return self.batch_size * (1 if self.prioritized else launch)

    @property
    def replay_ratio(self) -> float:
        """Transitions trained on per env step; quote it with every speed."""
        return self.batch_size / self.update_period_env_steps

    @property
    def schedules_end_env_steps(self) -> int:
        """``schedule_env_steps``, resolved."""
        return self.schedule_env_steps or self.total_env_steps

    @property
    def eval_every_env_steps(self) -> int | None:
        """``eval_period_env_steps``, resolved; None: no evaluation during the run."""
        if self.eval_episodes == 0 or self.eval_period_env_steps == 0:
            return None
        if self.eval_period_env_steps is not None:
            return self.eval_period_env_steps
        period = max(1, self.total_env_steps // _EVALUATIONS)
        if self.checkpoint_keep_best and (saved := self.checkpoint_period_env_steps) is not None:
            return saved * max(1, round(period / saved))  # else no checkpoint had a score
        return period

    @property
    def checkpoint_every_env_steps(self) -> int | None:
        """``checkpoint_period_env_steps``, resolved; None: only when the run ends."""
        if self.checkpoint_period_env_steps is None and self.checkpoint_keep_best:
            return self.eval_every_env_steps
        return self.checkpoint_period_env_steps

    @property
    def eval_episodes_during_run(self) -> int:
        """Episodes of an evaluation during the run."""
        if self.eval_period_env_steps is None:  # nobody asked for it: it is to cost little
            return min(self.eval_episodes, _FEW_EPISODES)
        return self.eval_episodes

    @property
    def log_every_env_steps(self) -> int:
        """``log_period_env_steps``, resolved."""
        return self.log_period_env_steps or max(1, self.total_env_steps // 100)


def _defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields_of(Config).values()}


def _written(values: dict[str, Any]) -> Config:
    """The configuration that somebody wrote into a file: a preset's with these fields."""
    if layout.PRESET not in values:
        refuse_unknown(values, fields_of(Config))
        return _settled({**_defaults(), **values}, values)
    from fastdqn.config.presets import preset  # which makes Configs

    name = values[layout.PRESET]
    if not isinstance(name, str):
        raise ConfigError(
            f"preset = {shown(name)} is no name; use one that 'fastdqn presets' lists."
        )
    return preset(name).replace(**{n: v for n, v in values.items() if n != layout.PRESET})


def _settled(values: Mapping[str, Any], was_set: Collection[str]) -> Config:
    """The configuration of these values, of which somebody meant those that were set."""
    values = without_rivals(checked(values, fields_of(Config)), was_set)
    values = with_atari_meaning(values, was_set)
    return Config(**settled(values, was_set, _defaults()))
