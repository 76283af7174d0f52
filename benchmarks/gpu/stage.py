"""``python -m benchmarks.gpu.stage NAME FILE``: one stage, as the driver starts it."""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

from benchmarks.gpu.stages import STAGES

DEVICE_LOST = 75  # exit code: what is left can be measured by a new process


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("stage", choices=list(STAGES))
    parser.add_argument("file", type=Path, help="what it has found; goes on with what is there")
    parser.add_argument("--limit", type=float, required=True, help="seconds")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--retry", action="store_true", help="try again what has failed before")
    args = parser.parse_args()
    ends = time.monotonic() + args.limit  # before torch is imported
    from benchmarks.gpu.session import DeviceLostError, Session

    warnings.simplefilter("default")
    session = Session(args.file, ends, smoke=args.smoke, retry=args.retry)
    try:
        STAGES[args.stage].run(session)
    except DeviceLostError as error:
        print(f"The device is lost to this process: {error}", flush=True)
        return DEVICE_LOST
    session.end()
    return 0


if __name__ == "__main__":
    sys.exit(main())
