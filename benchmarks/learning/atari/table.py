"""The rows of the result file as Markdown, and what several games say together."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.learning import jobs
from benchmarks.learning.atari.rows import ROWS, Row
from fastdqn.runs.atari_scores import human_normalised
from fastdqn.runs.statistics import interquartile_mean, interval

HUNDRED_K = "data-efficient-atari"  # the preset of the rows with several games


def table(runs: Sequence[jobs.Row]) -> str:
    """One line per row, and below it the scores over games."""
    lines = [
        "| agent | game | counted | published | here | env steps | updates | precision | minutes | "
        "bar met |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        own = [run for run in runs if run["task"] == name]
        if own:
            lines.append(_line(row, own))
    return "\n".join([*lines, "", *when_reached(runs), *over_games(runs)]).rstrip()


def _line(row: Row, own: Sequence[jobs.Row]) -> str:
    first = row.published[0]
    spread = "" if first.sd is None else f" ± {first.sd:g}"
    minutes = ", ".join(f"{run['wall_s'] / 60:.0f}" for run in own)
    precisions = ", ".join(dict.fromkeys(run["precision"] for run in own))
    judged = [run["met"] for run in own if run["met"] is not None]
    met = f"{sum(judged)} of {len(judged)}" if judged else "stated"
    return (
        f"| {row.title} | {row.game} | {counted(row)} | {first.value:g}{spread} | "
        f"{', '.join(number(run['value']) for run in own)} | {own[0]['env_steps']:,} | "
        f"{own[0]['updates']:,} | {precisions} | {minutes} | {met} |"
    )


def counted(row: Row) -> str:
    """Which episodes make the number."""
    if row.window is None:
        config = row.config
        return f"{config.eval_episodes} final episodes, epsilon {config.eval_epsilon:g}"
    first, last = (frames / 1e6 for frames in row.window)
    return f"training, frames {first:g}M-{last:g}M"


def number(value: float) -> str:
    """With as many digits as say something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}"


def when_reached(runs: Sequence[jobs.Row]) -> list[str]:
    """When the training returns of the rows of one game, evaluated at the end, came to their bar.

    A paragraph per row.
    """
    lines = []
    for name, row in ROWS.items():
        own = [run for run in runs if run["task"] == name and "reached_at" in run]
        if own and row.preset != HUNDRED_K:
            each = "; ".join(f"seed {run['seed']} {_when(run['reached_at'])}" for run in own)
            lines += [
                f"{row.title}: the mean of 20 training episodes came to {row.bar:g} first: {each}.",
                "",
            ]
    return lines


def _when(reached: dict[str, Any] | None) -> str:
    if reached is None:
        return "never"
    minutes = reached["wall_s"] / 60
    return f"after {reached['env_steps']:,} env steps and {minutes:.0f} minutes"


def over_games(runs: Sequence[jobs.Row]) -> list[str]:
    """Ratios to the published scores and human-normalised means of the games of 100,000 steps.

    Nothing of one game alone, whose scores stand in its row.
    """
    games: dict[str, tuple[str, Row]] = {}
    for name, row in ROWS.items():
        if row.preset == HUNDRED_K:
            games.setdefault(row.game, (name, row))  # what follows is the preset with a change
    scores: dict[str, list[float]] = {}
    ratios: list[float] = []
    published: list[float] = []
    for game, (name, row) in games.items():
        values = [run["value"] for run in runs if run["task"] == name]
        if not values:
            continue
        scores[game] = [human_normalised(row.env_id, value) for value in values]
        published.append(human_normalised(row.env_id, row.published[0].value))
        if row.bar is not None:
            ratios.append(fmean(values) / row.published[0].value)
    if len(scores) < 2:
        return []
    everything = [score for values in scores.values() for score in values]
    spread = ""  # of seeds: one alone has none
    if len(everything) > len(scores):
        low, high = interval(list(scores.values()), interquartile_mean)
        spread = f" (95 % interval {low:.3f} to {high:.3f})"
    lines = []
    if ratios:
        lines.append(
            "Data-efficient Rainbow, mean of the ratios to the published score, games with a bar: "
            f"{fmean(ratios):.2f}."
        )
    lines.append(
        f"Data-efficient Rainbow, human-normalised, {len(scores)} games, {len(everything)} runs: "
        f"interquartile mean {_iqm(everything):.3f}{spread}, "
        f"mean {fmean(fmean(values) for values in scores.values()):.3f}; published scores: "
        f"{_iqm(published):.3f} and {fmean(published):.3f}."
    )
    return lines


def _iqm(scores: Sequence[float]) -> float:
    return float(interquartile_mean([np.asarray(scores)]))


def record(runs: Sequence[jobs.Row]) -> dict[str, Any]:
    """What is published, for readers of the result file."""
    return {
        name: [{**vars(one), "frames": one.frames} for one in row.published]
        for name, row in ROWS.items()
        if any(run["task"] == name for run in runs)
    }
