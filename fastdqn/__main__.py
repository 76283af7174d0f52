"""``python -m fastdqn``: the same as the ``fastdqn`` command."""

from fastdqn.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
