"""The Nature update in plain torch, eager, and compiled and captured as LeanRL does it."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmarks.gpu.session import Session
from benchmarks.peers.plain import update_alone


def measure(session: Session) -> None:
    """An entry for each peer, batch size and kind of float32 arithmetic."""
    for batch_size in (32, 256):
        for peer in ("plain", "lean"):
            if peer == "lean" and session.smoke and not session.on_cuda:
                continue  # minutes of code generation
            for tf32 in ("tf32", "fp32"):
                session.measure(
                    f"{peer}/B{batch_size}/{tf32}",
                    partial(_update, session, peer, batch_size, tf32 == "tf32"),
                )


def _update(session: Session, peer: str, batch_size: int, tf32: bool) -> dict[str, Any]:
    """On one batch that stays on the device: no drawing, no write-back."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    torch._dynamo.reset()  # what was compiled may have TF32 within it
    batch_size = session.context.small(batch_size, 2)
    update = update_alone(batch_size, lean=peer == "lean", device=session.device.type)
    for _ in range(4):  # the captured one warms up in its first calls
        update()
    return {**session.time(update), "kernels": session.kernels(update)}
