"""What a Q network looks at: gradients with respect to its input."""

from __future__ import annotations

import copy
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from fastdqn.acting.policy import Policy
from fastdqn.config.arguments import check_choice
from fastdqn.errors import ConfigError
from fastdqn.learning.choose_objective import objective_for
from fastdqn.learning.objectives import (
    Forward,
    Objective,
    Transitions,
    check_forwards,
    check_terms,
    run_forwards,
    trains,
)
from fastdqn.learning.q_learning import LOSSES
from fastdqn.networks.checks import check_module
from fastdqn.networks.forward import evaluation_mode, to_q
from fastdqn.networks.q_network import QNetwork
from fastdqn.networks.trial import reason
from fastdqn.system.staging import as_tensor
from fastdqn.types import Array

# Two ways to feed bytes as floats agree to rounding; they differ by a factor of 255 otherwise.
_SAME_Q = 1e-3


def input_gradient(
    network: Policy | nn.Module,
    observation: Array,
    action: Array | None = None,
    of: Literal["q", "loss"] = "q",
    *,
    reward: Array | None = None,
    discount: Array | None = None,
    next_observation: Array | None = None,
    target_network: nn.Module | None = None,
    double: bool = True,
    loss: Literal["huber", "mse"] = "huber",
    huber_delta: float = 1.0,
    objective: Objective | None = None,
) -> Array:
    """How Q(s, a), or the loss of a transition, changes with each entry of the observation.

    dQ(s, a)/ds is the saliency of Simonyan 2014 (arXiv 1312.6034). The gradient is taken with
    respect to the observation's own values: for bytes per grey level of 0..255, not per 0..1.
    Every sample stands alone, for networks run in evaluation mode here whatever mode they are in,
    in the precision of their parameters (a bfloat16 policy in float32). Parameters, their
    ``.grad``, modes and buffers stay as they are.

    Args:
        network: A policy, ``learner.network``, or any module that maps observations to Q
            (through its ``q_values`` method, if it has one).
        observation: [B, ...], what the network sees: stacks [B, S, *O] where it takes stacks.
        action: int [B], counted from 0; None: the greedy one (for ``of="q"`` only).
        of: ``q``: Q(s, a); ``loss``: the loss of the TD error, unweighted, per sample.
        reward: [B], for the loss.
        discount: [B], for the loss: 0 where the episode terminated, else gamma^m.
        next_observation: Like observation, for the loss; carries no gradient.
        target_network: Values the next observation; None: the network itself.
        double: The network itself, not the target network, chooses the next action.
        loss: ``huber`` or ``mse``.
        huber_delta: Where the Huber loss turns linear.
        objective: Whose loss, in the place of that by ``double``, ``loss`` and ``huber_delta``.

    Returns:
        Shaped like the observation, in the float dtype of the parameters; a numpy array if the
        observation is one, else a tensor on the device of the network.

    Raises:
        ConfigError: Where an argument is missing or does not fit, or integers are no bytes.
    """
    module = network_of(network)
    transition = {"reward": reward, "discount": discount, "next_observation": next_observation}
    _check(of, action, transition, target_network, loss)
    target_module = module if target_network is None else target_network
    device = device_of(module, network)
    raw = tensor_of("observation", observation).to(device)
    if objective is None:
        objective = objective_for(module, double=double, loss=loss, huber_delta=huber_delta)
    with evaluation_mode(module, target_module), torch.inference_mode(False), torch.enable_grad():
        floats, unit = float_form(module, raw)
        floats.requires_grad_()
        q = q_of(module, floats)
        if action is None:
            chosen = q.argmax(dim=1)
        else:
            # In memory of its own: backward keeps it, and refuses tensors of inference mode.
            given = tensor_of("action", action)
            if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
                raise ConfigError(f"action is {given.dtype}; make it int64 with .long().")
            chosen = given.to(device=device, dtype=torch.int64, copy=True)
            _check_actions(chosen, q)
        if of == "q":
            wanted = q.gather(1, chosen.unsqueeze(1))
        else:
            following, r, gamma = (
                tensor_of(name, transition[name]).to(device)
                for name in ("next_observation", "reward", "discount")
            )
            _check_transition(raw, following, r, gamma)
            batch = Transitions(raw, chosen, r.to(q.dtype), gamma.to(q.dtype), following)
            wanted = _loss(objective, module, target_module, floats, batch)
        # Samples do not see each other in evaluation mode: the sum's gradient is each one's own.
        gradient = torch.autograd.grad(wanted.sum(), floats)[0] * unit
    return gradient.cpu().numpy() if isinstance(observation, np.ndarray) else gradient


def _loss(
    objective: Objective,
    module: nn.Module,
    target_module: nn.Module,
    floats: Tensor,
    batch: Transitions,
) -> Tensor:
    """Of each sample, [B], with a gradient to ``floats``."""
    check_forwards(objective)

    def run(forward: Forward) -> Tensor:
        if trains(forward):
            output: Tensor = module(floats)
            return output
        network = module if forward[0] == "online" else target_module
        seen = batch.next_observation if forward[1] == "s2" else batch.observation
        output = network(_as_parameters(seen, network))
        return output

    given = {}
    if isinstance(module, QNetwork) and module.implicit:  # the fractions of its forward
        tau = module.embedding.to_act_by(len(floats), floats.device)
        given = {forward: {"tau": tau} for forward in objective.forwards}
    outputs = run_forwards(objective, run, lambda output: to_q(module, output))
    terms = objective(outputs, batch, given)
    check_terms(objective, terms, len(floats))
    return terms[0]


def q_of(network: nn.Module, observation: Tensor) -> Tensor:
    """Q values [B, A] by the convention of fastdqn.networks, with gradient, in full precision.

    Raises:
        ConfigError: Where the network does not take the observation, or makes something else.
    """
    seen = f"observations of shape {list(observation.shape)} {observation.dtype}"
    name = f"The network ({type(network).__name__})"
    try:
        q = to_q(network, network(observation))
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise ConfigError(
            f"{name} does not take {seen} ({reason(error)}); pass those that it takes."
        ) from error
    if not isinstance(q, Tensor) or q.dim() != 2:
        made = list(q.shape) if isinstance(q, Tensor) else type(q).__name__
        raise ConfigError(f"{name} makes {made} of {seen}; pass one that makes Q, [B, A].")
    return q


def tensor_of(name: str, array: Any) -> Tensor:
    """An argument as a tensor over the same memory; ConfigError where it is no array."""
    if not isinstance(array, Tensor | np.ndarray):
        raise ConfigError(
            f"{name} is {type(array).__name__}; make it an array with np.asarray, or a tensor."
        )
    if isinstance(array, Tensor) and array.is_meta:
        raise ConfigError(f"{name} is on meta and holds no numbers; use one that does.")
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
        raise ConfigError(f"{name} is {array.dtype}; make it float32.")
    return as_tensor(array)


@torch.no_grad()
def float_form(network: nn.Module, observation: Tensor) -> tuple[Tensor, float]:
    """The observation as floats of which the network makes the same Q, and their unit.

    A gradient needs floats, but networks scale bytes by 1/255 and floats not (those of
    fastdqn.networks), or both, or neither. So the two candidates are tried, and the one whose Q
    is that of the bytes is taken.

    Args:
        network: In evaluation mode.
        observation: [B, ...], uint8 or floats, on the network's device.

    Returns:
        Fresh floats in the dtype of the parameters, and d(floats)/d(observation): 1 or 1/255.

    Raises:
        ConfigError: Where the observation is of other integers, or neither form has the same Q.
    """
    dtype = _dtype(network)
    if observation.is_floating_point():
        return observation.detach().to(dtype).clone(), 1.0
    if observation.dtype != torch.uint8:
        raise ConfigError(
            f"an observation of {observation.dtype} has no gradient; use floats or uint8 pixels."
        )
    # Of zeros both forms are the same.
    tried = observation if observation.any() else torch.ones_like(observation)
    reference = q_of(network, tried)
    size = reference.abs().max()
    forms = [tried.to(dtype), tried.to(dtype) / 255]
    gaps = [float((q_of(network, form) - reference).abs().max()) for form in forms]
    best = int(gaps[1] <= gaps[0])
    if not gaps[best] <= _SAME_Q * float(size):
        raise ConfigError(
            "the network gives bytes other Q values than the same numbers as floats, scaled by "
            "1/255 or not; pass floats of the kind it takes."
        )
    floats = observation.to(dtype)
    return (floats / 255, 1 / 255) if best else (floats, 1.0)


def _as_parameters(observation: Tensor, network: nn.Module) -> Tensor:
    """Floats in the dtype of the parameters; bytes as they are."""
    return observation.to(_dtype(network)) if observation.is_floating_point() else observation


def network_of(network: Policy | nn.Module) -> nn.Module:
    """The module to explain; in float32 where a policy acts with weights in bfloat16."""
    module = check_module(network.network if isinstance(network, Policy) else network)
    if any(p.dtype == torch.bfloat16 for p in module.parameters()):
        return copy.deepcopy(module).float()
    return module


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)


def device_of(module: nn.Module, network: Any) -> torch.device:
    """Where its observations go."""
    if isinstance(network, Policy):
        return network.device
    return next((p.device for p in module.parameters()), torch.device("cpu"))


def _check(
    of: str,
    action: Array | None,
    transition: dict[str, Array | None],
    target_network: nn.Module | None,
    loss: str,
) -> None:
    check_choice("of", of, ("q", "loss"))
    check_choice("loss", loss, LOSSES)
    if target_network is not None:
        check_module(target_network)
    if of == "loss":
        for name, value in {"action": action, **transition}.items():
            if value is None:
                raise ConfigError(f"of = 'loss' needs {name}; pass that of the transition.")
        return
    for name, given in {**transition, "target_network": target_network}.items():
        if given is not None:
            raise ConfigError(f"{name} is only for of = 'loss'; leave it out for of = 'q'.")


def _check_actions(action: Tensor, q: Tensor) -> None:
    if action.shape != q.shape[:1]:
        raise ConfigError(
            f"action has shape {tuple(action.shape)}; use one for each of {len(q)} observations."
        )
    if len(action) and not (action.min() >= 0 and action.max() < q.shape[1]):
        raise ConfigError(f"action = {action.tolist()} leaves 0..{q.shape[1] - 1}; count from 0.")


def _check_transition(raw: Tensor, following: Tensor, reward: Tensor, discount: Tensor) -> None:
    for name, given in {"reward": reward, "discount": discount}.items():
        if not given.is_floating_point() and (given.is_complex() or given.dtype == torch.bool):
            raise ConfigError(f"{name} is {given.dtype}; make it float32.")
        if given.shape != raw.shape[:1]:
            raise ConfigError(
                f"{name} has shape {tuple(given.shape)}; use one for each of the {len(raw)} "
                f"observations."
            )
    if following.shape != raw.shape:
        raise ConfigError(
            f"next_observation has shape {tuple(following.shape)}; use one like the observation, "
            f"{tuple(raw.shape)}, for each."
        )
    if following.dtype != raw.dtype:
        raise ConfigError(
            f"next_observation is {following.dtype}, where the observation is {raw.dtype}; make "
            f"both of the same."
        )
