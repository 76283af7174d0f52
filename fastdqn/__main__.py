"""The ``fastdqn`` command, also as ``python -m fastdqn``.

Signals are looked after before anything slow is imported, and until the process is gone: one that
comes outside a run ends the process at once, with its exit code and without a traceback.
"""

import io
import sys

from fastdqn.system.signals import exit_at_once_from_now_on


def main() -> int:
    """Run the command line of this process; the exit code."""
    exit_at_once_from_now_on()
    if not sys.flags.safe_path:  # as python -m does: a script has its own directory there
        sys.path.insert(0, "")  # and --env-id my_module:MyEnv-v0 would find no my_module.py
    for stream in (sys.stdout, sys.stderr):  # letters that one lacks, as in a path, come in others
        if isinstance(stream, io.TextIOWrapper):  # not closed, and no notebook's
            stream.reconfigure(errors="backslashreplace")
    from fastdqn.cli import main

    return main.main()


if __name__ == "__main__":
    raise SystemExit(main())
