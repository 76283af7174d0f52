"""Each service's own package, without a network: what a run logs is there, and goes on."""

import json
import os
import sqlite3
import subprocess
import sys
import time

import pytest
from helpers.short_runs import read_rows, scripted, tiny

from fastdqn import CheckpointError, Config, ConfigError, train
from fastdqn.callbacks.make_loggers import _LOGGERS, check_loggers, make_loggers
from fastdqn.callbacks.mlflow_logger import MLflowLogger
from fastdqn.runs.reader import read_evaluations
from fastdqn.training.trainer import Trainer


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__SERVICE_WAIT", "200")  # seconds; on a busy machine it takes some
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "mlruns"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr("fastdqn.training.trainer.plot_returns", lambda *_, **__: None)


def run(path, *names, **changes):
    config = tiny(
        path, logger=names, eval_episodes=2, eval_period_env_steps=120, learning_rate_final=None,
        **changes,
    )  # fmt: skip
    return train(config, envs=scripted(), eval_envs=scripted(2))


def expected(path, column, called):
    """By env steps, of a file of the run."""
    return {
        int(row["env_steps"]): pytest.approx(float(row[column]), rel=1e-5)
        for row in read_rows(path)
        if row[column]
    }


def check(path, figures, steps=(120, 240)):
    """``figures``: name -> {env steps: value}."""
    for column, called in {
        "return_mean": "rollout/return_mean",
        "epsilon": "rollout/epsilon",
        "loss": "train/loss",
        "updates": "train/updates",
        "env_steps_per_s": "time/env_steps_per_s",
    }.items():
        assert figures[called] == expected(path, column, called), called
    assert set(figures["train/learning_rate"]) == set(steps)
    assert all(value > 0 for value in figures["system/memory_resident_bytes"].values())
    evaluations = read_evaluations(path, {})
    assert figures["eval/return_mean"] == {
        int(row.env_steps): pytest.approx(row.mean, rel=1e-5)
        for row in evaluations
        if not row.final
    }
    (final,) = [row for row in evaluations if row.final and row.env_steps == steps[-1]]
    assert figures["final/return_mean"][steps[-1]] == pytest.approx(final.mean, rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = tmp_path / "run"
    run(path, "tensorboard")
    run(path, "tensorboard", total_env_steps=480, resume="require")
    found = EventAccumulator(str(path / "tensorboard")).Reload()
    figures = {
        name: {event.step: event.value for event in found.Scalars(name)}
        for name in found.Tags()["scalars"]
    }
    check(path, figures, (120, 240, 360, 480))
    text = found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "|num_envs|4|" in text
    assert (
        "_hparams_/session_start_info" in found.Tags()["tensors"]
        or (found.summary_metadata["_hparams_/session_start_info"])
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("store", ["file", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_mlflow(tmp_path, monkeypatch, store):
    from mlflow.tracking import MlflowClient

    if store == "sqlite":  # its default, whose tables take 8 s to make
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
    path = tmp_path / "run"
    run(path, "mlflow")
    run(path, "mlflow", total_env_steps=480, resume="require")
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("fastdqn").experiment_id])
    assert found.info.status == "FINISHED" and found.info.run_name == "run"
    assert found.data.params["num_envs"] == "4"
    figures = {
        name: {m.step: m.value for m in client.get_metric_history(found.info.run_id, name)}
        for name in found.data.metrics
    }
    check(path, figures, (120, 240, 360, 480))
    assert [f.path for f in client.list_artifacts(found.info.run_id)] == ["summary.json"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_trackio(tmp_path, monkeypatch):
    import trackio

    from fastdqn.callbacks import trackio_logger  # noqa: F401

    monkeypatch.setattr("trackio.utils.TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path / "trackio")
    path = tmp_path / "run"
    run(path, "trackio")
    assert trackio.context_vars.current_run.get() is None
    (database,) = (tmp_path / "trackio").glob("fastdqn*.db")
    with sqlite3.connect(database) as connection:
        rows = connection.execute("select step, metrics from metrics").fetchall()
        ((settings,),) = connection.execute("select config from configs").fetchall()
    figures = {}
    for step, text in rows:
        for name, value in json.loads(text).items():
            figures.setdefault(name, {})[step] = value
    check(path, figures)
    assert json.loads(settings)["num_envs"] == 4


def log_records(data):
    """Of a log in LevelDB's format: blocks of 32 KiB, records with a header of 7 bytes."""
    place, parts = 7, []  # behind the file's own header
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        if kind == 0 or place + 7 + length > len(data):  # not written to its end yet
            return
        parts.append(data[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@pytest.mark.filterwarnings("ignore")
def test_wandb(tmp_path):
    from wandb.proto import wandb_internal_pb2

    path = tmp_path / "run"
    run(path, "wandb")
    (file,) = path.glob("wandb/offline-run-*/run-*.wandb")
    figures, settings, code = {}, {}, None
    until = time.monotonic() + 60  # its service may write on for a moment
    while code is None and time.monotonic() < until:
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "history":
                row = {item.key or "/".join(item.nested_key): json.loads(item.value_json)
                       for item in record.history.item}  # fmt: skip
                for name, value in row.items():
                    figures.setdefault(name, {})[row["env_steps"]] = value
            elif record.WhichOneof("record_type") == "run":
                settings |= {x.key: x.value_json for x in record.run.config.update}
            elif record.WhichOneof("record_type") == "exit":
                code = record.exit.exit_code
    check(path, figures)
    assert settings["num_envs"] == "4" and code == 0


@pytest.mark.parametrize("name", list(_LOGGERS))
def test_a_missing_package_is_refused_before_anything_is_made(tmp_path, name, monkeypatch):
    monkeypatch.setattr("fastdqn.callbacks.make_loggers.find_spec", lambda package: None)
    extra = _LOGGERS[name][1]
    with pytest.raises(ConfigError, match=rf"logger = {name} .*pip install 'fastdqn\[{extra}\]'"):
        train(tiny(tmp_path / "run", logger=(name,)), envs=scripted())
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError):
        check_loggers([name])


def test_a_service_that_cannot_be_reached_costs_a_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "no-such-scheme://nowhere")
    with pytest.warns(UserWarning, match="The logger MLflowLogger gets no more rows"):
        result = run(tmp_path / "run", "mlflow")
    assert result.summary["stopped_by"] == "total_env_steps"


@pytest.mark.filterwarnings("ignore")
def test_a_run_that_fails_is_failed_there_too(tmp_path):
    from mlflow.tracking import MlflowClient

    def fail(row):
        raise KeyError("by design")

    config = tiny(tmp_path / "run", logger=("mlflow",))
    with pytest.raises(KeyError):
        train(config, envs=scripted(), on_log=fail)
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("fastdqn").experiment_id])
    assert found.info.status == "FAILED"


def test_no_logger_is_made_that_nobody_names(tmp_path):
    assert make_loggers(()) == []
    assert Config().logger == ()
    trainer = Trainer(tiny(tmp_path / "run"), scripted())
    trainer.close()
    assert trainer.loggers == [] and issubclass(CheckpointError, ValueError)


@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_store_does_not_know_it_begins_anew_there(tmp_path, monkeypatch):
    """As where its directory was moved to another machine."""
    from mlflow.tracking import MlflowClient

    path = tmp_path / "run"
    run(path, "mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(tmp_path / "other"))
    run(path.rename(tmp_path / "moved"), "mlflow", total_env_steps=480, resume="require")
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("fastdqn").experiment_id])
    assert found.info.status == "FINISHED"
    steps = [m.step for m in client.get_metric_history(found.info.run_id, "train/loss")]
    assert steps == [360, 480]


@pytest.mark.filterwarnings("ignore")
def test_a_run_whose_last_figures_do_not_arrive_is_not_left_running(tmp_path, monkeypatch):
    from mlflow.tracking import MlflowClient

    class Lost:
        def wait(self):
            raise ConnectionError("gone")

    class LosesTheLast(MLflowLogger):
        def end(self, summary):
            super().end(summary)
            self._sending = Lost()

    monkeypatch.setattr("fastdqn.callbacks.mlflow_logger.MLflowLogger", LosesTheLast)
    with pytest.warns(UserWarning, match="LosesTheLast may lack the newest rows .*gone"):
        run(tmp_path / "run", "mlflow")
    client = MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("fastdqn").experiment_id])
    assert found.info.status == "FINISHED"


def test_trackio_goes_on_under_the_name_that_the_run_had(tmp_path, monkeypatch):
    named = []

    class Opened:
        def log(self, figures, step):
            pass

    def init(*, name, resume, **_):
        named.append((name, resume))
        return Opened()

    monkeypatch.setattr("trackio.init", init)
    monkeypatch.setattr("trackio.finish", lambda: None)
    run(tmp_path / "run", "trackio")
    moved = (tmp_path / "run").rename(tmp_path / "moved")
    run(moved, "trackio", total_env_steps=480, resume="require")
    assert named == [("run", "never"), ("run", "allow")]


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals to make")
def test_on_a_terminal_wandb_asks_nothing(tmp_path, monkeypatch):
    """Its question, below a live display, would have the run wait for ever."""
    for name in ("WANDB_MODE", "WANDB_SILENT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    code = """
import sys
from fastdqn.callbacks.wandb_logger import _no_questions
import wandb
from wandb.errors import term
assert sys.stdin.isatty() and term.can_use_terminput()
with _no_questions():
    try:
        wandb.login(key=None, relogin=True, verify=False)
    except wandb.errors.UsageError as error:
        assert "wandb login" in str(error)
    else:
        raise AssertionError("it did not raise")
assert sys.stdin.isatty()
"""
    ours, theirs = os.openpty()
    done = subprocess.run(
        [sys.executable, "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, timeout=120
    )
    os.close(theirs)
    assert done.returncode == 0, os.read(ours, 10_000).decode()
    os.close(ours)
