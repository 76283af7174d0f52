"""What the standard streams show: warnings like errors, and nothing after stdout is lost."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def drop_stdout() -> bool:
    """If stdout takes no more, let the rest go nowhere: Python would flush and complain at exit."""
    try:
        print(flush=True)  # an unbuffered one has nothing left to flush
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Our own warnings as one sentence each, like errors; those of others as Python shows them."""
    original = warnings.formatwarning
    ours = str(Path(__file__).parents[1])

    def plain(
        message: Warning | str, category: type[Warning], filename: str, *rest: Any, **more: Any
    ) -> str:
        if filename.startswith(ours):
            return f"fastdqn: warning: {' '.join(str(message).split())}\n"
        return original(message, category, filename, *rest, **more)

    warnings.formatwarning = plain  # type: ignore[assignment]
    try:
        yield
    finally:
        warnings.formatwarning = original
