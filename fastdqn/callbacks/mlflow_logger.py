"""MLflow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastdqn.callbacks.logger import Logger

_MOST_PARAMS = 100  # in one call
_LONGEST_VALUE = 6_000  # characters of a parameter


class MLflowLogger(Logger):
    """One MLflow run for each run, gone on with where that is resumed.

    The package's own variables decide on the rest: ``MLFLOW_TRACKING_URI`` (else
    ``mlflow.db`` in the working directory) and ``MLFLOW_EXPERIMENT_NAME`` (else ``fastdqn``).
    """

    _client: Any = None
    _id: str | None = None
    _sending: Any = None  # the figures that are on their way

    def open(self, config: dict[str, Any]) -> None:
        """Begin, or go on; a client of its own leaves the process's active run alone."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient()
        self._id = self._gone_on_with()
        if self._id is not None:
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "fastdqn")
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = (
            self._client.create_experiment(name) if experiment is None else experiment.experiment_id
        )
        created = self._client.create_run(experiment_id, run_name=self.run.run_dir.name)
        self._id = created.info.run_id
        self.remember(self._id)
        params = [Param(name, str(value)[:_LONGEST_VALUE]) for name, value in config.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._id, params=params[first : first + _MOST_PARAMS])

    def log(self, figures: Mapping[str, float], env_steps: int) -> None:
        """Take figures."""
        from mlflow.entities import Metric

        now = int(time.time() * 1_000)
        metrics = [Metric(name, x, now, env_steps) for name, x in figures.items()]
        self._wait()
        self._sending = self._client.log_batch(self._id, metrics=metrics, synchronous=False)

    def film(self, path: Path, env_steps: int) -> None:
        """Keep a film among the artifacts."""
        self._client.log_artifact(self._id, str(path), "films")

    def end(self, summary: Mapping[str, Any]) -> None:
        """Keep what the run came to."""
        super().end(summary)
        for name in ("summary.json", "returns.png"):
            if (self.run.run_dir / name).exists():
                self._client.log_artifact(self._id, str(self.run.run_dir / name))

    def close(self) -> None:
        """Say how it ended."""
        if self._client is not None and self._id is not None:
            try:
                self._wait()
            finally:
                self._client.set_terminated(self._id, "FINISHED" if self.ended else "FAILED")

    def _gone_on_with(self) -> str | None:
        """The run of before, if the store has it: a moved directory may come to another store."""
        from mlflow.exceptions import MlflowException

        before = self.remembered()
        if before is None:
            return None
        try:
            self._client.update_run(before, status="RUNNING")
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return before

    def _wait(self) -> None:
        """Until the last figures are there; raises what sending them did."""
        sending, self._sending = self._sending, None
        if sending is not None:
            sending.wait()
