"""Packages with envs that Gymnasium hears of only when somebody asks them."""

from __future__ import annotations

import importlib
from importlib import metadata

from fastdqn.errors import EnvError

_GROUP = "gymnasium.envs"  # of entry points, which Gymnasium itself stopped loading in 1.0
_OF_IMPORT = {"MiniGrid": "minigrid", "BabyAI": "minigrid"}  # by the first word of an id
_PACKAGES = {"MinAtar": "MinAtar", **_OF_IMPORT}


def register_from_package(env_id: str) -> None:
    """Let the package of an env register it with Gymnasium, where one is installed that says so.

    That is a package with an entry point of the id's namespace (of ``__root__`` for ids without),
    and minigrid, which registers its envs when imported.

    Raises:
        EnvError: Where the package is known and not installed, or fails.
    """
    from gymnasium.envs.registration import registry  # here, for --help to need no gymnasium

    namespace, has_namespace, _ = env_id.rpartition("/")
    word = namespace or env_id.partition("-")[0]
    try:
        if word in _OF_IMPORT:
            importlib.import_module(_OF_IMPORT[word])
        for point in metadata.entry_points(
            group=_GROUP, name=namespace if has_namespace else "__root__"
        ):
            point.load()()
    except ModuleNotFoundError as error:
        if error.name != _OF_IMPORT.get(word):
            raise _failure(env_id, error) from error
    except Exception as error:
        raise _failure(env_id, error) from error
    package = _PACKAGES.get(word)
    if package and not any(name.startswith(word) for name in registry):
        raise EnvError(f"{env_id} needs {package}, which is not installed: pip install {package}")


def _failure(env_id: str, error: Exception) -> EnvError:
    why = " ".join(str(error).split()) or "no reason given"
    return EnvError(
        f"The package that should register {env_id} failed ({type(error).__name__}: {why})."
    )
