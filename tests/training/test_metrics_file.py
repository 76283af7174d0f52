"""metrics.csv after a kill, and after a resume by another version."""

import csv
import math

import pytest

from fastdqn.training.metrics_file import MetricsFile
from fastdqn.training.report import COLUMNS


def full_row(env_steps):
    return {name: env_steps if name == "env_steps" else env_steps / 7 for name in COLUMNS}


def write_run(path, *env_steps):
    metrics = MetricsFile(path, COLUMNS)
    for step in env_steps:
        metrics.write(full_row(step))
    metrics.close()
    return path


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def steps_of(path):
    return [int(r["env_steps"]) for r in read(path)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "metrics.csv"


def test_rows_are_on_the_disk_at_once(path):
    metrics = MetricsFile(path, COLUMNS)
    assert read(path) == [] and path.read_text().startswith("env_steps,updates,")
    metrics.write({"env_steps": 16_777_217, "loss": 0.123456789, "q_mean": math.nan, "extra": 1})
    (got,) = read(path)
    assert got["env_steps"] == "16777217"  # integers are written in full
    assert got["loss"] == "0.1234568"
    assert got["q_mean"] == got["updates"] == ""  # nothing to report
    assert "extra" not in got
    metrics.close()
    assert [p.name for p in path.parent.iterdir()] == ["metrics.csv"]


def test_a_new_run_starts_anew(path):
    write_run(path, 10, 20)
    MetricsFile(path, COLUMNS).close()
    assert read(path) == []


@pytest.mark.parametrize(
    ("keep", "kept"), [(0, []), (19, [10]), (20, [10, 20]), (25, [10, 20]), (99, [10, 20, 30])]
)
def test_a_resumed_run_goes_on_from_its_checkpoint(path, keep, kept):
    before = read(write_run(path, 10, 20, 30))
    metrics = MetricsFile(path, COLUMNS, keep)
    assert (
        steps_of(path) == kept and read(path) == before[: len(kept)]
    )  # as they were, digit by digit
    metrics.write(full_row(keep + 1))
    metrics.close()
    assert steps_of(path) == [*kept, keep + 1]


def test_resuming_without_a_file_starts_one(path):
    MetricsFile(path, COLUMNS, 100).close()
    assert read(path) == []


def test_a_torn_last_line_is_dropped_wherever_it_is_torn(path):
    whole = write_run(path, 10, 20, 30).read_bytes()
    last = whole.rstrip().rfind(b"\n") + 1
    for end in range(last, len(whole) - 2):  # all but the line's end
        path.write_bytes(whole[:end])
        metrics = MetricsFile(path, COLUMNS, 1000)
        metrics.write(full_row(40))
        metrics.close()
        assert steps_of(path) == [10, 20, 40], whole[last:end]
        assert all(None not in r and None not in r.values() for r in read(path))


@pytest.mark.parametrize(
    "garbage",
    [b"\0" * 50 + b"\n", b"\xff\xfe,,\n", b"x" + b",1" * (len(COLUMNS) - 1) + b"\n", b"\n"],
)
def test_lines_that_are_no_rows_are_dropped(path, garbage):
    path.write_bytes(write_run(path, 10, 20).read_bytes() + garbage)
    MetricsFile(path, COLUMNS, 1000).close()
    assert steps_of(path) == [10, 20]


def test_an_empty_file_is_no_rows(path):
    path.write_bytes(b"")
    MetricsFile(path, COLUMNS, 1000).close()
    assert read(path) == []


def test_rows_with_other_columns_keep_what_fits(path):
    path.write_bytes(b"env_steps,gone,loss\r\n10,1,0.5\r\n20,2,0.25\r\n30,3,0.125\r\n")
    metrics = MetricsFile(path, ("env_steps", "loss", "new"), 20)
    metrics.write({"env_steps": 30, "new": 7})
    metrics.close()
    assert path.read_text().splitlines() == ["env_steps,loss,new", "10,0.5,", "20,0.25,", "30,,7"]
