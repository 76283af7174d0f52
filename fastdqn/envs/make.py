"""The one way in: from an id, or a VectorEnv, to a stream of rows."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from fastdqn.config.atari_ids import atari_meaning, say_meaning
from fastdqn.config.env_ids import check_env_id, is_native
from fastdqn.envs import checks
from fastdqn.envs.atari import AtariProtocol, AtariStream, check_game, make_atari
from fastdqn.envs.atari_games import make_atari_games
from fastdqn.envs.conforming import conform
from fastdqn.envs.envpool import EnvPoolEnvs, is_envpool
from fastdqn.envs.gymnasium import GymnasiumStream
from fastdqn.envs.leaves import ObservationOptions
from fastdqn.envs.native.base import NativeVectorEnv
from fastdqn.envs.native.stream import NativeStream
from fastdqn.envs.stream import EnvStream
from fastdqn.errors import EnvError, EnvFailure, FastDQNError, nearest
from fastdqn.system.signals import before_workers

_VECTORIZATIONS = ("auto", "sync", "async", "vector_entry_point")


def make_envs(
    env: str | VectorEnv,
    num_envs: int | None = None,
    *,
    seed: int = 0,
    atari: AtariProtocol | None = None,
    frame_stack: int | None = None,
    num_threads: int | None = None,
    vectorization: str = "auto",
    device: str = "cpu",
    step_timeout_s: float | None = 60.0,
    observation_scale: str = "auto",
    image_layout: str = "auto",
    observation_keys: Sequence[str] | None = None,
    store_uint8: bool = False,
    **env_kwargs: Any,
) -> EnvStream:
    """Make envs, or adapt a VectorEnv, and refuse what a DQN cannot use.

    Args:
        env: A Gymnasium id; ids that start with ``ALE/`` run on ALE's own vector env, and old ones
            such as ``PongNoFrameskip-v4`` as ``ALE/Pong-v5`` without sticky actions, which one
            warning says. Or a VectorEnv, whose mode of autoreset may be any.
        num_envs: Envs (N); 1 when None. A VectorEnv knows its own.
        seed: Of the first ``reset()`` that names none; env i gets seed + i.
        atari: Rules of ``ALE/`` ids; None: :meth:`AtariProtocol.machado`.
        frame_stack: Frames that the replay shall stack; None: 4 for ``ALE/`` ids, else
            observations are used as they are.
        num_threads: Of ALE; None: one per usable CPU, at most one per env.
        vectorization: ``sync``, ``async`` (one process per env), ``vector_entry_point`` (the env's
            own vector class) or ``auto``: the latter where there is one, else sync.
        device: Passed on to the env if it is not ``cpu``, for vector envs that live on a GPU, such
            as our own.
        step_timeout_s: How long the workers of an AsyncVectorEnv may take for one step.
        observation_scale: ``none``: observations go to the network as they are; ``255``: divided
            by 255; ``auto``: by 255 where the space runs from 0 to 255, but for symbols on a small
            grid.
        image_layout: ``chw``, ``hwc``, or ``auto``: by the sizes.
        observation_keys: Of the parts of a Dict or Tuple, those to look at (``a``, ``a.b``, ``0``);
            None: all but texts.
        store_uint8: Store images of floats as bytes, where that loses nothing.
        **env_kwargs: Of ``gymnasium.make_vec``; of ``ALE/`` ids ``mode``, ``difficulty`` and
            ``obs_type="ram"``, with which they step one after the other.

    Raises:
        EnvError: Where they cannot be made, or are nothing for a DQN.
    """
    if num_envs is not None and (type(num_envs) is not int or num_envs < 1):
        raise EnvError(f"num_envs = {num_envs!r} is out of range; use 1 or more.")
    seed = checks.check_seed(seed, num_envs or 1)
    if vectorization not in _VECTORIZATIONS:
        hint = nearest(vectorization, _VECTORIZATIONS)
        raise EnvError(
            f"vectorization = {vectorization!r} must be one of {', '.join(_VECTORIZATIONS)}{hint}."
        )
    observation = ObservationOptions.checked(
        observation_scale, image_layout, observation_keys, store_uint8
    )
    if device != "cpu":
        env_kwargs["device"] = device
    if not isinstance(env, str):
        if env_kwargs:
            raise EnvError(
                f"{', '.join(env_kwargs)} cannot be set on {env}, which is made already."
            )
        if is_envpool(env):
            env = EnvPoolEnvs(env)
        checks.check_is_vector_env(env)
        if num_envs not in (None, env.num_envs):
            raise EnvError(f"num_envs = {num_envs}, but {env} has {env.num_envs}; leave it None.")
        return _adapt(env, frame_stack, seed, step_timeout_s, observation)
    if meaning := atari_meaning(env):
        if atari is None and meaning.sticky_actions is not None:
            atari = AtariProtocol.machado(repeat_action_probability=meaning.sticky_actions)
        if meaning.ram:
            env_kwargs.setdefault("obs_type", "ram")
        rules = atari or AtariProtocol.machado()
        say_meaning(
            env,
            meaning,
            rules.frame_skip,
            sticky=rules.repeat_action_probability,
            life_loss=rules.life_loss,
        )
        env = meaning.env_id
    if env.startswith("ALE/"):
        check_game(env)
        if env_kwargs:
            if num_threads is not None or vectorization == "vector_entry_point":
                name = "vectorization" if num_threads is None else "num_threads"
                raise EnvError(
                    f"{name} is for ALE's own vector env, which cannot set {', '.join(env_kwargs)} "
                    f"of {env}; leave one of them out."
                )
            return make_atari_games(
                env,
                num_envs or 1,
                protocol=atari,
                frame_stack=frame_stack,
                seed=seed,
                asynchronous=vectorization == "async",
                step_timeout_s=step_timeout_s,
                observation=observation,
                **env_kwargs,
            )
        if vectorization not in ("auto", "vector_entry_point"):
            raise EnvError(
                f"vectorization = {vectorization!r} does not apply to {env}, which runs on ALE's "
                f"own vector env; use 'auto'."
            )
        return make_atari(
            env,
            num_envs or 1,
            protocol=atari,
            frame_stack=4 if frame_stack is None else frame_stack,
            num_threads=num_threads,
            seed=seed,
            observation=observation,
        )
    if atari is not None or num_threads is not None:
        name = "num_threads" if atari is None else "atari"
        raise EnvError(f"{name} applies to ids that start with ALE/ only, not to {env!r}.")
    if is_native(env) and vectorization in ("sync", "async"):
        raise EnvError(
            f"vectorization = {vectorization!r} does not apply to {env}, whose envs step as "
            f"one; use 'auto'."
        )
    envs = _make_vec(env, num_envs or 1, vectorization, env_kwargs)
    try:
        return _adapt(envs, frame_stack, seed, step_timeout_s, observation)
    except EnvError:
        envs.close()
        raise


def _adapt(
    envs: VectorEnv,
    frame_stack: int | None,
    seed: int,
    step_timeout_s: float | None,
    observation: ObservationOptions,
) -> GymnasiumStream:
    """The stream that knows the laws of ``envs``."""
    conform(envs)
    ale_py = sys.modules.get("ale_py")  # not loaded: then these are not its envs
    if ale_py is not None and isinstance(envs.unwrapped, ale_py.AtariVectorEnv):
        return AtariStream(envs, frame_stack=frame_stack, seed=seed, observation=observation)
    # Not the unwrapped envs: what a wrapper makes of their rows is to be seen to.
    if isinstance(envs, NativeVectorEnv):
        stream = NativeStream(envs, frame_stack=frame_stack, seed=seed, observation=observation)
        if stream.reader.plain:  # its rows are taken as they come
            return stream
    return GymnasiumStream(
        envs,
        frame_stack=frame_stack,
        seed=seed,
        step_timeout_s=step_timeout_s,
        observation=observation,
    )


def _make_vec(
    env_id: str, num_envs: int, vectorization: str, env_kwargs: dict[str, Any]
) -> VectorEnv:
    """``gymnasium.make_vec``, with errors of one sentence."""
    check_env_id(env_id)
    if vectorization == "async":
        # A fork copies whatever locks the threads of ALE, OpenMP or CUDA hold at that moment, and
        # Python 3.14 no longer forks by default either. The price: workers import the main module.
        methods = multiprocessing.get_all_start_methods()
        context = "forkserver" if "forkserver" in methods else "spawn"
        before_workers()
        given = env_kwargs.get("vector_kwargs") or {}
        env_kwargs = {**env_kwargs, "vector_kwargs": {"context": context, **given}}
    mode = None if vectorization == "auto" else vectorization
    try:
        return gymnasium.make_vec(env_id, num_envs, vectorization_mode=mode, **env_kwargs)
    except (EOFError, ConnectionError) as error:
        raise EnvFailure(
            f"A worker of {env_id} died at its start, see above; a script that makes async envs "
            f"must do so under: if __name__ == '__main__'."
        ) from error
    except FastDQNError:  # of our own envs: a sentence already
        raise
    except Exception as error:
        why = " ".join(str(error).split()) or "no reason given"
        raise EnvError(f"{env_id} cannot be made ({type(error).__name__}: {why}).") from error
