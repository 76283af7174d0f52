"""The result of an evaluation, as ``train`` and ``eval`` say it."""

from __future__ import annotations


def score(
    mean: float, std: float, episodes: int, unfinished: int, given_up: str, epsilon: float
) -> str:
    """The result of an evaluation in words: mean, spread, number and kind of episodes."""
    kind = f"{episodes} greedy episodes" if epsilon == 0.0 else f"{episodes} episodes"
    tail = "" if epsilon == 0.0 else f" at epsilon {epsilon:g}"
    why = f": {given_up}" if given_up else ""
    cut = f" ({unfinished} of them cut short{why})" if unfinished else ""
    return f"{mean:.1f} +- {std:.1f} over {kind}{tail}{cut}"


def verdict(score: str, threshold: float | None, solved: bool | None) -> str:
    """A score beside the return that counts as solved, where the env names one."""
    if threshold is None:
        return f"return: {score}"
    return f"{'solved' if solved else 'not solved'}: {score}, threshold {threshold:g}"
