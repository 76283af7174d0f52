"""What has to be said beside a score: the rules of the env, of training and of evaluation."""

from __future__ import annotations

import math

from fastdqn.config.config import Config
from fastdqn.runs.groups import Group

_STICKY = {"machado": 0.25, "classic": 0.0}
_HEADS = {"scalar": "DQN", "c51": "C51", "qr": "QR-DQN", "iqn": "IQN"}


def algorithm(config: Config) -> str:
    """The algorithm of a configuration in the literature's words, such as ``DQN, double``."""
    name = _HEADS[config.head]
    parts = [f"Munchausen {name}" if config.munchausen else name]
    parts += ["double"] if config.double else []
    parts += ["dueling"] if config.dueling else []
    parts += ["prioritized replay"] if config.prioritized else []
    parts += [f"{config.n_step}-step returns"] if config.n_step > 1 else []
    parts += ["noisy layers"] if config.noisy else []
    return ", ".join(parts)


def protocol(group: Group, actions: str | None) -> dict[str, str]:
    """By name, the facts of a group that its scores depend on.

    Args:
        group: Of one configuration.
        actions: The action space as its runs have recorded it.
    """
    c = group.runs[0].config
    is_atari = group.env_name.startswith("ALE/")
    facts = {"Algorithm": algorithm(c), "Training": f"{c.total_env_steps:,} env steps"}
    if is_atari:
        frames = c.total_env_steps * c.atari_frame_skip
        facts["Training"] += f" = {frames:,} frames"
        facts |= _atari(c)
    facts["Action set"] = _actions(c, is_atari, actions)
    facts["Envs side by side"] = f"{c.num_envs:,}"
    clip = c.reward_clip
    facts["Rewards in learning"] = "as they are" if clip is None else f"clipped to ±{clip:g}"
    facts["Exploration in training"] = _exploration(c)
    return facts | _evaluation(group)


def _atari(c: Config) -> dict[str, str]:
    sticky = c.atari_sticky_actions
    sticky = _STICKY[c.atari_protocol] if sticky is None else sticky
    classic = c.atari_protocol == "classic"
    frames = f"{c.atari_frame_size} x {c.atari_frame_size}, grey"
    if c.env_kwargs.get("obs_type") == "ram":
        frames = "the 128 bytes of RAM"
    special = {k: v for k, v in c.env_kwargs.items() if k != "obs_type"}
    facts = {
        "Protocol": f"{c.atari_protocol} ({'Mnih 2015' if classic else 'Machado 2018'})",
        "Sticky actions": f"{sticky:g} per frame" if sticky else "none",
        "Lives": "a lost life is terminal in learning; scores are of whole games"
        if classic
        else "episodes end at game over",
        "FIRE after a reset": "pressed" if classic else "left to the agent",
        "Frame skip": f"{c.atari_frame_skip}",
        "Observations": frames + (f", stacks of {c.frame_stack}" if c.frame_stack else ""),
        "No-ops after a reset": f"fewer than {c.atari_noop_max}" if c.atari_noop_max else "none",
        "Longest episode": f"{c.atari_max_episode_frames:,} frames",
    }
    if special:
        facts["Game options"] = ", ".join(f"{name} {value}" for name, value in special.items())
    return facts


def _actions(c: Config, is_atari: bool, actions: str | None) -> str:
    kind = ""
    if is_atari:
        kind = "full" if c.atari_full_action_space else "the game's own"
    said = "" if actions is None else actions
    return f"{kind}, {said}" if kind and said else kind or said or "not recorded"


def _exploration(c: Config) -> str:
    if c.epsilon_start == c.epsilon_end:
        epsilon = f"epsilon {c.epsilon_start:g}"
    else:
        epsilon = (
            f"epsilon {c.epsilon_start:g} to {c.epsilon_end:g} over "
            f"{c.epsilon_duration_env_steps:,} env steps"
        )
    return f"noisy layers, {epsilon}" if c.noisy else epsilon


def _evaluation(group: Group) -> dict[str, str]:
    rows = [row for run in group.runs for row in run.evaluations]
    if not rows:
        return {"Evaluation": "none; scores are of training episodes"}
    epsilons = sorted({run.config.eval_epsilon for run in group.runs})
    facts = {"Evaluation epsilon": ", ".join(f"{value:g}" for value in epsilons)}
    for name, final in (("Episodes of the final evaluation", True), ("Evaluations before", False)):
        counts = sorted({row.episodes for row in rows if row.final == final})
        known = [f"{count:,.0f}" for count in counts if math.isfinite(count)]
        if not counts:
            facts[name] = "none"
        elif final:
            facts[name] = " or ".join(known) or "not recorded"
        else:
            most = max(sum(not row.final for row in run.evaluations) for run in group.runs)
            facts[name] = (
                f"{most:,} a run, {' or '.join(known) or 'unknown numbers of'} episodes each"
            )
    facts["Evaluated policy"] = "as it is at that moment: no best-of, no averaging"
    cut = sum(row.unfinished for row in rows if math.isfinite(row.unfinished))
    if cut:
        facts["Episodes cut short"] = f"{cut:,.0f} in all evaluations"
    return facts
