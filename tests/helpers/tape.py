"""A CUDA graph's stand-in on a CPU: a step recorded operator by operator, and played again.

As in a graph, what is played are the operators, with the host's arguments and the addresses of the
recording; Python does not run again. What a step decides on the host, or reads from a tensor that
is later another, is frozen, and shows as a difference from the same step run eager.
"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fastdqn.system.compilation import WARMUP_STEPS, unchanged


def tensors_in(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def storage(tensor):
    return tensor.untyped_storage().data_ptr()


class Tape(TorchDispatchMode):
    """Every operator called within: function, arguments, results."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, result))
        return result

    @torch.no_grad()
    def play(self):
        """Every operator again, on the same tensors, into the same results."""
        for function, args, kwargs, result in self.calls:
            inputs = {storage(tensor) for tensor in tensors_in((args, kwargs))}
            fresh = function(*args, **kwargs)
            for old, new in zip(tensors_in(result), tensors_in(fresh), strict=True):
                if storage(old) not in inputs:  # neither a view nor written in place
                    old.copy_(new)

    def frozen(self, state):
        """What a graph would keep of each call: operator, host arguments, layouts, addresses.

        Args:
            state: Tensors whose addresses count; those of the rest change from run to run.
        """
        known = {storage(tensor) for tensor in state}

        def seen(leaf):
            if isinstance(leaf, torch.Generator):
                return "generator"
            if not isinstance(leaf, Tensor):
                return repr(leaf)
            layout = tuple(leaf.shape), leaf.stride(), leaf.dtype
            at = storage(leaf)
            return (*layout, at, leaf.storage_offset()) if at in known else layout

        return [
            (str(function), *map(seen, tree_leaves((args, kwargs))))
            for function, args, kwargs, _ in self.calls
        ]


class TapedStep:
    """:class:`fastdqn.system.compilation.CapturedStep` on a CPU."""

    made = 0

    def __init__(self, step, state, generators, device):
        TapedStep.made += 1
        for _ in range(WARMUP_STEPS):
            with unchanged(state, generators):
                step()
        self.tape = Tape()
        with unchanged(state, generators), self.tape:  # a capture runs nothing
            self.outputs = tuple(step())

    def __call__(self):
        self.tape.play()
        return self.outputs


class RepeatedStep:
    """The same without a tape, for compiled functions, which do not run under a dispatch mode.

    Its results are one set of tensors, but Python runs each time: nothing is frozen.
    """

    def __init__(self, step, state, generators, device):
        for _ in range(WARMUP_STEPS):
            with unchanged(state, generators):
                self.outputs = tuple(tensor.clone() for tensor in step())
        self.step = step

    def __call__(self):
        for old, new in zip(self.outputs, self.step(), strict=True):
            old.copy_(new)
        return self.outputs


def state_of(*owners):
    """Every tensor that the owners hold, however deep."""
    found, visited, todo = {}, set(), list(owners)
    while todo:
        value = todo.pop()
        if id(value) in visited:
            continue
        visited.add(id(value))
        if isinstance(value, Tensor):
            found[id(value)] = value
        elif isinstance(value, (list, tuple, set)):
            todo += value
        elif isinstance(value, dict):
            todo += value.values()
        elif getattr(type(value), "__module__", "").startswith(("fastdqn", "torch.nn")):
            todo += vars(value).values()
    return list(found.values())
