"""What counts as one node of a captured graph: the one definition behind every number here.

- a Triton kernel that Inductor generated: 1;
- a library call: a convolution or a matrix product 1 (bias of a product included), a convolution's
  backward 1 for each gradient it computes of weight or input;
- an operator of ATen: 1, but for the exceptions below, and nothing for views and bare memory; a
  convolution's bias is one, and the gradient of that bias;
- a copy between host and device: 1.

What a library does inside a call (a change of layout, a second kernel of a split product) is not
known without running it and counts nothing, so true counts are these or somewhat more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from torch import Tensor
from torch.utils._pytree import tree_leaves

Kind = Literal["triton", "library", "aten", "copy"]


class Node(NamedTuple):
    """Something that the device would be asked to run."""

    kind: Kind
    name: str


_PRODUCTS = {"mm", "mv", "dot", "addmm", "_addmm_activation", "bmm", "baddbmm", "linear"}
_CONVOLUTIONS = {"convolution", "cudnn_convolution"}
_NOTHING = {
    # views
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "diagonal",
    "expand", "lift_fresh", "narrow", "permute", "reshape", "select", "slice", "split",
    "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view",
    "view_as",
    # memory that nobody has written to
    "empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided",
    # answers of the host
    "device", "dim", "is_pinned", "size", "stride", "sym_numel", "sym_size", "sym_stride",
    "sym_storage_offset",
}  # fmt: skip
# As ATen launches them for CUDA, read in its source: `include_self=False` first fills what is to be
# reduced, pooling's gradient starts from zeros.
_SEVERAL = {"scatter_reduce_": 2, "scatter_reduce": 3, "max_pool2d_with_indices_backward": 2}
_SCANS = {"cumsum", "cumprod"}
_REDUCTIONS = {"sum", "mean", "max", "min", "amax", "amin", "all", "any", "linalg_vector_norm"}
_SHARED = 2**17  # from so many numbers on, blocks share the sum and a memset readies their counters


def nodes_of(function: Any, args: Any, kwargs: dict[str, Any], result: Any) -> Iterator[Node]:
    """The nodes of one call of an operator, with at least one tensor on the device."""
    name = function.overloadpacket.__name__
    tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
    if name.removesuffix("_") in _NOTHING:
        return
    if name in ("copy_", "_to_copy") and len({tensor.device.type for tensor in tensors}) > 1:
        yield Node("copy", "host and device")
    elif name in _PRODUCTS:
        yield Node("library", name)
    elif name in _CONVOLUTIONS:
        yield Node("library", name)
        if len(args) > 2 and args[2] is not None:
            yield Node("aten", "bias of a convolution")
    elif name == "convolution_backward":
        of_input, of_weight, of_bias = args[-1]
        yield from [Node("library", name)] * (of_input + of_weight)
        yield from [Node("aten", "gradient of a bias")] * of_bias
    else:
        yield from [Node("aten", name)] * _kernels(name, tensors)


def _kernels(name: str, tensors: list[Tensor]) -> int:
    given, result = tensors[0], tensors[-1]
    if name in _SCANS:
        one_line = given.numel() == max(given.shape, default=1)  # the scan of CUB readies itself
        return 1 + one_line + (given.dtype != result.dtype)
    if name in _REDUCTIONS:
        return 1 + (result.numel() == 1 and given.numel() >= _SHARED)
    if name == "cat":
        return math.ceil((len(tensors) - 1) / 128)
    return _SEVERAL.get(name, 1)


def on_device(tensors: list[Tensor]) -> bool:
    """Whether any of them lies on a GPU."""
    return any(tensor.device.type == "cuda" for tensor in tensors)
