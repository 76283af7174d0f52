"""A dispatch mode that finds what a CUDA graph forbids, without a GPU."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten


FORBIDDEN = {
    aten._local_scalar_dense: "reads a value on the host",
    aten.equal: "compares on the host",
    aten.is_nonzero: "decides on the host",
    aten.nonzero: "has a shape that depends on data",
    aten.nonzero_static: "has a shape that depends on data",
    aten.masked_select: "has a shape that depends on data",
    aten.repeat_interleave: "has a shape that depends on data",
    aten.bincount: "has a shape that depends on data",
    aten.unique_consecutive: "has a shape that depends on data",
    aten._unique2: "has a shape that depends on data",
    aten.unique_dim: "has a shape that depends on data",
    aten.lift_fresh: "is made from host data",
    aten.lift_fresh_copy: "is made from host data",
}


class CaptureLaws(TorchDispatchMode):
    """Collects every broken law."""

    def __init__(self):
        super().__init__()
        self.broken, self.operators = [], 0

    def __enter__(self):
        # These read the memory without passing through any operator.
        self.patches = pytest.MonkeyPatch()
        for name in ("tolist", "numpy"):
            honest = getattr(torch.Tensor, name)

            def watched(tensor, *args, _name=name, _honest=honest, **kwargs):
                self.broken.append(f"Tensor.{_name} reads values on the host")
                return _honest(tensor, *args, **kwargs)

            self.patches.setattr(torch.Tensor, name, watched)
        return super().__enter__()

    def __exit__(self, *error):
        self.patches.undo()
        return super().__exit__(*error)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operators += 1
        packet = function.overloadpacket
        if packet in FORBIDDEN:
            self.broken.append(f"{packet} {FORBIDDEN[packet]}")
        if packet in (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_):
            for index in args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    self.broken.append(f"{packet} by a mask has a shape that depends on data")
        return function(*args, **(kwargs or {}))
