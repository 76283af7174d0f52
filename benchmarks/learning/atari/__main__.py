"""Atari learned, and held against published curves and scores: each row a preset and a game.

python -m benchmarks.learning.atari                             # every row, its seeds
python -m benchmarks.learning.atari --only dqn-breakout --seeds 1 2 --jobs 2
python -m benchmarks.learning.atari --report                    # table and picture of what is there
python -m benchmarks.learning.atari --smoke                     # a minute, no claim

A run is ``fastdqn train`` on one CPU thread (several side by side with --jobs), an hour or two
long, in a directory of its own below --runs. One that is stopped by a signal goes on when it is
asked for again. The result file is written as each run ends and keeps the rows of earlier calls: a
run that is in it with the same configuration is not repeated unless --again says so.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.learning import jobs
from benchmarks.learning.atari.picture import draw
from benchmarks.learning.atari.rows import ROWS
from benchmarks.learning.atari.runs import is_done, run
from benchmarks.learning.atari.table import table
from benchmarks.result_file import RESULTS


def main(argv: list[str] | None = None) -> None:
    parser = jobs.parser("benchmarks.learning.atari", __doc__.splitlines()[0], list(ROWS))
    parser.add_argument("--runs", default="runs/atari", help="where the run directories are")
    parser.add_argument("--picture", help="where to draw the rows of --only")
    parser.set_defaults(seeds=None)
    args = parser.parse_args(argv)
    if args.smoke:
        smoke(args.only)
        return
    one = functools.partial(run, runs=Path(args.runs))
    configs = {name: row.config for name, row in ROWS.items()}
    seeds = {name: args.seeds or row.seeds for name, row in ROWS.items()}
    rows = jobs.measure("atari", args, one, configs, "value", seeds=seeds, done=is_done)
    path = Path(args.out) if args.out else RESULTS / "atari.json"
    if args.picture:
        print(draw([row for row in rows if row["task"] in args.only], Path(args.picture)))
        return
    picture = draw(rows, path.with_suffix(".png"))  # first: a reader may close its pipe
    print(f"{table(rows)}\n\n{picture}")


def smoke(names: list[str]) -> None:
    """Go through everything of each row, but for learning."""
    rows: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            short = jobs.shortened(ROWS[name].config).replace(
                log_period_env_steps=320, epsilon_duration_env_steps=128
            )
            rows.append(run(name, 1, Path(scratch), short))
            print(f"{name}: {rows[-1]['updates']} updates, {rows[-1]['wall_s']:.1f} s", flush=True)
        draw(rows, Path(scratch) / "atari.png")


if __name__ == "__main__":
    main()
