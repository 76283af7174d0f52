"""What a run of the bench tells people: the machine, rows as they come, and what they mean."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from fastdqn.bench.case import Case
from fastdqn.bench.columns import busy, legend
from fastdqn.bench.load import is_busy
from fastdqn.bench.result import ResultFile
from fastdqn.bench.screen import Screen
from fastdqn.bench.table import Tables, checked, unmeasured
from fastdqn.system.host import usable_cpus

Record = dict[str, Any]


class Report:
    """Everything that is shown and kept while cases run.

    Args:
        screen: Where rows go.
        chosen: All cases of the run.
        file: Of the result.
    """

    def __init__(self, screen: Screen, chosen: Sequence[Case], file: ResultFile) -> None:
        self.screen, self.file = screen, file
        self._tables = Tables(chosen, screen.width)
        settings = file.result["settings"]
        self._smoke, self._rounds = settings["smoke"], settings["rounds"]
        self._place: tuple[int, str] | None = None  # round and group of the last row

    def begin(self, headline: Sequence[str]) -> None:
        """The machine."""
        for line in headline:
            self.screen.write(line)
        if self._smoke:
            self.screen.write("smoke run: every kind of case once at a tiny size, for its check")

    def ended(self, fresh: list[Record], so_far: list[Record], number: int) -> None:
        """Keep and show what a family gave."""
        self.file.keep(so_far)
        if self._smoke:
            return
        if self._rounds > 1 and (self._place is None or self._place[0] != number):
            over = ": figures over all rounds so far" if number else ""
            self.screen.write("")
            self.screen.write(f"round {number + 1} of {self._rounds}{over}", "bold")
        for record in fresh:
            if record["status"] == "skipped":
                continue  # with its like at the end
            place = (number, self._tables.group_of(record))
            if place != self._place:
                title, header = self._tables.head(place[1])
                self.screen.write("")
                self.screen.write(title, "bold")
                self.screen.write(header, "dim")
            self._place = place
            style = "red" if record["status"] == "failed" else ""
            style = style or ("magenta" if record["group"] == "peer" else "")
            self.screen.write(self._tables.row(record), style)

    def end(self, *, complete: bool = False) -> None:
        """What the columns mean, what was not measured, and how quiet the machine was."""
        records: list[Record] = self.file.result["cases"]
        self.file.keep(records, complete=complete)
        done = [record for record in records if record["status"] == "ok"]
        lines = checked(records) if self._smoke else self._legend(done)
        lines = ["", *lines] if lines else []
        notes = unmeasured(records, "skipped") + unmeasured(records, "failed")
        lines += ["", *notes] if notes else []
        lines += ["", *self._count(done, complete)]
        lines += [] if self._smoke else quiet(done)
        for line in lines:
            self.screen.write(line)
        self.file.close()

    def _legend(self, done: Sequence[Record]) -> list[str]:
        lines = legend(self._tables.shown(done), marked=any(map(busy, done)))
        if done and self._tables.left_out:
            names = ", ".join(dict.fromkeys(self._tables.left_out))
            lines.append(f"left out of so narrow a terminal: {names}; --json has all")
        return lines

    def _count(self, done: Sequence[Record], complete: bool) -> list[str]:
        result = self.file.result
        said = f"measured {len(done)} of {result['cases_planned']} cases"
        said += f" in {result['wall_s']:.0f} s"
        often = [len(record["rounds_us"]) for record in done]
        if not complete:
            said = f"stopped: {said}"
            if self._rounds > 1:
                all_rounds = sum(n == self._rounds for n in often)
                said += f", {all_rounds} of them in all {self._rounds} rounds"
        return [f"{said}, begun {result['date']}"]


def quiet(done: Sequence[Record]) -> list[str]:
    """A line on what other processes did while cases were timed."""
    laps = [lap for record in done for lap in record["other_cpus"] if lap is not None]
    if not laps:
        return []
    said = (
        f"other processes kept {statistics.fmean(laps):.2f} of {usable_cpus()} CPUs busy while "
        f"cases were timed"
    )
    doubtful = sum(map(busy, done))
    if not any(map(is_busy, laps)):
        return [said]
    return [f"{said}: {doubtful} of {len(done)} times are doubtful (!); measure on an idle machine"]
