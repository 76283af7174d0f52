"""The ``fastdqn`` command, also as ``python -m fastdqn``.

Signals are looked after before anything slow is imported, and until the process is gone: one that
comes outside a run ends the process at once, with its exit code and without a traceback.
"""

from fastdqn.system.signals import exit_at_once_from_now_on


def main() -> int:
    """Run the command line of this process; the exit code."""
    exit_at_once_from_now_on()
    from fastdqn.cli import main

    return main.main()


if __name__ == "__main__":
    raise SystemExit(main())
