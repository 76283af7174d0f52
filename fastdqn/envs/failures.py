"""Which env failed, and why: from whatever a VectorEnv raises to one sentence."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from multiprocessing.connection import wait
from types import TracebackType

from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from fastdqn.errors import EnvFailure, FastDQNError

_LAST_WORDS_S = 1.0  # a worker whose pipe has broken is about to end


class named:
    """Turns what an env raises into EnvFailure, which names the env and the place in its code.

    Args:
        envs: Whose code runs.
        call: ``step`` or ``reset``.
        timeout_s: What the call was given.
    """

    __slots__ = ("call", "envs", "timeout_s")

    def __init__(self, envs: VectorEnv, call: str, timeout_s: float | None) -> None:
        self.envs, self.call, self.timeout_s = envs, call, timeout_s

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, FastDQNError):
            raise EnvFailure(_sentence(self.envs, self.call, self.timeout_s, error)) from error


def _sentence(envs: VectorEnv, call: str, timeout_s: float | None, error: Exception) -> str:
    base = envs.unwrapped
    if isinstance(base, AsyncVectorEnv):
        if isinstance(error, multiprocessing.TimeoutError):
            waiting = [i for i, pipe in enumerate(base.parent_pipes) if pipe and not pipe.poll(0)]
            which = f"Env {waiting[0]}" if len(waiting) == 1 else f"One of the envs {waiting}"
            return (
                f"{which} of {envs} gave no answer to a {call} within {timeout_s} s; its worker "
                f"hangs, or step_timeout_s is too short for this env."
            )
        if isinstance(error, OSError | EOFError):
            # A message that was not sent, kept by the traceback until garbage is collected, ends
            # some versions of Python there (gh-111049).
            traceback.clear_frames(error.__traceback__)
            wait([process.sentinel for process in base.processes], _LAST_WORDS_S)
            for i, process in enumerate(base.processes):
                if (code := process.exitcode) is not None:
                    return (
                        f"The worker process of env {i} of {envs} {_end(code)} in a {call}; look "
                        f"for a crash in the env's own libraries, or for too little memory "
                        f"(workers are the first that the kernel kills)."
                    )
        # Gymnasium closes the pipe of a worker whose env has raised, and logs its traceback.
        raised = [i for i, pipe in enumerate(base.parent_pipes) if pipe is None]
        where = "; its traceback is above"
    else:
        raised = _index_in_sync(error)
        where = _place(error)
    which = f"Env {raised[0]}" if raised else "An env"
    why = " ".join(str(error).split()) or "no reason given"
    return (
        f"{which} of {envs} failed in a {call} ({type(error).__name__}: {why}{where}); mend the "
        f"env, or wrap it in one that catches this and ends the episode."
    )


def _index_in_sync(error: Exception) -> list[int]:
    """The env that a SyncVectorEnv was at, from its own loop variable."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(frame.f_locals.get("self"), SyncVectorEnv) and "i" in frame.f_locals:
            return [int(frame.f_locals["i"])]
    return []


def _place(error: Exception) -> str:
    """The line that raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""


def _end(code: int) -> str:
    if code < 0:
        names = {number.value: number.name for number in signal.Signals}  # real-time ones have none
        return f"was killed by {names.get(-code, f'signal {-code}')}"
    return f"ended with exit code {code}"
