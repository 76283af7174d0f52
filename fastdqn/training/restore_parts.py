"""From a checkpoint back into the parts of a run. All of it is checked before it counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fastdqn.acting.actor import Actor
from fastdqn.checkpoints.names import read_spec
from fastdqn.checkpoints.state_tree import SavedTensor, check_fits, materialize
from fastdqn.checkpoints.store import refusing
from fastdqn.config.config import Config
from fastdqn.envs.arrays import without_tensors
from fastdqn.errors import CheckpointError, ConfigError
from fastdqn.learning.learner import Learner
from fastdqn.replay.buffer import ReplayBuffer
from fastdqn.runs.directory import check_same, resumes_from
from fastdqn.runs.record import read_record
from fastdqn.spaces import Spaces, check_resumed
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.training.load import check_spec

_MOST_ROWS = 2**53  # of one env, ever


class _Stateful(Protocol):
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def check_resumable(
    config: Config, spaces: Spaces, *, envs: bool, network: bool, objective: bool
) -> None:
    """Refuse to go on with a run in other envs, or with other parts, than its own.

    Args:
        config: Of the run; where it does not go on, nothing is checked.
        spaces: Of its envs now.
        envs: Whether they were passed from Python.
        network: Whether the network was.
        objective: Whether the objective was.

    Raises:
        ConfigError: With what to pass, or a field that differs.
        CheckpointError: Where the checkpoint does not say what it was made for.
    """
    checkpoint, run_dir = resumes_from(config), Path(str(config.run_dir))
    if checkpoint is not None and (run_dir / "config.json").is_file():
        check_same(Config.load(run_dir / "config.json"), config, run_dir)
    saved = {} if checkpoint is None else read_spec(checkpoint)
    if checkpoint is None or not saved:  # not readable: restoring says what is wrong with it
        return
    with refusing(checkpoint):
        check_spec(checkpoint, saved)
    record = read_record(run_dir)
    for name, part, given in (("envs", record.envs, envs), ("network", record.network, network)):
        if not part.made_from_config and not given:
            raise ConfigError(
                f"The run in {config.run_dir!r} was trained with {part.what}; pass them again: "
                f"fastdqn.train(config, {name}={name}), or start in another run_dir."
            )
    if saved.get("frozen") and not network:
        raise ConfigError(
            f"The run in {config.run_dir!r} was trained with a network of which parts were frozen, "
            f"and a new one has none; pass it again: fastdqn.train(config, network=network), or "
            f"start in another run_dir."
        )
    if saved.get("own_objective") and not objective:
        raise ConfigError(
            f"The run in {config.run_dir!r} was trained with an objective passed from Python; pass "
            f"it again: fastdqn.train(config, objective=objective), or start in another run_dir."
        )
    check_resumed(Spaces.of_spec(saved), spaces, config.run_dir)


def restore_learner(state: Any, learner: Learner) -> None:
    """Load what :meth:`Learner.state_dict` gave; CheckpointError where it does not fit."""
    own = learner.state_dict()
    if "generator" not in state:  # older checkpoints do without
        del own["generator"]
    check_fits(state, own, "learner")
    learner.load_state_dict(materialize(state))
    target = learner.target_network.state_dict().values()
    for tensor in (learner.flat.data, *target, learner.statistics):
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError("Numbers of the learner in the checkpoint are not finite.")


def restore_counters(state: Any, counters: dict[str, int], actor: Actor, report: _Stateful) -> None:
    """Load the actor and the report, and the counters in place."""
    own = {**counters, "actor": actor.state_dict(), "report": report.state_dict()}
    saved = {name: state[name] for name in own}
    check_fits(saved, own, "run")
    saved = materialize(saved)
    _check_counts(saved["report"])
    actor.load_state_dict(saved["actor"])
    report.load_state_dict(saved["report"])
    counters.update({name: saved[name] for name in counters})


def restore_default_generators(run: dict[str, Any], generators: DefaultGenerators) -> None:
    """Load what the checkpoint has of them; checkpoints of earlier versions have none."""
    saved = {**run.get("default_generators", {})}
    own = {name: state for name, state in generators.state_dict().items() if name in saved}
    saved = {name: saved[name] for name in own}
    check_fits(saved, own, "run/default_generators")
    generators.load_state_dict(materialize(saved))


def restore_actions(state: Any, num_envs: int, num_actions: int) -> Tensor:
    """The actions that were to come next."""
    check_fits(state, torch.zeros(num_envs, dtype=torch.int64), "run/actions")
    actions = materialize(state)
    _check_actions(actions, num_actions)
    return actions


def restore_envs(state: Any, envs: Any, *, arrays: bool) -> None:
    """Load the state of envs that can; whatever they raise is the checkpoint's fault.

    Args:
        state: What they gave.
        envs: The envs.
        arrays: Whether that held numpy arrays, which a checkpoint makes tensors of.
    """
    try:
        found = materialize(state)
        envs.load_state_dict(without_tensors(found) if arrays else found)
    except Exception as error:
        raise CheckpointError(
            f"The envs refuse their state in the checkpoint ({type(error).__name__}: {error})."
        ) from error


def restore_replay(state: Any, replay: ReplayBuffer, num_actions: int) -> None:
    """Load a replay: its rows go from the files straight to where they belong."""
    own = replay.state_dict()
    # Another type of device has another tree, and builds it anew from the leaves.
    tree = state["tree"]
    check_fits({**state, "tree": None}, {**own, "tree": None}, "replay")
    if not isinstance(tree, dict) or not all(
        isinstance(level, SavedTensor) and level.dtype == torch.float32
        for name, level in tree.items()
        if name != "capacity"
    ):
        raise CheckpointError("replay/tree is no tree in the checkpoint; take another.")
    replay.load_state_dict(materialize(state, into=own))
    replay.tree.check_valid()
    _check_actions(replay.ring.scalars["action"], num_actions)
    _check_between(replay.cursor, -1, _MOST_ROWS)
    if not bool(torch.isfinite(replay.max_priority) & (replay.max_priority > 0)):
        raise CheckpointError("replay/max_priority is no priority; take another checkpoint.")


def _check_counts(state: Any) -> None:
    """Refuse integers that count nothing, wherever they are."""
    if isinstance(state, dict):
        for item in state.values():
            _check_counts(item)
    elif isinstance(state, Tensor) and state.dtype == torch.int64:
        _check_between(state, 0, _MOST_ROWS)


def _check_between(counts: Tensor, low: int, high: int) -> None:
    if not bool(((counts >= low) & (counts < high)).all()):
        raise CheckpointError("Something in the checkpoint counts what cannot be; take another.")


def _check_actions(actions: Tensor, num_actions: int) -> None:
    if not bool(((actions >= 0) & (actions < num_actions)).all()):
        raise CheckpointError(
            f"The checkpoint holds actions outside 0..{num_actions - 1}; take another one."
        )
