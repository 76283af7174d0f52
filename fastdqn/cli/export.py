"""``fastdqn export``: a trained network as a file for other programs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fastdqn.checkpoints.names import find_checkpoint, parse_choice
from fastdqn.cli.arguments import parse
from fastdqn.cli.pictures import disk_may_refuse
from fastdqn.cli.status_line import StatusLine
from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed
from fastdqn.errors import ConfigError, EnvError
from fastdqn.runs.reader import config_to_play, run_config
from fastdqn.runs.record import read_record, refuse_to_play
from fastdqn.sharing.formats import resolve_format
from fastdqn.system.out_path import check_place
from fastdqn.system.signals import exit_on_signals

if TYPE_CHECKING:
    from torch import Tensor

_MOST = 10_000  # observations that are kept at a time: 282 MB of Atari's
_NUM_ENVS = 4


@dataclass(frozen=True, kw_only=True)
class _ExportFlags:
    """The options of ``fastdqn export``."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run directory, one of its checkpoints, or a run of a hub (hf:USER/NAME)."""
    format: Literal["onnx", "torch-export"] | None = None
    """onnx or torch-export; None: that of the file's suffix, else onnx."""
    out: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """The file, .onnx or .pt2; None: policy.onnx or policy.pt2. An existing one is overwritten."""
    checkpoint: str | None = None
    """Of a run: best (the one whose evaluation had the highest mean return), latest, or the env
    steps of one. None: latest."""
    check: Annotated[int, tyro.conf.arg(metavar="N")] = 1_000
    """Observations on which the file must agree with the network: of the run's env, played, where
    that can be made, else random ones."""
    allow_env_import: tyro.conf.FlagCreatePairsOff[bool] = False
    """Let the run's env_id name a module (module:Env-v0), which is then imported to play."""


def run(args: list[str]) -> int:
    """Export a network and say whether the file agrees with it; ``fastdqn export``."""
    flags = parse(
        _ExportFlags,
        args,
        prog="fastdqn export",
        description="Write a trained network as a file for other programs, and compare the two.",
        example="fastdqn export runs/MY-RUN --out policy.onnx",
    )
    if not 1 <= flags.check <= _MOST:
        raise ConfigError(f"check = {flags.check} is out of range; use 1 to {_MOST:,}.")
    format, out = resolve_format(flags.format, flags.out)
    check_place(out)
    choice = parse_choice(flags.checkpoint)
    path = Path(flags.run)
    config = run_config(path)
    refuse_to_play(path, "export", other_env=True, call="torch.export.export({policy}.network, x)")
    checkpoint = find_checkpoint(path, choice)

    with StatusLine() as status:
        status.say(f"{config.env_id}: loading torch ...")
        from fastdqn.sharing.export import export_policy
        from fastdqn.sharing.facts import run_facts
        from fastdqn.training.load import load

        policy = load(path, device="cpu", checkpoint=choice)
        status.say(f"{config.env_id}: playing {flags.check:,} observations to compare ...")
        observations, source, why = _observations(flags, path, choice)
        if why:
            status.clear()
            print(f"fastdqn: random observations are compared: {why}", file=sys.stderr)
        status.say(f"{config.env_id}: writing and comparing ...")
        with disk_may_refuse(out), exit_on_signals():
            exported = export_policy(
                policy,
                out,
                format=format,
                metadata=run_facts(path, config, checkpoint),
                observations=observations,
            )
    found = exported.agreement
    said = (
        f"{found.same_actions:,} of {found.observations:,} {source}: the same greedy action; "
        f"Q differs by {found.largest_difference:.1e} at most"
    )
    if not found.holds:
        print(f"fastdqn: error: no file is written, for it disagrees: {said}", file=sys.stderr)
        return 1
    print(f"{exported}\n{said}\n{out} ({out.stat().st_size / 1e3:,.1f} kB)")
    return 0


def _observations(
    flags: _ExportFlags, path: Path, choice: int | str | None
) -> tuple[Tensor | int, str, str]:
    """What to compare on, and what it is called: of the run's env, or a number of random ones.

    Then the last says why.
    """
    try:
        if not read_record(path).envs.made_from_config:
            raise EnvError("the run's envs came from Python")
        config = config_to_play(path, allow_env_import=flags.allow_env_import)
        played = _play(flags, config, choice)
        return played, f"observations of {config.env_id}", ""
    except (ConfigError, EnvError) as error:
        return flags.check, "random observations", str(error)


def _play(flags: _ExportFlags, config: Config, choice: int | str | None) -> Tensor:
    from fastdqn.sharing.observations import played_observations
    from fastdqn.training import playing

    config = config.replace(device="cpu")
    num_envs = min(_NUM_ENVS, flags.check)
    with playing.playing(flags.run, config, num_envs=num_envs, checkpoint=choice) as played:
        policy, envs, stop = played
        seed = eval_seed(config)
        return played_observations(policy, envs, flags.check, seed=seed, stop=stop)
