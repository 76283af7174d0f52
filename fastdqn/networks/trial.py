"""A network tried once, on a fake batch, before anything is spent on it.

What is tried is a copy, as the target network will be one: it acts on one observation, and makes
one gradient of a batch. Modes, buffers, gradients, attributes and torch's default generators of the
network itself stay as they are; lazy layers alone get their shapes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from fastdqn.errors import ConfigError
from fastdqn.networks.checks import check_parameters, check_trainable
from fastdqn.networks.copies import copied, lower
from fastdqn.networks.draws import draws_of
from fastdqn.networks.forward import evaluation_mode, to_q
from fastdqn.networks.q_network import QNetwork

_MOST_NAMED = 4


def try_network(
    network: nn.Module,
    observation_shape: Sequence[int],
    dtype: torch.dtype,
    num_actions: int | None,
    *,
    batch_size: int = 2,
    precision: str = "fp32",
    trained: bool = True,
) -> int:
    """Show a network fake observations, zeros: one to act on, and a batch to learn from.

    A warning names parameters on which nothing depends; they stay as they are.

    Args:
        network: All of it on one device.
        observation_shape: [S, *O] or O.
        dtype: uint8 or float32.
        num_actions: A; None: whatever the network makes.
        batch_size: B of the run: a network may refuse batches of 1.
        precision: ``fp32`` or ``bf16``, as for the learner.
        trained: Whether it is to be trained, too.

    Returns:
        A, as the network has it.

    Raises:
        ConfigError: Where it raises, returns something else than Q, changes what it is shown, or
            cannot be copied or trained.
    """
    tensors = chain(network.parameters(), network.buffers())
    device = next((tensor.device for tensor in tensors), torch.device("cpu"))
    trial = _Trial(
        network,
        tuple(observation_shape),
        dtype,
        device,
        num_actions,
        lowered=precision == "bf16",
    )
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus), torch.inference_mode(False):
        if _is_lazy(network):  # cannot be copied before it has shapes
            with evaluation_mode(network):
                trial.act(network)
        if trained:
            check_parameters(network)
            check_trainable(network)
        if trial.lowered and isinstance(network, QNetwork):
            twin: nn.Module = lower(network)
        else:
            twin = copied(network)
        actions = trial.act(twin.eval())
        if trained:
            trial.learn(twin.train(), min(batch_size, 2))
    return actions


@dataclass
class _Trial:
    """What a network, or a copy of it, is shown."""

    original: nn.Module
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    num_actions: int | None
    lowered: bool

    @property
    def name(self) -> str:
        return f"The network ({type(self.original).__name__})"

    def act(self, network: nn.Module) -> int:
        """One observation in evaluation mode; the number of actions."""
        seen = self._observations(1)
        with torch.no_grad():
            _, q = self._run(network, seen, {})
        return self._check_q(network, q, seen)

    def learn(self, network: nn.Module, size: int) -> None:
        """The gradient of a batch in training mode."""
        seen = self._observations(size)
        with torch.enable_grad():
            output, q = self._run(network, seen, self._randoms(network, size))
            self._check_q(network, q, seen)
            self._check_gradient(network, output)

    def _observations(self, size: int) -> Tensor:
        return torch.zeros((size, *self.shape), dtype=self.dtype, device=self.device)

    def _randoms(self, network: nn.Module, size: int) -> Mapping[str, Any]:
        """What the learner would draw for it, as zeros."""
        if not hasattr(network, "random_shapes"):
            return {}
        shapes = draws_of(network, "random_shapes", size)
        zeros = {k: torch.zeros(draw.shape, device=self.device) for k, draw in shapes.items()}
        return {"randoms": zeros}

    def _run(self, network: nn.Module, seen: Tensor, given: Mapping[str, Any]) -> tuple[Any, Any]:
        """The head's output and Q; where either is no tensor, that in the place of both."""
        kind = self.device.type
        try:
            autocast = self.lowered and not isinstance(network, QNetwork)
            with torch.autocast(kind, dtype=torch.bfloat16) if autocast else nullcontext():
                output = network(seen, **given)
            if not isinstance(output, Tensor):
                return output, output
            output = output.float()
            q = to_q(network, output)
        except Exception as error:
            raise ConfigError(
                f"{self.name} does not take {_shown(seen)}"
                f"{' in training mode' if network.training else ''} ({reason(error)}); "
                f"{self._advice(network, seen)}."
            ) from error
        if seen._version:
            raise ConfigError(
                f"{self.name} changes in place the observations that it is shown, which others "
                f"need as they are; let its forward begin with observation.clone(), or leave out "
                f"what is in place (nn.ReLU(inplace=True), x -= y)."
            )
        return output, q

    def _check_q(self, network: nn.Module, q: Any, seen: Tensor) -> int:
        actions = self.num_actions
        found = list(q.shape) if isinstance(q, Tensor) else type(q).__name__
        if isinstance(q, Tensor) and q.dim() == 2 and len(q) == len(seen):
            if actions in (None, q.shape[1]) and q.is_floating_point():
                return q.shape[1]
            found = found if q.is_floating_point() else f"{found} {_short(q.dtype)}"
        envs = "" if actions is None else f", where the envs have {actions} actions"
        raise ConfigError(
            f"{self.name} makes {found} of {_shown(seen)}{envs}; {self._advice(network, seen)}."
        )

    def _advice(self, network: nn.Module, seen: Tensor) -> str:
        """What to do about a network that fails: where a change of what it sees helps, that."""
        if network.training and len(seen) == 1 and self._takes(network, self._observations(2)):
            return "use batch_size = 2 or more"
        if self.lowered and self._takes(network, seen):
            return (
                "use precision = 'fp32', or let its layers take observations in the dtype of their "
                "weights"
            )
        for text, changed in _readings(seen):
            if self._takes(network, changed):
                return f"let its forward begin with observation = {text}"
        wanted = f"[{len(seen)}, {self.num_actions or 'A'}]"
        if self.num_actions is None:
            return f"pass a network that maps those to Q, {wanted}"
        return f"pass one that makes Q, {wanted}"

    def _takes(self, network: nn.Module, seen: Tensor) -> bool:
        """Whether it makes Q of such observations."""
        try:
            network = copied(self.original).train(network.training)
            with torch.no_grad():
                q = to_q(network, network(seen))
        except Exception:
            return False
        rows = isinstance(q, Tensor) and q.dim() == 2 and len(q) == len(seen)
        return rows and self.num_actions in (None, q.shape[1])

    def _check_gradient(self, network: nn.Module, output: Tensor) -> None:
        if not output.requires_grad:
            raise ConfigError(
                f"{self.name} makes Q without a gradient; leave torch.no_grad, detach and .data "
                f"out of its forward."
            )
        named = {n: p for n, p in network.named_parameters() if p.requires_grad}
        reached = {id(leaf) for leaf in _leaves(output)}
        strange = reached - {id(parameter) for parameter in named.values()}
        if strange & {id(parameter) for parameter in self.original.parameters()}:
            raise ConfigError(
                f"{self.name} keeps functions that know its layers (a lambda, say, in an attribute "
                f"or a hook), so that a copy, such as the target network, computes with the "
                f"parameters of the first; make them methods."
            )
        if strange:
            raise ConfigError(
                f"{self.name} computes with parameters that it does not have in its parameters(), "
                f"so that they would be neither trained nor saved; hold layers in an nn.ModuleList "
                f"or nn.ModuleDict, not in a Python list or dict."
            )
        try:
            found = torch.autograd.grad(output.sum(), list(named.values()), allow_unused=True)
        except Exception as error:
            raise ConfigError(
                f"{self.name} has no gradient ({reason(error)}); change what its forward does "
                f"there."
            ) from error
        for name, gradient in zip(named, found, strict=True):
            if gradient is not None and gradient.layout != torch.strided:
                raise ConfigError(
                    f"{self.name} makes a sparse gradient of {name!r}; make its nn.Embedding with "
                    f"sparse=False."
                )
        unused = [name for name, gradient in zip(named, found, strict=True) if gradient is None]
        if unused:
            more = len(unused) - _MOST_NAMED
            warnings.warn(
                f"{self.name} computes Q without {', '.join(unused[:_MOST_NAMED])}"
                f"{f' and {more} more' if more > 0 else ''}; what Q does not depend on stays as "
                f"it is.",
                stacklevel=2,
            )


def _readings(seen: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Other forms of the same observations, and how to write them."""
    layouts = [("observation", seen)]
    if seen.dim() > 2:
        layouts.append(("observation.flatten(1)", seen.flatten(1)))
    if seen.dim() == 5:
        layouts.append(("observation.flatten(1, 2)", seen.flatten(1, 2)))
    if seen.dim() == 4:
        layouts.append(("observation.permute(0, 3, 1, 2)", seen.permute(0, 3, 1, 2)))
    for text, changed in layouts:
        if changed is not seen:
            yield text, changed
        if seen.dtype == torch.uint8:
            yield f"{text}.float() / 255", changed.float() / 255


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """The tensors that a gradient of the output would go to."""
    nodes: list[Any] = [output.grad_fn]
    met = set()
    if output.grad_fn is None:
        yield output
    while nodes:
        node = nodes.pop()
        if node is None or node in met:
            continue
        met.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor):
            yield leaf
        nodes.extend(following for following, _ in node.next_functions)


def _is_lazy(network: nn.Module) -> bool:
    kinds = (UninitializedParameter, UninitializedBuffer)
    return any(isinstance(t, kinds) for t in chain(network.parameters(), network.buffers()))


def reason(error: Exception) -> str:
    """What to say of an error of somebody else's, in one line."""
    lines = (str(error).strip() or "no reason given").splitlines()
    return f"{type(error).__name__}: {lines[0].rstrip('.')}"


def _shown(seen: Tensor) -> str:
    what = "an observation" if len(seen) == 1 else "observations"
    return f"{what} of shape {tuple(seen.shape)} {_short(seen.dtype)}"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
