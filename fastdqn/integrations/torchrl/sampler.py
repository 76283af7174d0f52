"""A prioritized sampler for TorchRL's replay buffers on our sum tree."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchrl.data.replay_buffers import PrioritizedSampler, Storage

from fastdqn.config.arguments import check_argument
from fastdqn.config.ranges import Range
from fastdqn.errors import CheckpointError, ConfigError, FastDQNError
from fastdqn.integrations.torchrl.flat_rows import flat_rows
from fastdqn.integrations.torchrl.numbers import real_numbers
from fastdqn.integrations.torchrl.priority_tree import PriorityTree
from fastdqn.integrations.torchrl.sampler_files import directory_of, read_files, write_files
from fastdqn.system.devices import resolve_device

REDUCTIONS = ("max", "min", "mean", "median", "sum")
WEIGHTS = ("batch", "buffer")
_EPSILONS = Range(1e-12, 1.0)
_SAVED = {"alpha", "beta", "eps", "largest", "leaves"}


class SumTreeSampler(PrioritizedSampler):
    """Prioritized experience replay (Schaul 2016) for any of TorchRL's buffers and storages.

    A drop-in for TorchRL's ``PrioritizedSampler``, whose subclass it is, for its buffers ask for
    that. It needs none of TorchRL's C++ extension. A row is drawn in proportion to
    ``(priority + eps)^alpha``; a new row has the largest priority so far, at least 1. Draws are
    stratified (Schaul 2016, B.2.1): the b-th of B falls into the b-th part of the total.

    A priority that is not finite counts as the largest so far, a negative one as 0. Of duplicates
    within one update the largest wins.

    Args:
        max_capacity: Rows of the storage; of one of several dimensions their product.
        alpha: Exponent of the priorities, 0 to 1; may be set later.
        beta: Exponent of the importance weights, 0 or more; may be set later.
        eps: Added to every priority, 1e-12 to 1.
        reduction: How a buffer makes one priority of those of a stored trajectory.
        max_priority_within_buffer: A new row gets the largest priority of the rows that are there;
            False: the largest ever.
        weights: ``batch``: importance weights are divided by the batch's largest, as in Schaul
            2016. ``buffer``: by the largest that any row has, as TorchRL's are.
        device: Of the tree; None: CUDA where the storage is there, else the CPU.

    Raises:
        ConfigError: Where an argument is of another type or out of range.
    """

    def __init__(
        self,
        max_capacity: int,
        alpha: float = 0.6,
        beta: float = 0.4,
        *,
        eps: float = 1e-8,
        reduction: str = "max",
        max_priority_within_buffer: bool = False,
        weights: str = "batch",
        device: torch.device | str | None = None,
    ) -> None:
        self._max_capacity = check_argument("max_capacity", max_capacity, int, Range(1, 2**40))
        self._alpha = _exponent("alpha", alpha, 1.0)
        self._beta = _exponent("beta", beta)
        self._eps = check_argument("eps", eps, float, _EPSILONS)
        for name, value, known in (
            ("reduction", reduction, REDUCTIONS), ("weights", weights, WEIGHTS),
        ):  # fmt: skip
            if value not in known:
                raise ConfigError(f"{name} = {value!r} must be one of {', '.join(known)}.")
        within = check_argument("max_priority_within_buffer", max_priority_within_buffer, bool)
        self.reduction, self.weights = reduction, weights
        self._max_priority_within_buffer = within
        self._device = None if device is None else resolve_device(device)
        self._tree = self._made(self._device or torch.device("cpu"))

    def _made(self, device: torch.device) -> PriorityTree:
        return PriorityTree(self._max_capacity, smallest=self.weights == "buffer", device=device)

    def _tree_for(self, storage: Storage | None) -> PriorityTree:
        """The tree, on the storage's device where none was asked for."""
        if self._device is None and storage is not None:
            found = getattr(storage, "device", None)
            if found is not None and found != "auto" and torch.device(found).type == "cuda":
                self._device = resolve_device(found)
                self._tree = self._made(self._device)
        return self._tree

    # --- what may be asked ---------------------------------------------------------------------

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(alpha={self._alpha}, beta={self._beta}, eps={self._eps}, "
            f"reduction={self.reduction}, weights={self.weights})"
        )

    @property
    def device(self) -> torch.device:
        """Where the tree lives."""
        return self._tree.device

    @property
    def alpha(self) -> float:
        """Exponent of the priorities; setting it changes those of all rows in one pass.

        From 0 on nothing is known of them: rows stay alike until they are updated.
        """
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        before, self._alpha = self._alpha, _exponent("alpha", value, 1.0)
        if self._alpha == before or not bool(self.leaves.any()):
            return
        if before == 0:
            warnings.warn(
                "alpha was 0, under which all rows are alike; each keeps that priority until it is "
                "updated.",
                stacklevel=2,
            )
            return
        leaves = self.leaves.double()
        self._tree.set_leaves(
            torch.where(leaves > 0, leaves ** (self._alpha / before), 0.0).float()
        )

    @property
    def beta(self) -> float:
        """Exponent of the importance weights."""
        return self._beta

    @beta.setter
    def beta(self, value: float) -> None:
        self._beta = _exponent("beta", value)

    @property
    def leaves(self) -> Tensor:
        """``(priority + eps)^alpha`` of every row, float32 [max_capacity]; 0 where none is."""
        return self._tree.leaves

    @property
    def default_priority(self) -> float:
        """What a new row gets, raw; reads the device."""
        return float(self._new_priority())

    def _new_priority(self) -> Tensor:
        if not self._max_priority_within_buffer or self._alpha == 0:
            return self._tree.largest
        top = self.leaves.max()
        raw = (top ** (1 / self._alpha) - self._eps).clamp_min(0.0)
        return torch.where(top > 0, raw, torch.ones_like(raw))

    # --- drawing -------------------------------------------------------------------------------

    def sample(self, storage: Storage, batch_size: int) -> tuple[Any, dict[str, Any]]:
        """Draw rows, with replacement.

        Returns:
            The index, int64 [B] (of a storage of several dimensions a tuple of them), and
            ``priority_weight``, float32 [B].

        Raises:
            FastDQNError: Where the storage is empty, no row has a priority, or ``batch_size`` is
                none.
        """
        tree = self._tree_for(storage)
        if len(storage) == 0:
            raise FastDQNError("Cannot sample from an empty storage; call extend first.")
        batch_size = check_argument("batch_size", batch_size, int, Range(1, 2**31))
        # The buffer's generator, if it has one.
        device = self.device if self._rng is None else self._rng.device
        uniform = torch.rand((tree.levels, batch_size), generator=self._rng, device=device)
        rows, weight = tree.draw(uniform.to(self.device), self._beta)
        index = torch.unravel_index(rows, storage.shape) if storage.ndim > 1 else rows
        return index, {"priority_weight": weight}

    # --- writing -------------------------------------------------------------------------------

    @torch.no_grad()
    def update_priority(
        self,
        index: int | Tensor | tuple[Tensor, ...],
        priority: float | Tensor,
        *,
        storage: Storage | None = None,
    ) -> None:
        """Set priorities.

        Args:
            index: Rows: a number, integers [B], or of a storage of several dimensions [B, ndim] or
                a tuple of [B]. A negative one is passed over, for writers name so what they
                did not write.
            priority: One for all, or one for each, [B] or [B, 1]; raw, before ``eps`` and alpha.
            storage: Tells the shape where the index has several dimensions.

        Raises:
            FastDQNError: Where there are other numbers of them, or an index is out of range.
        """
        tree = self._tree_for(storage)
        rows = flat_rows(index, storage, tree.device)
        raw = real_numbers("priority", priority, tree.device).reshape(-1)
        if raw.numel() != rows.numel():
            if raw.numel() != 1:
                raise FastDQNError(
                    f"priority has {raw.numel()} numbers for {rows.numel()} rows; pass one for "
                    f"each, or one for all."
                )
            raw = raw.expand(rows.numel())
        tree.write(rows, raw, self._eps, self._alpha)

    @torch.no_grad()
    def mark_update(
        self, index: int | Tensor | tuple[Tensor, ...], *, storage: Storage | None = None
    ) -> None:
        """Give new rows the largest priority."""
        tree = self._tree_for(storage)
        rows = flat_rows(index, storage, tree.device)
        raw = self._new_priority().expand(rows.numel())
        tree.write(rows, raw, self._eps, self._alpha)

    def add(self, index: int | Tensor) -> None:
        """Nothing: the writer has called :meth:`mark_update`."""

    def extend(self, index: Tensor | tuple[Tensor, ...]) -> None:
        """Nothing: the writer has called :meth:`mark_update`."""

    def _empty(self) -> None:
        self._tree = self._made(self.device)

    # --- state ---------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Without the tree, whose levels share a memory: that is parted by a pickle."""
        state = {**super().__getstate__(), "_saved": self.state_dict(), "_on": self.device}
        del state["_tree"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        saved, device = state.pop("_saved"), state.pop("_on")
        self.__dict__.update(state)
        self._tree = self._made(device)
        self.load_state_dict(saved)

    def state_dict(self) -> dict[str, Any]:
        """Exponents, every leaf, and the largest priority; copies."""
        return {
            "alpha": self._alpha,
            "beta": self._beta,
            "eps": self._eps,
            "largest": self._tree.largest.clone(),
            "leaves": self.leaves.clone(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`; CheckpointError where the capacity is another."""
        if not isinstance(state_dict, Mapping) or not state_dict.keys() >= _SAVED:
            raise CheckpointError(
                "The state is none of this sampler (that of TorchRL's holds trees that only its "
                "extension reads); pass what state_dict returned."
            )
        leaves = real_numbers("leaves", state_dict["leaves"], self.device)
        largest = real_numbers("largest", state_dict["largest"], self.device)
        self._check_capacity(leaves.numel())
        if not all(bool(((found >= 0) & found.isfinite()).all()) for found in (leaves, largest)):
            raise CheckpointError(
                "The saved sampler has priorities that are negative or not finite; pass what "
                "state_dict returned."
            )
        self._load(leaves, largest, state_dict)

    def dumps(self, path: str | Path) -> None:
        """Write the files that TorchRL's ``PrioritizedSampler`` writes, and reads."""
        write_files(
            directory_of(path),
            self.leaves,
            float(self._tree.largest),
            {"alpha": self._alpha, "beta": self._beta, "eps": self._eps},
        )

    def loads(self, path: str | Path) -> None:
        """Read what :meth:`dumps` wrote, or TorchRL's; CheckpointError where it does not fit."""
        leaves, largest, values = read_files(directory_of(path))
        self._check_capacity(leaves.numel())
        self._load(leaves, torch.tensor(largest), values)

    def _load(self, leaves: Tensor, largest: Tensor, values: Mapping[str, Any]) -> None:
        alpha, beta = _exponent("alpha", values["alpha"], 1.0), _exponent("beta", values["beta"])
        eps = check_argument("eps", values["eps"], float, _EPSILONS)
        self._alpha, self._beta, self._eps = alpha, beta, eps
        self._tree.largest.copy_(largest)
        self._tree.set_leaves(leaves)

    def _check_capacity(self, found: int) -> None:
        if found != self._max_capacity:
            raise CheckpointError(
                f"The saved sampler has {found} rows, this one {self._max_capacity}; use the "
                f"max_capacity it was saved with."
            )


def _exponent(name: str, value: Any, high: float = float("inf")) -> float:
    """A number from 0 on, as Python's own; schedulers set arrays and tensors of one."""
    if isinstance(value, Tensor | np.generic | np.ndarray) and np.ndim(value) == 0:
        value = value.item()
    return float(check_argument(name, value, float, Range(0.0, high)))
