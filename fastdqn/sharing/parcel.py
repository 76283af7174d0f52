"""What a hub gets of a run: its files, one checkpoint of the policy alone, and a card."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path

from fastdqn.checkpoints.names import find_checkpoint, read_spec
from fastdqn.config.config import Config
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.runs.lock import refuse_locked
from fastdqn.runs.reader import Evaluation, check_run, read_figures
from fastdqn.sharing.model_card import Card, write_card
from fastdqn.sharing.portable import portable, without_home

_TEXTS = ("run.json", "summary.json", "metrics.csv", "evaluations.csv")
_PICTURE = "returns.png"
FILM = "replay"
"""What the Hub shows beside a card, with the suffix of a film."""

_FILM_SUFFIXES = (".mp4", ".gif", ".webm")


@dataclass(frozen=True)
class Contents:
    """What is to be sent of a run; everything is there."""

    run: Path
    config: Config
    checkpoint: Path
    film: Path | None
    evaluation: Evaluation | None  # of the checkpoint's very weights

    @property
    def env_steps(self) -> int:
        """Of the checkpoint."""
        return int(self.checkpoint.name[5:17])


def contents_of(
    run: Path, *, checkpoint: int | str | None = None, film: str | None = None
) -> Contents:
    """What a run has to send. Needs no torch.

    Args:
        run: Run directory.
        checkpoint: Which of its checkpoints; see :func:`fastdqn.load`.
        film: A file; None: the newest in ``RUN/films``, if there is one.

    Raises:
        CheckpointError: Where there is no run, no such checkpoint, or a file cannot be read.
        ConfigError: Where the run is still going on, or the film is none.
    """
    check_run(run)
    try:
        refuse_locked(run, 0.0)
    except ConfigError:
        raise ConfigError(f"{run} is still being trained; let that run end or stop it.") from None
    config = Config.load(run / "config.json")
    found = find_checkpoint(run, checkpoint)
    _, evaluations = read_figures(run)
    steps = int(found.name[5:17])
    scored = [e for e in evaluations if e.env_steps == steps and math.isfinite(e.std)]
    return Contents(run, config, found, _film(run, film), scored[-1] if scored else None)


def _film(run: Path, named: str | None) -> Path | None:
    if named is None:
        films = [path for path in (run / "films").glob("*") if path.suffix in _FILM_SUFFIXES]
        return max(films, key=lambda path: path.stat().st_mtime_ns, default=None)
    path = Path(named)
    if not path.is_file() or path.suffix.lower() not in _FILM_SUFFIXES:
        what = "is no film" if path.is_file() else "does not exist"
        raise ConfigError(
            f"film = {named!r} {what}; name a file that ends in {', '.join(_FILM_SUFFIXES)}."
        )
    return path


def pack(contents: Contents, into: Path, *, repo: str) -> list[Path]:
    """Write what is to be sent to a directory, which is empty; its files by name.

    Paths of this machine stay here: the directory of the run is left out, and the home directory
    is ``~``.

    Args:
        contents: What there is.
        into: The directory.
        repo: USER/NAME, for the card.

    Raises:
        CheckpointError: Where the checkpoint is damaged, or the disk refuses.
    """
    from fastdqn.sharing.policy_checkpoint import keep_policy

    run = contents.run
    try:
        _write_text(into / "config.json", portable(contents.config).to_json())
        for name in _TEXTS:
            if (run / name).is_file():
                _write_text(into / name, (run / name).read_text("utf-8", errors="replace"))
        films = [] if contents.film is None else [(contents.film, f"{FILM}{contents.film.suffix}")]
        for source, name in [(run / _PICTURE, _PICTURE), *films]:
            if source.is_file():
                shutil.copyfile(source, into / name)
        kept = keep_policy(contents.checkpoint, into / "checkpoints")
        card = Card(
            repo=repo,
            run=run,
            config=contents.config,
            spec=read_spec(kept),
            env_steps=contents.env_steps,
            evaluation=contents.evaluation,
            picture=_PICTURE if (into / _PICTURE).is_file() else None,
            film=films[0][1] if films else None,
        )
        _write_text(into / "README.md", write_card(card))
    except OSError as error:
        raise CheckpointError(
            f"{error.filename or run} cannot be read or copied ({error.strerror}); make it "
            f"readable, and make room."
        ) from None
    return sorted(path for path in into.rglob("*") if path.is_file())


def _write_text(path: Path, text: str) -> None:
    path.write_text(without_home(text), encoding="utf-8")
