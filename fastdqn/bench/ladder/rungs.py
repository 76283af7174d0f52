"""The rungs: what each is made of, and what it was predicted to give. Needs no torch.

A prediction is a range of microseconds per update of the Nature network with double Q-learning and
prioritized replay on an H100 or H200, made by counting kernels, FLOP and bytes before anything was
run. The result is written beside it, and a miss either way wants an explanation. 2b was thought of
later: it should save 75 launches, 150 to 260 us.

Three of them were made for more than the rung has. 3 was to be the step from one tensor per layer
to a flat buffer: the learner's is flat from 0 on. 6 was to be one forward over s, s' and s' with
the weights chosen by row: here it is one over s and s' beside the target's. 7 was to have a first
convolution that reads bytes: here a kernel gathers the bytes into that convolution's input.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BATCHES, LAUNCHES = (32, 256), (1, 4, 16)


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One step of the ladder."""

    name: str
    line: str
    before: str = ""
    """The rung it is built on and compared with."""
    mode: str = "graph"
    parts: tuple[str, ...] = ()
    """What it has that the plain learner has not."""
    predicted_us: dict[int, tuple[float, float]] = field(default_factory=dict)
    """By batch size."""


RUNGS = {
    rung.name: rung
    for rung in (
        Rung(
            name="0_eager",
            line="the learner, eager",
            mode="eager",
            predicted_us={32: (1500, 2500), 256: (1600, 2600)},
        ),
        Rung(
            name="1_compile",
            line="0 with its gradients compiled",
            before="0_eager",
            mode="compile",
            predicted_us={32: (700, 1000), 256: (750, 1000)},
        ),
        Rung(
            name="2_graph",
            line="1 captured: the learner as it trains on CUDA",
            before="1_compile",
            predicted_us={32: (190, 230), 256: (300, 380)},
        ),
        Rung(
            name="2b_draw",
            line="2 with the draw of a batch compiled, too",
            before="2_graph",
            parts=("draw",),
        ),
        Rung(
            name="3_flatadam",
            line="2 with a Triton Adam that also writes the bfloat16 copy of the weights",
            before="2_graph",
            parts=("adam",),
            predicted_us={32: (170, 200), 256: (280, 350)},
        ),
        Rung(
            name="4_s2d",
            line="2 with space-to-depth convolutions",
            before="2_graph",
            parts=("s2d",),
            predicted_us={32: (160, 185), 256: (250, 300)},
        ),
        Rung(
            name="5_streams",
            line="4 with its three forwards on streams of their own",
            before="4_s2d",
            parts=("s2d", "streams"),
            predicted_us={32: (120, 140), 256: (220, 270)},
        ),
        Rung(
            name="6_2B",
            line="5 with one online forward over s and s', beside the target's",
            before="5_streams",
            parts=("s2d", "one_forward"),
            predicted_us={32: (90, 110), 256: (180, 220)},
        ),
        Rung(
            name="7_fused",
            line="6 and 3, with draw, gather (into space-to-depth) and write-back in Triton",
            before="6_2B",
            parts=("s2d", "one_forward", "replay", "adam"),
            predicted_us={32: (60, 80), 256: (110, 140)},
        ),
    )
}
