"""What a run does when the machine under it fails: full disks and too little memory."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator

from fastdqn.errors import CheckpointError, FastDQNError

_MEMORY_WORDS = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed: numpy's error, CUDA's, or torch's on a CPU."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in _MEMORY_WORDS)


@contextlib.contextmanager
def explain_out_of_memory(kind: type[FastDQNError], sentence: str) -> Iterator[None]:
    """Turn a failed allocation into ``kind`` with a sentence that names the fix."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        why = (str(error).strip().splitlines() or ["no reason given"])[0]
        raise kind(f"{sentence} ({why})") from error


def warn_safely(sentence: str, *, stacklevel: int) -> None:
    """A warning that ends no run, even where the caller's filters make errors of warnings.

    Args:
        sentence: To say.
        stacklevel: As of ``warnings.warn``, called where this is.
    """
    try:
        warnings.warn(sentence, stacklevel=stacklevel + 1)
    except Warning:
        with contextlib.suppress(OSError, ValueError):
            print(f"fastdqn: warning: {sentence}", file=sys.stderr, flush=True)


class DiskFaults:
    """Lets a run go on where the disk refuses; says so once per kind of file.

    What could not be written in the last attempt is in :attr:`failed`.
    """

    def __init__(self) -> None:
        self.failed: dict[str, str] = {}
        """Reason by kind of file; empty again once a later attempt succeeds."""
        self._said: set[str] = set()

    @contextlib.contextmanager
    def survived(self, what: str) -> Iterator[None]:
        """Within this, a file that cannot be written costs a sentence on stderr."""
        try:
            yield
        except (CheckpointError, OSError) as error:
            why = " ".join(str(error).split()).rstrip(".")
            self.failed[what] = why
            if what not in self._said:
                self._said.add(what)
                with contextlib.suppress(OSError, ValueError):  # stderr may be on the same disk
                    print(
                        f"fastdqn: warning: {what} could not be written: {why}; the run goes on, "
                        f"and what was written before is intact.",
                        file=sys.stderr,
                        flush=True,
                    )
        else:
            self.failed.pop(what, None)
