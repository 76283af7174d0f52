"""A run's env, made so that it draws itself, and films of a policy in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from fastdqn.acting.policy import Policy
from fastdqn.config.config import Config
from fastdqn.config.env_ids import is_native
from fastdqn.config.seeds import periodic_eval_seed
from fastdqn.config.windows import check_window
from fastdqn.envs.atari import AtariStream
from fastdqn.envs.atari_screen import RenderedAtari
from fastdqn.envs.rendered import (
    RenderedEnv,
    RenderedStream,
    RenderMode,
    check_renders,
    spec_of,
)
from fastdqn.errors import ConfigError
from fastdqn.plotting.labels import action_names
from fastdqn.recording.film import FilmSummary, film
from fastdqn.recording.film_file import has_mp4
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.training.build import atari_protocol, make_stream


def make_rendered(config: Config, mode: RenderMode = "rgb_array") -> RenderedEnv:
    """One evaluation env of a run, with the observations of training, that draws itself.

    Args:
        config: Of the run.
        mode: ``rgb_array``: pictures come from its render(); ``human``: into its own window.

    Raises:
        EnvError: Where it cannot be made, or draws no pictures, or has no window.
    """
    if mode == "human":
        check_window(config.env_id)
    name = config.env_id
    if is_native(name):
        stream = make_stream(config, num_envs=1, evaluation=True)
        made: Any = RenderedStream(stream, name, shows_observation=True)
    elif name.startswith("ALE/"):
        made = _rendered_atari(config, mode)
    else:
        check_renders(name, mode)
        spec = spec_of(name)
        single = spec is None or spec.entry_point is not None
        changes: dict[str, Any] = {"render_mode": mode}
        if "vector_kwargs" in config.env_kwargs:  # of workers that are not here
            changes["vector_kwargs"] = {}
        stream = make_stream(
            config,
            num_envs=1,
            evaluation=True,
            vectorization="sync" if single else "auto",
            **changes,
        )
        made = RenderedStream(stream, name)
    return cast(RenderedEnv, made)


def _rendered_atari(config: Config, mode: RenderMode) -> RenderedAtari | RenderedStream:
    # Games with options step one by one, in as many processes as the config says: here in none.
    way = "sync" if config.env_kwargs else "auto"
    stream: Any = make_stream(config, num_envs=1, evaluation=True, vectorization=way)
    if isinstance(stream, AtariStream):
        rules, seed = atari_protocol(config), config.seed
        return RenderedAtari(stream, config.env_id, rules, seed=seed, mode=mode)
    for game in stream.vector_env.envs:
        game.show(window=mode == "human")
    return RenderedStream(stream, config.env_id, shows_observation=True, flickers=True)


def check_filming(config: Config, *, own_envs: bool) -> None:
    """Refuse, before a run begins, films that could not be made in it; makes an env to see.

    Args:
        config: Of the run.
        own_envs: Whether its envs were passed from Python.

    Raises:
        ConfigError: Where its envs come from Python, or PyAV is missing.
        EnvError: Where the env cannot be made, or draws no pictures.
    """
    wanted = f"record_period_env_steps = {config.record_period_env_steps}"
    if own_envs:
        raise ConfigError(f"{wanted} has no env to film beside envs from Python; leave it out.")
    if not has_mp4():
        raise ConfigError(f"{wanted} needs PyAV; pip install 'fastdqn[video]', or leave it out.")
    make_rendered(config).close()


def film_policy(
    config: Config,
    policy: Policy,
    out: Path | str,
    *,
    seed: int | None = None,
    **how: Any,
) -> FilmSummary:
    """Film a policy in an env of its own, and leave no trace in the run that goes on meanwhile.

    Args:
        config: Of the run.
        policy: Not one that anybody else acts with: its stacks start anew.
        out: The film, ``.mp4`` (needs PyAV) or ``.gif``. A file of that name is replaced.
        seed: Of the env and of random actions; None: that of the run's periodic evaluations.
        **how: ``episodes`` (1), ``epsilon`` (0.0), ``max_env_steps`` (None), ``fps`` (None: the
            env's), ``q_bars`` (False), ``saliency`` (False), ``actions`` (their names; None: the
            env's), ``stop`` (asked before every step; True ends the film).

    Returns:
        What the film shows.

    Raises:
        ConfigError: Where an argument is out of range, or PyAV is missing for an ``.mp4``.
        EnvError: Where the env cannot be made, or draws no pictures.
        OSError: Where the film cannot be written.
    """
    seed = periodic_eval_seed(config) if seed is None else seed
    generators = DefaultGenerators(policy.device)
    with generators.put_back():
        generators.seed(seed)
        envs = make_rendered(config)
        try:
            how.setdefault("actions", action_labels(config, envs))
            return film(policy, envs, out, seed=seed, **how)
        finally:
            envs.close()


def action_labels(config: Config, envs: RenderedEnv) -> list[str]:
    """A name for each action of a run's env."""
    return action_names(
        config.env_id, envs.num_actions, full_action_space=config.atari_full_action_space
    )
