"""Playing with a trained agent, guarded as a run is: a hang ends it, a signal stops it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch

from fastdqn import assembly, saved_policy
from fastdqn.config import Config
from fastdqn.envs import EnvStream
from fastdqn.errors import EnvFailure
from fastdqn.policy import Policy
from fastdqn.signals import StopSignals
from fastdqn.watchdog import Watchdog


@contextlib.contextmanager
def playing(
    run: str, config: Config, *, num_envs: int, checkpoint: int | str | None = None
) -> Iterator[tuple[Policy, EnvStream, Callable[[], bool]]]:
    """The policy of a run, evaluation envs, and the ``stop`` to ask before every step.

    Envs that do not return within ``config.step_timeout_s`` end the process (exit code 70).

    Args:
        run: Run directory, or one of its checkpoints.
        config: That of the run, changed as the caller likes.
        num_envs: Envs to play in; they are closed at the end.
        checkpoint: Which of the run's; see :func:`fastdqn.load`.

    Raises:
        Stopped: Out of ``stop`` and at the end, where a signal has come.
    """

    def stop() -> bool:
        signals.leave_if_asked()
        return False

    threads = torch.get_num_threads()
    with StopSignals("stopping after this step") as signals:
        try:
            policy = saved_policy.load(run, device=config.device, checkpoint=checkpoint)
            assembly.set_up_torch(config, policy.network, policy.device)
            with Watchdog(config.step_timeout_s, lambda: signals.name) as dog:
                envs = assembly.make_stream(config, num_envs=num_envs, evaluation=True)
                envs = dog.watched(envs, config.env_id)
                try:
                    yield policy, envs, stop
                finally:
                    envs.close()
        except EnvFailure:
            if not signals.came():
                raise
        finally:
            torch.set_num_threads(threads)
    signals.leave_if_asked()
