"""Every logger gets every row, and one that fails costs nobody else anything."""

import errno
import math
import os
import warnings

import pytest
from helpers.short_runs import read_rows, scripted, tiny

from fastdqn.callbacks.callback_list import as_callbacks
from fastdqn.callbacks.guarded import Guarded
from fastdqn.callbacks.logger import Logger
from fastdqn.system.signals import StopSignals
from fastdqn.training.report import COLUMNS
from fastdqn.training.speed import TIME_COLUMNS, speeds
from fastdqn.training.trainer import Trainer

HEADER = (
    "env_steps,updates,episodes,return_mean,length_mean,epsilon,loss,td_error_abs,q_mean,"
    "eval_return_mean,env_steps_per_s,frames_per_s,updates_per_s,wall_s"
)
EVALUATIONS = "env_steps,updates,wall_s,episodes,mean,std,median,min,max,unfinished,final"


@pytest.fixture(autouse=True)
def no_picture(monkeypatch):
    monkeypatch.setattr("fastdqn.training.trainer.plot_returns", lambda *_, **__: None)


class Kept(Logger):
    """Keeps the rows; raises from the given one on."""

    def __init__(self, fails_at=math.inf, error=None):
        self.rows, self.closed = [], 0
        self.fails_at, self.error = fails_at, error

    def start(self, run):
        pass

    def write_evaluation(self, row):
        row.clear()

    def write(self, row):
        self.rows.append(dict(row))
        row.clear()  # nobody else's
        if len(self.rows) >= self.fails_at:
            raise self.error

    def close(self):
        self.closed += 1


def trainer_of(config, *loggers, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastdqn.training.parts.make_loggers", lambda names: [*map(Guarded, loggers)])
        return Trainer(config, scripted(), **options)


def run(config, *loggers, on_log=None, **options):
    trainer = trainer_of(config, *loggers, **options)
    try:
        with StopSignals() as signals:
            return trainer.run(as_callbacks([], on_log), signals)
    finally:
        trainer.close()


def as_text(rows):
    """As the file has them."""
    return [
        {
            name: "" if name not in row or row[name] != row[name]
            else str(row[name]) if isinstance(row[name], int) else f"{row[name]:.7g}"
            for name in COLUMNS
        }
        for row in rows
    ]  # fmt: skip


def test_each_gets_every_row_of_the_file(tmp_path):
    one, other, seen = Kept(), Kept(), []
    run(tiny(tmp_path), one, other, on_log=lambda row: seen.append(dict(row)))
    assert [row["env_steps"] for row in seen] == [120, 240]
    assert repr(one.rows) == repr(other.rows) == repr(seen)  # NaN is NaN
    assert as_text(seen) == read_rows(tmp_path)
    assert one.closed == other.closed == 1


def test_the_headers_are_composed_as_they_always_were(tmp_path):
    kept = Kept()
    config = tiny(tmp_path, eval_episodes=2, eval_period_env_steps=120)
    run(config, kept, eval_envs=scripted(2))
    for name, header in (("metrics.csv", HEADER), ("evaluations.csv", EVALUATIONS)):
        assert (tmp_path / name).read_text().splitlines()[0] == header
    assert [",".join(row) for row in kept.rows] == [HEADER] * 2  # no source has others to give


def test_a_row_is_in_the_file_before_a_logger_has_it(tmp_path):
    counted = []

    class Looks(Kept):
        def write(self, row):
            super().write(row)
            counted.append(len(read_rows(tmp_path)))

    run(tiny(tmp_path), Looks())
    assert counted == [1, 2]


@pytest.mark.parametrize("order", ["first", "last"])
def test_one_that_raises_is_named_once_and_gets_no_more(tmp_path, order):
    """Its own error counts, an OSError too: only the file's disk may come back."""
    bad, good = Kept(1, OSError(errno.ENOSPC, "full")), Kept()
    loggers = (bad, good) if order == "first" else (good, bad)
    config = tiny(tmp_path, total_env_steps=480)
    with pytest.warns(UserWarning, match="logger Kept gets no more rows .*full") as said:
        result = run(config, *loggers)
    assert len([w for w in said if "logger" in str(w.message)]) == 1
    assert result.summary["stopped_by"] == "total_env_steps"
    assert len(bad.rows) == 1 and bad.closed == 1
    assert as_text(good.rows) == read_rows(tmp_path) and len(good.rows) == 4


def test_where_warnings_are_errors_one_that_raises_ends_no_run(tmp_path, capsys):
    bad, good = Kept(1, ConnectionError("gone")), Kept()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(tiny(tmp_path), bad, good)
    assert result.summary["stopped_by"] == "total_env_steps"
    assert len(bad.rows) == bad.closed == 1
    assert as_text(good.rows) == read_rows(tmp_path) and len(good.rows) == 2
    assert capsys.readouterr().err.count("warning: The logger Kept gets no more rows") == 1


def test_a_refusing_disk_costs_the_others_no_row(tmp_path, monkeypatch, capsys):
    write, refusals = os.write, iter([True])

    def refuse_once(descriptor, data):
        if data.startswith(b"120,") and next(refusals, False):
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data)

    monkeypatch.setattr("fastdqn.training.metrics_file.os.write", refuse_once)
    kept = Kept()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(tiny(tmp_path), kept)
    assert as_text(kept.rows) == read_rows(tmp_path) and len(kept.rows) == 2
    assert capsys.readouterr().err.count("metrics.csv could not be written") == 1
    assert next(refusals, None) is None


def test_they_are_closed_if_the_run_fails_and_whatever_closing_raises(tmp_path):
    class Stubborn(Kept):
        def close(self):
            super().close()
            raise RuntimeError("never")

    def fail(row):
        raise KeyError("by design")

    stubborn, after = Stubborn(), Kept()
    with pytest.raises(KeyError, match="by design"):
        run(tiny(tmp_path), stubborn, after, on_log=fail)
    assert stubborn.closed == after.closed == 1
    unbegun = Kept()
    trainer_of(tiny(tmp_path / "other"), unbegun).close()
    assert unbegun.closed == 1


def test_a_run_resumed_by_a_version_with_other_columns_keeps_its_rows(tmp_path):
    config = tiny(tmp_path, learning_rate_final=None)
    run(config)
    first = read_rows(tmp_path)
    lines = [f"{row['env_steps']},{row['loss']},9" for row in first]
    (tmp_path / "metrics.csv").write_text("\n".join(["env_steps,loss,gone", *lines, ""]))
    kept = Kept()
    run(config.replace(total_env_steps=480, resume="require"), kept)
    rows = read_rows(tmp_path)
    assert tuple(rows[0]) == COLUMNS and [row["env_steps"] for row in rows[:2]] == ["120", "240"]
    for row, before in zip(rows, first, strict=False):
        assert row == dict.fromkeys(COLUMNS, "") | {n: before[n] for n in ("env_steps", "loss")}
    assert as_text(kept.rows) == rows[2:] and len(kept.rows) == 2  # only its own


def test_speeds_by_hand():
    got = speeds(600, 30, 1.5, 4)
    assert got == {"env_steps_per_s": 400.0, "frames_per_s": 1600.0, "updates_per_s": 20.0}
    assert {*got, "wall_s"} == {*TIME_COLUMNS}
    assert all(math.isfinite(x) for x in speeds(1, 1, 0.0, 1).values())


def test_what_closing_raises_is_said(tmp_path):
    class Late(Kept):
        def close(self):
            raise ConnectionError("the last rows are lost")

    with pytest.warns(UserWarning, match="logger Late may lack the newest rows .*rows are lost"):
        run(tiny(tmp_path), Late())


def test_two_that_raise_at_different_events_are_both_named(tmp_path):
    class AtEnd(Kept):
        def end(self, summary):
            raise OSError("at the end")

    early, late, good = Kept(1, OSError("at a row")), AtEnd(), Kept()
    with pytest.warns(UserWarning) as said:
        run(tiny(tmp_path), early, late, good)
    said = [str(w.message) for w in said if "The logger" in str(w.message)]
    assert [sentence.split("(")[0] for sentence in said] == [
        "The logger Kept gets no more rows ", "The logger AtEnd gets no more rows ",
    ]  # fmt: skip
    assert early.closed == late.closed == good.closed == 1 and len(good.rows) == 2
