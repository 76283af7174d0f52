"""``torch.autograd.grad`` in Python, for torch's engine asks the driver for its streams."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def grad(
    output: Tensor, inputs: Sequence[Tensor], *, materialize_grads: bool = True
) -> tuple[Tensor, ...]:
    """Gradients of a scalar with respect to leaves: the same backward functions, in their order.

    Args:
        output: 0-d.
        inputs: Leaves that it depends on.
        materialize_grads: As torch's; there is none to make.
    """
    with torch.no_grad():
        found = _backward(output)
        return tuple(found[tensor] for tensor in inputs)


def _backward(output: Tensor) -> dict[Tensor, Tensor]:
    root: Any = output.grad_fn
    waiting = _count_uses(root)
    given: dict[Any, dict[int, Tensor]] = defaultdict(dict)
    given[root][0] = torch.ones_like(output)
    found, ready = {}, [root]
    while ready:
        node = ready.pop()
        came = given.pop(node, {})
        if hasattr(node, "variable"):  # a leaf
            found[node.variable] = came[0]
            continue
        results: Any = (None,) * len(node.next_functions)
        if came:
            results = node(*(came.get(i) for i in range(len(node._input_metadata))))
        if not isinstance(results, tuple):
            results = (results,)
        for (following, place), gradient in zip(node.next_functions, results, strict=True):
            if following is None:
                continue
            if gradient is not None:
                gradient = _fitting(gradient, following._input_metadata[place])
                before = given[following].get(place)
                given[following][place] = gradient if before is None else before + gradient
            waiting[following] -= 1
            if not waiting[following]:
                ready.append(following)
    return found


def _count_uses(root: Any) -> Counter[Any]:
    """How many gradients each node waits for."""
    uses: Counter[Any] = Counter({root: 0})
    stack = [root]
    while stack:
        for node, _ in stack.pop().next_functions:
            if node is not None:
                if node not in uses:
                    stack.append(node)
                uses[node] += 1
    return uses


def _fitting(gradient: Tensor, metadata: Any) -> Tensor:
    """Broadcasting undone, as torch's engine does it between two functions."""
    if gradient.shape != metadata.shape:
        gradient = gradient.sum_to_size(metadata.shape)
    return gradient.to(metadata.dtype)
