"""Systems that lack what Linux has: a run works without, or says in a sentence what is missing."""

import json
import multiprocessing
import signal

import gymnasium
import pytest
from helpers import platforms
from helpers.command_line import python

from fastdqn.envs import failures, make

# What stderr may say of an absence.
SAID = {
    "no_fcntl": "has no locks (fcntl is unavailable)",
    "no_opening_of_directories": "has no fsync for directories (Permission denied)",
    "no_fsync_of_directories": "has no fsync for directories (Bad file descriptor)",
    "everything_that_windows_lacks": "has no fsync for directories (Permission denied)",
    "everything_that_a_share_or_a_container_lacks": "has no fsync for directories",
}
SYSTEMS = [name for name in platforms.ABSENCES if name.startswith("everything")]


def reports_of(names, folder):
    done = python(platforms.__file__, str(folder), *names)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(name, report):
    assert "traceback" not in report, report["traceback"]
    printed = report["printed"]
    assert "Traceback" not in printed, printed
    assert (report["first"], report["resumed"], report["stopped"]) == (0, 0, "SIGINT"), printed
    assert report["checkpoints"] == ["step_000000000300", "step_000000000400"]
    assert not [file for file in report["files"] if file.endswith(".tmp")]
    rows = report["metrics"].split("\r\n")  # not one more, nor another line end
    assert [row.partition(",")[0] for row in rows] == ["env_steps", "100", "200", "300", "400", ""]
    assert not {"\r", "\n"} & set("".join(rows))
    warnings = [line for line in printed.splitlines() if line.startswith("fastdqn: warning: ")]
    if name in SAID:
        assert SAID[name] in "".join(warnings)
    else:
        assert warnings == []
    assert report["cpus"] >= 1


@pytest.fixture(scope="module")
def systems(tmp_path_factory):
    return reports_of(SYSTEMS, tmp_path_factory.mktemp("systems"))


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_run_goes_on_and_stops_where_all_is_absent_that_a_system_lacks(systems, name):
    check(name, systems[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in platforms.ABSENCES if name not in SYSTEMS])
def test_a_run_goes_on_and_stops_without(name, tmp_path):
    check(name, reports_of([name], tmp_path)[name])


@pytest.mark.parametrize(
    ("methods", "context"),
    [(["spawn"], "spawn"), (["fork", "spawn"], "spawn"), (["fork", "forkserver"], "forkserver")],
)
def test_workers_start_by_a_method_that_there_is(monkeypatch, methods, context):
    def make_vec(env_id, num_envs, vectorization_mode, vector_kwargs):
        assert vector_kwargs == {"context": context}
        return gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make(env_id)] * num_envs)

    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: methods)
    monkeypatch.setattr(gymnasium, "make_vec", make_vec)
    make.make_envs("CartPole-v1", 2, vectorization="async").close()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (-int(signal.SIGTERM), "was killed by SIGTERM"),
        (-250, "was killed by signal 250"),
        (3, "ended with exit code 3"),
    ],
)
def test_a_worker_may_end_by_a_signal_that_has_no_name_here(code, words):
    assert failures._end(code) == words
