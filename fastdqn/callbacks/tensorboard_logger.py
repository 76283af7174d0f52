"""TensorBoard: event files in the run's directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.logger import Logger
from fastdqn.recording.convert import gif_of


class TensorBoardLogger(Logger):
    """Writes ``RUN/tensorboard``, for ``tensorboard --logdir runs``."""

    _writer: Any = None

    def open(self, config: dict[str, Any]) -> None:
        """Begin the event file; the configuration is its text."""
        from torch.utils.tensorboard import SummaryWriter

        self._config = config
        # What was logged behind the checkpoint that a run goes on from is not shown.
        purge = self.run.env_steps + 1 if self.run.env_steps else None
        self._writer = SummaryWriter(self.run.run_dir / "tensorboard", purge_step=purge)
        table = "\n".join(f"|{name}|{value}|" for name, value in config.items())
        self._writer.add_text("config", f"|field|value|\n|-|-|\n{table}")

    def log(self, figures: Mapping[str, float], env_steps: int) -> None:
        """Take figures."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, env_steps)

    def film(self, path: Path, env_steps: int) -> None:
        """Show it among the images, which are all that moves there."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=gif_of(path), colorspace=3)
        summary = Summary(value=[Summary.Value(tag="film", image=image)])
        self._writer.file_writer.add_summary(summary, env_steps)

    def end(self, summary: Mapping[str, Any]) -> None:
        """Put the run into the table of hyper-parameters."""
        from torch.utils.tensorboard.summary import hparams

        super().end(summary)
        plain = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in self._config.items()
        }
        score = summary.get("eval_return_mean")
        scores = {} if score is None else {"final/return_mean": score}
        for part in hparams(plain, scores):
            self._writer.file_writer.add_summary(part)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
