"""How a model is saved, loaded and copied: in files without pickle."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor

from fastdqn.checkpoints.store import refusing
from fastdqn.config.checks import shown
from fastdqn.errors import ConfigError, nearest
from fastdqn.integrations.sb3.engine import Engine
from fastdqn.integrations.sb3.keywords import TAKEN
from fastdqn.integrations.sb3.model_file import PathOrFile, read_file, write_file
from fastdqn.integrations.sb3.space_state import space_of, space_state

_COUNTERS = ("num_timesteps", "_episode_num", "_n_updates", "_n_calls", "exploration_rate",
             "_current_progress_remaining")  # fmt: skip
_PARTS = {"policy": "network", "policy_target": "target_network", "policy.optimizer": "moments"}


class SavedModel:
    """The part of a model that deals with files; mixed into :class:`fastdqn.integrations.sb3.DQN`.

    A file holds networks, optimizer, counters, spaces and keywords; not the envs, nor the replay,
    which has a file of its own.
    """

    engine: Engine
    keywords: dict[str, Any]
    env: Any

    def save(self, path: PathOrFile, exclude: Any = None, include: Any = None) -> None:
        """Write the model; ``.zip`` is added to a path without suffix.

        Args:
            path: A path, or a file open to write.
            exclude: None: what is in a file is fixed.
            include: Likewise.

        Raises:
            CheckpointError: Where the disk refuses.
            ConfigError: Where exclude or include is given.
        """
        for name, value in {"exclude": exclude, "include": include}.items():
            if value is not None:
                raise ConfigError(
                    f"{name} = {shown(value)} has no effect, a file holds the same parts each "
                    f"time; leave it out."
                )
        spaces = self.engine.spaces
        keywords = {name: value for name, value in self.keywords.items() if not callable(value)}
        model = {
            "keywords": _plain(keywords),
            "n_envs": spaces.num_envs,
            "counters": {name: getattr(self, name) for name in _COUNTERS},
            "observation_space": space_state(spaces.space),
            "action_space": space_state(spaces.action_space),
        }
        state = {"model": model, "engine": self.engine.state_dict()}
        write_file(path, "model", state, int(model["counters"]["num_timesteps"]))

    @classmethod
    def load(
        cls,
        path: PathOrFile,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: Mapping[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        **keywords: Any,
    ) -> Self:
        """A model from its file.

        Args:
            path: Of :meth:`save`, with or without its suffix; or a file open to read.
            env: To go on learning in; without one the model predicts, and ``set_env`` gives it one.
            device: ``auto``, ``cpu`` or ``cuda``.
            custom_objects: Other values for keywords, such as ``learning_rate``; what names none is
                ignored, for there is nothing that cannot be read back.
            print_system_info: Print versions.
            force_reset: Is so in any case.
            keywords: As custom_objects; one that is unknown is refused.

        Raises:
            CheckpointError: Where it is no such file, or is damaged.
            ConfigError: Where the envs, or a keyword, do not fit it.
        """
        if print_system_info:
            from stable_baselines3.common.utils import get_system_info

            get_system_info()
        if not isinstance(custom_objects, Mapping | None):
            raise ConfigError(
                f"custom_objects = {shown(custom_objects)} must be a dictionary, or None."
            )
        state = read_file(path, "model")
        with refusing(path):  # type: ignore[arg-type]
            model = state["model"]
            saved = dict(model["keywords"])
            known = {*inspect.signature(cls).parameters, *TAKEN}
            for name in (*saved, *keywords):
                if name not in known and name in saved:
                    raise KeyError(name)
                if name not in known:
                    raise ConfigError(f"{name} is no keyword of DQN{nearest(name, sorted(known))}.")
            custom = {k: v for k, v in (custom_objects or {}).items() if k in known}
            if env is not None and "learning_rate" not in {**saved, **custom, **keywords}:
                warnings.warn(
                    f"learning_rate was a function, which is not in {path}; pass it to load, or "
                    f"the default is taken.",
                    stacklevel=2,
                )
            spaces = (
                space_of(model["observation_space"]),
                space_of(model["action_space"]),
                int(model["n_envs"]),
            )
            made = cls(
                **{**saved, **custom, **keywords, "env": env, "device": device, "_spaces": spaces}
            )
            if env is not None:
                made.engine.spaces.check_same(*spaces[:2])
            made.engine.load_state_dict(state["engine"])
            for name in _COUNTERS:
                setattr(made, name, type(getattr(made, name))(model["counters"][name]))
        return made

    def get_parameters(self) -> dict[str, dict[str, Any]]:
        """Copies by name: ``policy``, ``policy_target``, ``policy.optimizer``."""
        state = self.engine.learner.state_dict()
        return {name: _copied(state[part]) for name, part in _PARTS.items()}

    def set_parameters(
        self,
        load_path_or_dict: PathOrFile | Mapping[str, Any],
        exact_match: bool = True,
        device: torch.device | str = "auto",
    ) -> None:
        """Take over what :meth:`get_parameters` or :meth:`save` gave.

        Args:
            load_path_or_dict: Either.
            exact_match: Whether all three parts must be there; each must fit in any case.
            device: Is the model's in any case.

        Raises:
            CheckpointError: Where a part does not fit.
            ConfigError: Where a name is none, or one is missing.
        """
        if isinstance(load_path_or_dict, Mapping):
            given = dict(load_path_or_dict)
        else:
            saved = read_file(load_path_or_dict, "model")
            with refusing(load_path_or_dict):  # type: ignore[arg-type]
                learner = saved["engine"]["learner"]
                given = {name: learner[part] for name, part in _PARTS.items()}
        unknown, missing = given.keys() - _PARTS.keys(), _PARTS.keys() - given.keys()
        if unknown or (exact_match and missing):
            wrong = sorted(unknown or missing)[0]
            raise ConfigError(
                f"{wrong!r} is {'no part' if unknown else 'missing'}, where a model has "
                f"{', '.join(_PARTS)}; pass all that get_parameters returned."
            )
        state = self.engine.learner.state_dict()
        state |= {_PARTS[name]: part for name, part in given.items()}
        for name, part in given.items():
            if not isinstance(part, Mapping):
                raise ConfigError(
                    f"{name} = {shown(part)} is no part of a model; pass what get_parameters "
                    f"returned."
                )
        self.engine.learner.load_state_dict(state)

    def save_replay_buffer(self, path: PathOrFile) -> None:
        """Write the replay; CheckpointError where the disk refuses."""
        replay = self.engine.make_replay()
        write_file(path, "replay", {"replay": replay.state_dict()}, 0)

    def load_replay_buffer(self, path: PathOrFile, truncate_last_traj: bool = True) -> None:
        """Read a replay of :meth:`save_replay_buffer`; the next ``learn`` resets the envs.

        Args:
            path: The file.
            truncate_last_traj: Is so in any case.

        Raises:
            CheckpointError: Where it is another's.
        """
        state = read_file(path, "replay")
        with refusing(path):  # type: ignore[arg-type]
            self.engine.make_replay().load_state_dict(state["replay"])
        self.replay_buffer, self._last_obs = self.engine.make_replay(), None


def _plain(value: Any) -> Any:
    """Without what JSON does not hold; a function of the progress is no keyword of the file's."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items() if not isinstance(v, type)}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return getattr(value, "value", value)


def _copied(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _copied(value) for name, value in part.items()}
    return part.detach().clone() if isinstance(part, Tensor) else part
