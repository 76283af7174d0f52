"""Playing with a trained agent, guarded as a run is: a hang ends it, a signal stops it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from fastdqn.acting.policy import Policy
from fastdqn.config.config import Config
from fastdqn.config.seeds import eval_seed
from fastdqn.envs import EnvStream
from fastdqn.envs.rendered import RenderMode
from fastdqn.envs.watched import watched
from fastdqn.errors import EnvFailure
from fastdqn.system.default_generators import DefaultGenerators
from fastdqn.system.process_state import flush_denormals, torch_as_before
from fastdqn.system.signals import StopSignals
from fastdqn.system.watchdog import Watchdog
from fastdqn.training import build, filming, load


@contextlib.contextmanager
def playing(
    run: str,
    config: Config,
    *,
    num_envs: int = 1,
    checkpoint: int | str | None = None,
    render_mode: RenderMode | None = None,
) -> Iterator[tuple[Policy, EnvStream, Callable[[], bool]]]:
    """The policy of a run, evaluation envs, and the ``stop`` to ask before every step.

    For commands, which have their process to themselves. Envs that do not return within
    ``config.step_timeout_s`` end it (exit code 70).

    Args:
        run: Run directory, or one of its checkpoints.
        config: That of the run, changed as the caller likes.
        num_envs: Envs to play in; they are closed at the end.
        checkpoint: Which of the run's; see :func:`fastdqn.load`.
        render_mode: The envs are one, a :class:`fastdqn.envs.rendered.RenderedEnv`.

    Raises:
        Stopped: Out of ``stop`` and at the end, where a signal has come.
    """

    def stop() -> bool:
        signals.leave_if_asked()
        return False

    with StopSignals("stopping after this step") as signals:
        try:
            policy = load.load(run, device=config.device, checkpoint=checkpoint)
            build.keep_memory_for(policy.network, policy.device)
            with (
                torch_as_before(policy.device),
                Watchdog(config.step_timeout_s, lambda: signals.name) as dog,
            ):
                build.set_up_torch(config, policy.network, policy.device)
                flush_denormals()  # as the run did
                if render_mode is not None:
                    envs: EnvStream = filming.make_rendered(config, render_mode)
                else:
                    envs = build.make_stream(config, num_envs=num_envs, evaluation=True)
                envs = watched(envs, dog, config.env_id)
                try:
                    DefaultGenerators(policy.device).seed(eval_seed(config))
                    yield policy, envs, stop
                finally:
                    envs.close()
        except EnvFailure:
            if not signals.came():
                raise
    signals.leave_if_asked()
