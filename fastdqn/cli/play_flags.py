"""Options of the commands that play with a trained agent, and the configuration they come to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fastdqn.checkpoints.names import find_checkpoint, parse_choice
from fastdqn.cli.json_argument import JSON_ARGUMENT
from fastdqn.config.arguments import check_argument
from fastdqn.config.config import Config
from fastdqn.config.env_ids import check_env_id
from fastdqn.config.layout import EVERY_FIELD
from fastdqn.runs.reader import config_to_play
from fastdqn.runs.record import refuse_to_play


@dataclass(frozen=True, kw_only=True)
class PlayFlags:
    """What these commands share."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run directory, one of its checkpoints, or a run of a hub (hf:USER/NAME)."""
    checkpoint: str | None = None
    """Of a run: best (the one whose evaluation had the highest mean return), latest, or the env
    steps of one. None: latest."""
    env_id: str | None = None
    """Play in this env, of the same spaces, with the run's Atari protocol; None: the run's."""
    env_kwargs: Annotated[dict[str, Any] | None, JSON_ARGUMENT] = None
    """Extra keyword arguments for the env, as a JSON object. None: the run's, and for another env
    than the run's none."""
    seed: int | None = None
    """Of the episodes, which are never those of training; None: as in the run's own evaluation."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:<index>."""
    step_timeout_s: float | None = None
    """Envs that take longer for a step or a reset end the command; None: the run's."""
    allow_env_import: tyro.conf.FlagCreatePairsOff[bool] = False
    """Let the run's env_id name a module (module:Env-v0), which is then imported."""

    @property
    def choice(self) -> int | str | None:
        """``checkpoint``, checked."""
        return parse_choice(self.checkpoint)


def config_for(flags: PlayFlags, command: str, *, call: str, **changes: Any) -> Config:
    """The configuration to play by: the run's, changed.

    Args:
        flags: Of the command.
        command: Its name.
        call: What to call in Python where this cannot be played; ``{policy}`` is the policy.
        **changes: Fields that the command sets.

    Raises:
        FastDQNError: Where the run, the checkpoint or the env is not there, or cannot be made.
    """
    run = Path(flags.run)
    config = config_to_play(run, env_id=flags.env_id, allow_env_import=flags.allow_env_import)
    refuse_to_play(run, command, other_env=flags.env_id is not None, call=call)
    find_checkpoint(run, flags.choice)
    if flags.env_id is not None:
        check_env_id(config.env_id)
    if flags.env_kwargs is not None:
        changes["env_kwargs"] = flags.env_kwargs
    if flags.step_timeout_s is not None:
        changes["step_timeout_s"] = flags.step_timeout_s
    for field, value in changes.items():  # by the names that are typed here
        known = EVERY_FIELD[field]
        check_argument(field.removeprefix("eval_"), value, known.type, known.range)
    return config.replace(device=flags.device, **changes)
