"""The loggers that a configuration names."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fastdqn.errors import ConfigError

if TYPE_CHECKING:
    from fastdqn.callbacks.guarded import Guarded

# By name: the package it needs, the extra that brings it, where it is.
_LOGGERS = {
    "tensorboard": ("tensorboard", "tb", "tensorboard_logger.TensorBoardLogger"),
    "wandb": ("wandb", "wandb", "wandb_logger.WandbLogger"),
    "mlflow": ("mlflow", "mlflow", "mlflow_logger.MLflowLogger"),
    "trackio": ("trackio", "trackio", "trackio_logger.TrackioLogger"),
}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse, by a ConfigError, a logger whose package is not installed; imports none."""
    for name in names:
        package, extra, _ = _LOGGERS[name]
        if find_spec(package) is None:
            with_it = f"'fastdqn[{extra}]'"
            raise ConfigError(
                f"logger = {name} needs the package {package}, which is not installed; pip install "
                f"{with_it}, or leave it out."
            )


def make_loggers(names: Sequence[str]) -> list[Guarded]:
    """A logger for each name.

    Raises:
        ConfigError: Where the package of one is not installed.
    """
    from fastdqn.callbacks.guarded import Guarded  # needs torch; check_loggers does not

    check_loggers(names)
    made = []
    for name in names:
        module, _, kind = _LOGGERS[name][2].partition(".")
        made.append(Guarded(getattr(importlib.import_module(f"{__package__}.{module}"), kind)()))
    return made
