"""Whether a forward is being written down for another program: torch.export, traces, ONNX."""

from __future__ import annotations

import torch


def is_exporting() -> bool:
    """Whether torch.export, a trace or an ONNX exporter is looking on.

    They know torch's own operators only, and take a choice made by the batch's size for a limit
    to it. torch.compile is none of them.
    """
    return torch.compiler.is_exporting() or torch.jit.is_tracing()
