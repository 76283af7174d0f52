"""The stages by name, in the order of what they are worth. Needs no torch."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.gpu.session import Session


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One process: the function ``measure`` of a module of this package."""

    name: str
    limit_s: float
    line: str
    module: str
    params: Mapping[str, Any] = field(default_factory=dict)

    def run(self, session: Session) -> None:
        """Measure, in the process of the stage."""
        module = importlib.import_module(f"benchmarks.gpu.stages.{self.module}")
        module.measure(session, **self.params)


STAGES = {
    stage.name: stage
    for stage in (
        Stage(
            name="probe",
            limit_s=45,
            line="the machine: launches, transfers, Pong on its processors",
            module="probe",
        ),
        Stage(
            name="tests",
            limit_s=170,
            line="the tests that need a GPU",
            module="gpu_tests",
        ),
        Stage(
            name="ladder32",
            limit_s=110,
            line="whole updates of 32, rung by rung",
            module="ladder",
            params={"batch_size": 32},
        ),
        Stage(
            name="parts",
            limit_s=75,
            line="acting, storing, drawing, writing back, each alone",
            module="parts",
        ),
        Stage(
            name="e2e",
            limit_s=110,
            line="the training loop at full speed",
            module="end_to_end",
        ),
        Stage(
            name="learn",
            limit_s=150,
            line="a learning curve on Pong",
            module="learn",
        ),
        Stage(
            name="peers",
            limit_s=50,
            line="the update in plain torch, and compiled and captured as LeanRL does it",
            module="peers",
        ),
        Stage(
            name="ladder256",
            limit_s=70,
            line="whole updates of 256, the rungs that decide",
            module="ladder",
            params={"batch_size": 256},
        ),
    )
}
