"""What people mean by Atari ids that are not ALE's own, such as ``PongNoFrameskip-v4``."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

# Ids of Gym, also with the prefix of ALE's own, which was never registered with them.
_OLD = re.compile(r"(?:ale_py:)?(?:ALE/)?(\w+?)(-ram)?(?:NoFrameskip|Deterministic)-v([04])")
_SHORT = re.compile(r"(?:ale_py:)?ALE/(\w+)|ale_py:ALE/(\w+)-v5")
_RANDOM_SKIP = re.compile(r"(?:ale_py:)?(\w+?)(-ram)?-v[04]")

ALE_KWARGS = frozenset({"obs_type", "mode", "difficulty"})
"""What a game of ALE can be made with beyond the fields of a configuration."""

_STICKY = {"0": 0.25, "4": 0.0}  # by version: what the two of them differ in


class AtariMeaning(NamedTuple):
    """How an id is played that is not ALE's own."""

    env_id: str
    """Of ALE, such as ``ALE/Pong-v5``."""
    sticky_actions: float | None
    """Chance per frame that the action before is repeated; None: what the protocol says."""
    ram: bool
    """Whether observations are the 128 bytes of RAM."""


def atari_meaning(env_id: str) -> AtariMeaning | None:
    """What an Atari id that is not ALE's own means; None for every other id.

    Frames are skipped by the envs here as Gymnasium's AtariPreprocessing does it around them, so
    that ``NoFrameskip`` and ``Deterministic`` mean the same, and ``-v0`` sticky actions.
    """
    if old := _OLD.fullmatch(env_id):
        if _is_of_others(env_id):
            return None
        game = game_id(old[1])
        if game is None and importlib.util.find_spec("ale_py") is None:
            game = f"ALE/{old[1]}-v5"  # make_envs says what to install
        return None if game is None else AtariMeaning(game, _STICKY[old[3]], bool(old[2]))
    if short := _SHORT.fullmatch(env_id):
        game = game_id(short[1] or short[2])
        return None if game is None else AtariMeaning(game, None, False)
    return None


def with_atari_meaning(values: Mapping[str, Any], was_set: Collection[str]) -> dict[str, Any]:
    """The values of a configuration with an env id of ALE's own, if its id means one.

    What the id says of sticky actions and RAM goes into their fields, unless these, or the
    protocol, were set. One warning says how the id is played.

    Args:
        values: Of every field.
        was_set: Names of the fields that somebody meant to have their value.
    """
    now = dict(values)
    meaning = atari_meaning(now["env_id"])
    if meaning is None:
        return now
    now["env_id"] = meaning.env_id
    chosen = "atari_sticky_actions" in was_set or "atari_protocol" in was_set
    if meaning.sticky_actions is not None and not chosen:
        now["atari_sticky_actions"] = meaning.sticky_actions
    if meaning.ram:
        now["env_kwargs"] = {"obs_type": "ram", **now["env_kwargs"]}
    sticky, classic = now["atari_sticky_actions"], now["atari_protocol"] == "classic"
    if sticky is None:
        sticky = 0.0 if classic else 0.25
    say_meaning(
        values["env_id"], meaning, now["atari_frame_skip"], sticky=sticky, life_loss=classic
    )
    return now


def say_meaning(
    env_id: str, meaning: AtariMeaning, frame_skip: int, *, sticky: float, life_loss: bool
) -> None:
    """Warn, in one line, of how an id is played that is not ALE's own.

    Args:
        env_id: As it was written.
        meaning: Of it.
        frame_skip: Frames per action.
        sticky: Sticky actions that it is played with in the end.
        life_loss: Whether the protocol is the one in which lost lives are terminal.
    """
    played = f"env_id = {env_id!r} is played as {meaning.env_id}"
    if meaning.sticky_actions is not None:
        what = f"sticky actions {sticky:g}" if sticky else "no sticky actions"
        on = " on its RAM" if meaning.ram else ""
        usual = frame_skip == 4 and not meaning.ram
        wrapped = ", as under Gymnasium's AtariPreprocessing" if usual else ""
        rules = (
            "lost lives are terminal and FIRE is pressed after a reset"
            if life_loss
            else "the Atari protocol 'classic' adds terminal lost lives and FIRE after a reset"
        )
        played += f"{on} with frame skip {frame_skip} and {what}{wrapped}; {rules}"
    warnings.warn(f"{played}.", stacklevel=2)


def random_skip_advice(env_id: str) -> str | None:
    """Why ``Pong-v4`` and its kind are refused, and what to use; None for every other id."""
    found = _RANDOM_SKIP.fullmatch(env_id)
    game = None if found is None or _is_of_others(env_id) else game_id(found[1])
    if found is None or game is None or game != f"ALE/{found[1]}-v5":
        return None
    ram = found[2] or ""
    kwargs = ' and env_kwargs = {"obs_type": "ram"}' if ram else ""
    fixed = f"{game.removeprefix('ALE/').removesuffix('-v5')}{ram}NoFrameskip-v4"
    return (
        f"{env_id} skips 2 to 5 frames at random and gives raw screens or RAM; use "
        f"{game!r}{kwargs} (frame skip 4, sticky actions 0.25), or {fixed!r} for no sticky ones."
    )


def game_id(name: str) -> str | None:
    """The id of the game that somebody means by ``Pong``, ``pong-v5`` or ``ms_pacman``."""
    try:
        import ale_py  # noqa: F401  (registers its games)
    except ImportError:
        return None
    from gymnasium.envs.registration import registry

    def plain(text: str) -> str:
        return text.rpartition("/")[2].partition("-")[0].replace("_", "").lower()

    games = (known for known in registry if known.startswith("ALE/") and known.endswith("-v5"))
    return next((game for game in games if plain(game) == plain(name)), None)


def _is_of_others(env_id: str) -> bool:
    """Whether somebody else has registered the id, or one of that name."""
    from gymnasium.envs.registration import registry  # here, for --help to need no gymnasium

    def named(known: str) -> bool:
        return known == env_id or known.rpartition("-v")[0] == env_id

    specs = [spec for known, spec in registry.items() if named(known)]
    return any(not str(spec.entry_point).startswith("ale_py") for spec in specs)
