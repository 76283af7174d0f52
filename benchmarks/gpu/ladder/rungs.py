"""The rungs: what each is made of. Needs no torch.

What each was predicted to give stands in :mod:`benchmarks.gpu.targets`.
"""

from __future__ import annotations

from dataclasses import dataclass

LAUNCHES = (1, 4, 16)
"""Updates per launch that each captured rung is measured with."""


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder."""

    name: str
    line: str
    before: str = ""
    """The rung it is built on and compared with."""
    mode: str = "graph"
    """Of the learner."""
    replay_mode: str = "auto"
    parts: tuple[str, ...] = ()
    """What it has that the plain learner has not."""


RUNGS = {
    rung.name: rung
    for rung in (
        Rung(
            name="0_eager",
            line="the learner, eager, and its replay",
            mode="eager",
            replay_mode="eager",
        ),
        Rung(
            name="1_compile",
            line="0 with its gradients compiled",
            before="0_eager",
            mode="compile",
            replay_mode="eager",
        ),
        Rung(
            name="2a_eager_replay",
            line="1 captured",
            before="1_compile",
            replay_mode="eager",
        ),
        Rung(
            name="2_graph",
            line="2a with the draw and the write-back compiled: the learner as it trains on CUDA",
            before="2a_eager_replay",
        ),
        Rung(
            name="3_flatadam",
            line="2 with a Triton Adam that also writes the bfloat16 copy of the weights",
            before="2_graph",
            parts=("adam",),
        ),
        Rung(
            name="4_s2d",
            line="2 with space-to-depth convolutions",
            before="2_graph",
            parts=("s2d",),
        ),
        Rung(
            name="5_streams",
            line="4 with its three forwards on streams of their own",
            before="4_s2d",
            parts=("s2d", "streams"),
        ),
        Rung(
            name="6_2B",
            line="5 with one online forward over s and s', beside the target's",
            before="5_streams",
            parts=("s2d", "one_forward"),
        ),
        Rung(
            name="7_fused",
            line="6 and 3, with draw, gather (into space-to-depth) and write-back in Triton",
            before="6_2B",
            parts=("s2d", "one_forward", "replay", "adam"),
        ),
    )
}
