"""Adam on the flat buffer that also writes the bfloat16 copy of the parameters.

torch's fused kernel has 65,536 numbers per block, 26 blocks for the Nature network on an H100's 132
multiprocessors, and the copy is another launch that reads all parameters again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastdqn.learning.optimizers import Adam

_BLOCK = 1024


class FlatAdam(Adam):
    """``fastdqn.learning.optimizers.Adam`` by a kernel; on a CPU as torch does it, then the copy.

    Args:
        parameter: float32, flat; changed in place.
        learning_rate: Step size.
        epsilon: Added to the root of the second moment.
        lowered: bfloat16, like ``parameter``: the copy, if there is one.
        kernels: Whether the kernel runs; None: on CUDA. On a CPU it needs Triton's interpreter.
    """

    lowers = True

    def __init__(
        self,
        parameter: Tensor,
        learning_rate: float,
        epsilon: float,
        *,
        lowered: Tensor | None = None,
        kernels: bool | None = None,
    ) -> None:
        super().__init__(parameter, learning_rate, epsilon)
        self.lowered = lowered
        self.kernels = parameter.is_cuda if kernels is None else kernels
        if self.kernels and not isinstance(self.learning_rate, Tensor):
            self.learning_rate = torch.tensor(learning_rate, device=parameter.device)

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """One step; ``gradient`` as ``parameter``."""
        if not self.kernels:
            super().step(gradient)
            if self.lowered is not None:
                self.lowered.copy_(self.parameter)
            return
        from benchmarks.gpu.ladder.flat_adam_kernels import adam

        m, count = self.moments, self.parameter.numel()
        m["step"].add_(1)
        adam[(-(-count // _BLOCK),)](
            self.parameter, gradient, m["exp_avg"], m["exp_avg_sq"],
            self.parameter if self.lowered is None else self.lowered,
            m["step"], self.learning_rate, self.epsilon, count,
            LOWERS=self.lowered is not None, BLOCK=_BLOCK,
        )  # fmt: skip
