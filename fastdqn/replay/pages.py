"""Memory that is drawn from at random for a whole run: its pages are there, and they are large."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fastdqn.system.host import advise_huge_pages


def resident_zeros(
    shape: Sequence[int], *, dtype: torch.dtype = torch.float32, device: torch.device
) -> Tensor:
    """Zeros that are written at once: a page that is only promised may be refused later.

    On a CPU in pages of 2 MB where the kernel grants them. With pages of 4 kB a row drawn at random
    first waits for where its page lies, and no processor remembers that of 100,000 pages.
    """
    tensor = torch.empty(tuple(shape), dtype=dtype, device=device)
    if tensor.device.type == "cpu":
        advise_huge_pages(tensor.data_ptr(), tensor.nbytes)
    return tensor.zero_()
