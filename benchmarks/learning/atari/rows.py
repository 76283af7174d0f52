"""What runs, and what it is held against: one row is a preset, a game, a protocol and a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from fastdqn import Config, presets


@dataclass(frozen=True, kw_only=True)
class Published:
    """A mean of several seeds, as its source has it."""

    value: float
    sd: float | None = None
    """Standard deviation over its seeds."""
    frames: tuple[int, int] | None = None
    """The training episodes it is the mean of ended between these; None: evaluation at the end."""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A configuration, without seed and directory, and the number that its runs shall reach."""

    title: str
    preset: str
    game: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    """The first is what the bar is about; the others are stated beside it."""
    bar: float | None = None
    """What a run reaches at least to pass; None: its number is stated."""
    panel: str
    """Of the picture; rows of one panel are drawn together."""
    seeds: tuple[int, ...] = (1, 2, 3)

    @property
    def env_id(self) -> str:
        """Of ALE."""
        return f"ALE/{self.game}-v5"

    @property
    def config(self) -> Config:
        """What runs."""
        return presets()[self.preset].replace(env_id=self.env_id, **self.changes)

    @property
    def window(self) -> tuple[int, int] | None:
        """Frames whose training episodes count; None: those of the final evaluation."""
        return self.published[0].frames if self.published else None


# The loop's own figures: the window of the returns takes in all episodes of a run, so that what
# ended between two rows of metrics.csv can be told; one thread, for two runs side by side.
_RUN = {
    "stop_window": 100_000,
    "log_period_env_steps": 5_000,
    "precision": "auto",
    "torch_threads": 1,
    "env_threads": 1,
    "checkpoint_period_env_steps": None,
}

# Dopamine's protocol (Castro 2018, arXiv 1812.06110), but for 8 envs where it has one, and for
# convolutions that are not padded, which takes 1.7 times as long and is a row of its own: sticky
# actions, no no-ops, a target of 2,000 updates, epsilon 1 -> .01 over 250,000 env steps after
# 20,000. A replay of 1M is not full before 4M frames.
DOPAMINE = _RUN | {
    "num_envs": 8,
    "atari_noop_max": 0,
    "target_period_updates": 2_000,
    "learning_starts_env_steps": 20_000,
    "epsilon_duration_env_steps": 250_000,
    "total_env_steps": 500_000,
    "replay_capacity": 500_000,
    "eval_episodes": 0,
}
# Its priorities are square roots of losses.
DOPAMINE_PER = {"prioritized": True, "priority_alpha": 0.5, "n_step": 3}

DOPAMINE_DQN = DOPAMINE | {"loss": "mse"}
DOPAMINE_QR = DOPAMINE | DOPAMINE_PER | {"priority_beta_start": 0.0, "priority_beta_end": 0.0}
DOPAMINE_RAINBOW = (
    DOPAMINE
    | DOPAMINE_PER
    | {
        "priority_beta_start": 0.5,
        "priority_beta_end": 0.5,
        "learning_rate": 6.25e-5,
        "optimizer_epsilon": 1.5e-4,
    }
)
ATARI_100K = _RUN | {"log_period_env_steps": 1_000}


def _dopamine(game: str, agent: str, *millions: tuple[float, float]) -> Any:
    """Mean and sd of frames 0-1M, 1M-2M and so on; the bar is about the last."""
    source = f"google/dopamine 5873f54, baselines/atari/data/{game.lower()}_CNN.json, {agent}"
    published = [
        Published(value=mean, sd=sd, frames=(k * 1_000_000, (k + 1) * 1_000_000), source=source)
        for k, (mean, sd) in enumerate(millions)
    ]
    mean, sd = millions[-1]
    return {
        "panel": f"{game}, {agent}, {len(millions)}M frames",
        "game": game,
        "published": tuple(reversed(published)),
        "bar": mean - 2 * sd,
    }


def _der(game: str, value: float, bar: float | None = None) -> Row:
    source = "van Hasselt 2019 (arXiv 1906.05243), mean of 5 seeds after 100,000 env steps"
    return Row(
        title="data-efficient Rainbow",
        preset="data-efficient-atari",
        game=game,
        changes=ATARI_100K,
        published=(Published(value=value, source=source),),
        bar=bar,
        panel=f"{game}, data-efficient Rainbow, 100,000 env steps",
    )


PONG_PUBLISHED = (
    Published(value=20.25, sd=0.41, source="CleanRL's dqn_atari at 10M env steps, none sticky"),
    Published(
        value=15.4,
        sd=1.5,
        frames=(9_000_000, 10_000_000),
        source="google/dopamine 5873f54, baselines/atari/data/pong_CNN.json, QR-DQN",
    ),
)

_PONG = Row(
    title="preset `pong`",
    preset="pong",
    game="Pong",
    changes=_RUN,
    panel="Pong, preset pong",
    published=PONG_PUBLISHED,
    bar=18.0,
    seeds=(6, 7, 8),  # the preset was chosen on others
)
_BREAKOUT = Row(
    title="DQN",
    preset="dqn-atari",
    changes=DOPAMINE_DQN,
    seeds=(1, 2),
    **_dopamine("Breakout", "DQN", (1.8, 0.1), (7.1, 0.8)),
)
_QR_PONG = Row(
    title="QR-DQN",
    preset="qr-atari",
    changes=DOPAMINE_QR,
    seeds=(1, 2),
    **_dopamine("Pong", "QR-DQN", (-19.8, 0.2), (-14.7, 0.9)),
)
_DER_ROADRUNNER = _der("RoadRunner", 9600.0, 0.75 * 9600.0)

ROWS: Mapping[str, Row] = MappingProxyType(
    {
        "pong": _PONG,
        "pong-classic": replace(
            _PONG,
            title="preset `pong`, classic protocol",
            changes=_RUN | {"atari_protocol": "classic"},
            seeds=(6,),
        ),
        "dqn-breakout": _BREAKOUT,
        "dqn-breakout-padded": replace(
            _BREAKOUT,
            title="DQN, padded convolutions",
            changes=DOPAMINE_DQN | {"padding": "same"},
            seeds=(1,),
        ),
        "dqn-breakout-3m": replace(
            _BREAKOUT,
            changes=DOPAMINE_DQN | {"total_env_steps": 750_000, "replay_capacity": 750_000},
            seeds=(1, 3),
            **_dopamine("Breakout", "DQN", (1.8, 0.1), (7.1, 0.8), (14.2, 0.4)),
        ),
        "qr-pong": _QR_PONG,
        "qr-boxing": replace(_QR_PONG, **_dopamine("Boxing", "QR-DQN", (0.6, 1.3), (13.3, 1.4))),
        "rainbow-krull": Row(
            title="Rainbow (C51, 3-step, prioritized)",
            preset="c51-atari",
            changes=DOPAMINE_RAINBOW,
            seeds=(1,),
            **_dopamine("Krull", "Rainbow", (3121, 53), (5734, 432)),
        ),
        "der-roadrunner": _DER_ROADRUNNER,
        "der-roadrunner-torch": replace(
            _DER_ROADRUNNER,
            title="data-efficient Rainbow, torch's weights",
            changes=ATARI_100K | {"init": "torch"},
            seeds=(1,),
        ),
        "der-krull": _der("Krull", 2851.5, 0.75 * 2851.5),
        "der-freeway": _der("Freeway", 27.9),
        "der-pong": _der("Pong", -19.3),
    }
)
