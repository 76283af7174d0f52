"""What runs came to: a score for each, and what the runs of a group and of several games say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastdqn.runs.atari_scores import human_normalised
from fastdqn.runs.groups import Group
from fastdqn.runs.reader import Run
from fastdqn.runs.statistics import Estimate, estimate, interquartile_mean, mean, median

FINAL, NEWEST, TRAINING = "final evaluation", "newest evaluation", "training returns"


@dataclass(frozen=True)
class Score:
    """A mean return of one run."""

    value: float
    env_steps: float  # at which the policy that earned it was
    kind: str  # FINAL, NEWEST or TRAINING


@dataclass(frozen=True)
class GroupScore:
    """The scores of the runs of a group, and what they say together."""

    group: Group
    scores: tuple[Score, ...]  # of the runs that have one, all evaluated, or all in training
    iqm: Estimate
    median: Estimate
    mean: Estimate

    def normalised(self) -> list[float] | None:
        """The human-normalised scores of the runs; None where the env has none."""
        values = [human_normalised(self.group.env_name, score.value) for score in self.scores]
        return None if None in values else [value for value in values if value is not None]


@dataclass(frozen=True)
class Together:
    """What one configuration scores on several Atari games, human-normalised."""

    groups: tuple[Group, ...]
    iqm: Estimate
    median: Estimate
    mean: Estimate


def evaluation_score(run: Run) -> Score | None:
    """The mean return of a run's newest evaluation."""
    if not run.evaluations:
        return None
    newest = run.evaluations[-1]
    trained_on = run.curve("env_steps")[0]
    at_end = newest.final and newest.env_steps >= max(trained_on, default=0)
    return Score(newest.mean, newest.env_steps, FINAL if at_end else NEWEST)


def training_score(run: Run) -> Score | None:
    """The mean return of a run's last episodes of training, with what exploration costs."""
    env_steps, returns = run.curve("return_mean")
    return Score(returns[-1], env_steps[-1], TRAINING) if returns else None


def group_score(group: Group) -> GroupScore | None:
    """The scores of a group: of the runs that were evaluated, or else those of training.

    Returns:
        None where no run has finished an episode.
    """
    for score_of in (evaluation_score, training_score):
        scores = [score for score in map(score_of, group.runs) if score is not None]
        if scores:
            games = [[score.value for score in scores]]
            return GroupScore(group, tuple(scores), *_estimates(games))
    return None


def together(scores: Sequence[GroupScore]) -> list[Together]:
    """For each configuration that played two Atari games or more, what it scores on them.

    Evaluations and training returns are not mixed.
    """
    found: dict[tuple[str, bool], list[tuple[Group, list[float]]]] = {}
    for score in scores:
        normalised = score.normalised()
        if normalised is not None:
            key = score.group.settings, score.scores[0].kind == TRAINING
            found.setdefault(key, []).append((score.group, normalised))
    return [
        Together(tuple(group for group, _ in games), *_estimates([values for _, values in games]))
        for games in found.values()
        if len(games) > 1
    ]


def _estimates(games: Sequence[Sequence[float]]) -> tuple[Estimate, Estimate, Estimate]:
    statistics = (interquartile_mean, median, mean)
    iqm, middle, average = (estimate(games, statistic) for statistic in statistics)
    return iqm, middle, average
