"""``fastdqn presets``: the recipes, and what each comes to."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from fastdqn.cli.arguments import parse
from fastdqn.config.presets import advise_presets, describe_presets, presets


@dataclass(frozen=True, kw_only=True)
class _NoFlags:
    """No options."""


def run(args: list[str]) -> int:
    """List the recipes; ``fastdqn presets``."""
    parse(
        _NoFlags,
        args,
        prog="fastdqn presets",
        description="List the recipes.",
        example="fastdqn presets",
    )
    lines, advice = describe_presets(), advise_presets()
    for name, config in presets().items():
        print(f"{name}\n    {lines[name]}")
        print(textwrap.fill(advice[name], 96, initial_indent="    ", subsequent_indent="    "))
        print(
            f"    {config.env_id}, {config.num_envs} envs, {config.total_env_steps:,} env steps, "
            f"replay {config.replay_capacity:,}, replay ratio {config.replay_ratio:g}"
        )
    print("\nrun one: fastdqn train PRESET   its fields: fastdqn train PRESET --help-all")
    return 0
