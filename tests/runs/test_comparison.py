"""``fastdqn compare``: what differs between runs, and what they came to, read by hand."""

import json
import os
import re
import subprocess
import sys

import pytest

from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.runs.comparison import differences, not_recorded, read_account
from fastdqn.training.report import COLUMNS

EVALUATIONS = "env_steps,updates,wall_s,episodes,mean,std,median,min,max,unfinished,final\n"
HOST = {"platform": "Linux", "cpu": "A CPU", "memory_total_bytes": 64_000_000_000, "gpus": []}
SESSION = {
    "started": "2026-01-02T03:04:05Z", "from_env_steps": 0, "command": ["fastdqn", "train"],
    "host": HOST, "device": "A CPU", "precision": "fp32", "mode": "compile",
    "updates_per_launch": 1, "torch_threads": 2, "git_commit": "0" * 40, "git_dirty": False,
    "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
}  # fmt: skip
RECORD = {
    "format_version": 1,
    "envs": {"made_from_config": True, "name": "CartPole-v1", "class": "CartPoleEnv",
             "module": "gymnasium.envs", "num_envs": 8, "wrappers": ["TimeLimit"]},
    "network": {"made_from_config": True, "class": "QNetwork", "parameters": 10},
    "sessions": [SESSION],
}  # fmt: skip
SUMMARY = {
    "stopped_by": "total_env_steps", "env_steps": 1_600, "updates": 160, "episodes": 12,
    "train_return_mean": 33.25, "eval_return_mean": 39.0, "eval_return_std": 1.0,
    "eval_episodes": 20, "solved": False, "wall_s": 75.5, "env_steps_per_s": 1_234.5,
    "updates_per_s": 98.7, "started": SESSION["started"], "ended": "2026-01-02T03:05:21Z",
}  # fmt: skip


def write(path, *, record=None, summary=None, rows=(), evaluations="", **settings):
    """A run directory; rows are (env_steps, return, updates, env steps/s, wall_s)."""
    path.mkdir()
    (path / "config.json").write_text(Config(**settings, run_dir=str(path)).to_json())
    for name, body in (("run.json", record), ("summary.json", summary)):
        if body is not None:
            (path / name).write_text(json.dumps(body))
    names = ("env_steps", "return_mean", "updates", "env_steps_per_s", "wall_s")
    lines = [",".join(COLUMNS)]
    for row in rows:
        cells = dict(zip(names, row, strict=True))
        lines.append(",".join(str(cells.get(name, "")) for name in COLUMNS))
    (path / "metrics.csv").write_text("\n".join(lines) + "\n")
    if evaluations:
        (path / "evaluations.csv").write_text(EVALUATIONS + evaluations)
    return path


ROWS = [(800, 20, 80, 400, 3), (1600, 33.25, 160, 100, 13)]
PLAYED = "800,80,1.5,10,20.5,2,20,17,24,0,0\n1600,160,5.5,20,39,1,38,37,50,3,1\n"


def changed(record, *, session=None, **parts):
    body = {**record, **{name: {**record[name], **new} for name, new in parts.items()}}
    return {**body, "sessions": [{**SESSION, **(session or {})}]}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Three ages: with every file, in progress, and of a version that left fewer files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write(tmp_path / "whole", record=RECORD, summary=SUMMARY, rows=ROWS, evaluations=PLAYED)
    record = changed(
        RECORD,
        session={"precision": "bf16", "command": ["fastdqn", "train", "--seed", "2"],
                 "git_commit": "f" * 40, "host": {**HOST, "cpu": "Another"}},
        envs={"class": "MyEnv", "made_from_config": False, "wrappers": []},
        network={"parameters": 12},
    )  # fmt: skip
    write(tmp_path / "going", record=record, rows=ROWS, evaluations=PLAYED[:34], seed=2,
          learning_rate=0.5)  # fmt: skip
    older = {key: SUMMARY[key] for key in SUMMARY if key not in ("started", "ended")}
    versions = {"versions": {"python": "3.11.7", "torch": "2.11.0"}, "precision": "fp32"}
    write(tmp_path / "older", summary={**older, **versions}, rows=ROWS, n_step=1)
    return [read_account(tmp_path / name) for name in ("whole", "going", "older")]


def table(capsys):
    """The sentence above, and the rows of the tables: section and label to the cells."""
    said, _, rest = capsys.readouterr().out.partition("\n\n")
    found, section = {}, ""
    for line in rest.splitlines():
        if line and not line.startswith(" "):
            section = line
        elif line.strip():
            label, *cells = [cell for cell in line.strip().split("  ") if cell]
            found.setdefault((section, label), []).extend(cell.strip() for cell in cells)
    return said.replace("\n", " "), found


def test_what_differs_is_found_and_what_is_the_same_is_not(runs):
    whole, going, older = runs
    found = differences([whole, going])
    assert found == {
        "settings": {
            "seed": [1, 2], "learning_rate": [Config().learning_rate, 0.5],
        },
        "resolved": {"precision": ["fp32", "bf16"]},
        "envs": {"made_from_config": [True, False], "class": ["CartPoleEnv", "MyEnv"],
                 "wrappers": [["TimeLimit"], []]},
        "network": {"parameters": [10, 12]},
        "code": {"git_commit": ["0" * 40, "f" * 40]},
        "host": {"cpu": ["A CPU", "Another"]},
        "start": {"command": [["fastdqn", "train"], ["fastdqn", "train", "--seed", "2"]]},
    }  # fmt: skip
    assert not_recorded([whole, going]) == {}
    # One that says nothing of a section differs in nothing there.
    found = differences([whole, older])
    assert set(found) == {"settings", "resolved", "versions"}
    assert found["versions"] == {"torch": ["2.13.0+cpu", "2.11.0"]}
    lacking = not_recorded([whole, older])
    assert set(lacking) == {"envs", "network", "code", "host", "start"}
    assert lacking["envs"] == [False, True]


def test_results_of_a_finished_run(runs):
    results = runs[0].results
    assert results["evaluation"] == {
        "env_steps": 1600, "mean": 39, "std": 1, "median": 38, "min": 37, "max": 50,
        "updates": 160, "wall_s": 5.5, "episodes": 20, "unfinished": 3, "final": True,
    }  # fmt: skip
    same = ("stopped_by", "env_steps", "updates", "episodes", "wall_s", "env_steps_per_s",
            "updates_per_s", "train_return_mean", "solved", "started", "ended")  # fmt: skip
    assert {name: results[name] for name in same} == {name: SUMMARY[name] for name in same}
    assert results["finished"] is True and results["sessions"] == 1


def test_results_of_a_run_in_progress_are_those_of_its_rows(runs):
    results = runs[1].results
    assert (results["finished"], results["stopped_by"], results["ended"]) == (False, None, None)
    assert (results["env_steps"], results["updates"], results["wall_s"]) == (1600, 160, 13)
    assert results["train_return_mean"] == 33.25
    # 800 steps at 400/s and 800 at 100/s took 10 s.
    assert (results["env_steps_per_s"], results["updates_per_s"]) == (160, 16)
    assert results["evaluation"]["mean"] == 20.5 and results["evaluation"]["final"] is False


def test_an_older_run_has_its_evaluation_in_its_summary(runs):
    evaluation = runs[2].results["evaluation"]
    assert (evaluation["mean"], evaluation["std"], evaluation["episodes"]) == (39, 1, 20)
    assert (evaluation["median"], evaluation["final"]) == (None, True)


@pytest.mark.parametrize("further", ["rows", "session"])
def test_the_summary_of_a_run_that_was_resumed_since_does_not_count(tmp_path, further):
    rows = [*ROWS, (2400, 44, 240, 100, 23)] if further == "rows" else ROWS
    again = {**SESSION, "started": "2026-01-03T00:00:00Z"}
    record = {**RECORD, "sessions": [SESSION, again] if further == "session" else [SESSION]}
    path = write(tmp_path / "r", record=record, summary=SUMMARY, rows=rows, evaluations=PLAYED)
    results = read_account(path).results
    assert (results["finished"], results["stopped_by"], results["ended"]) == (False, None, None)
    assert results["env_steps"] == rows[-1][0]
    assert results["evaluation"]["final"] is False  # it was, of a shorter run
    assert results["started"] == SESSION["started"]
    assert results["sessions"] == len(record["sessions"])


def test_the_table_of_three_ages(runs, capsys):
    assert main(["compare", "whole", "going", "older"]) == 0
    said, found = table(capsys)
    assert said == (
        "3 settings differ; what else differs: resolved, envs, network, versions, code, host. "
        "Not every run has recorded: envs, network, code, host."
    )
    assert found[("", "whole")] == ["going", "older"]  # the names of the runs
    rate = str(Config().learning_rate)
    assert found[("settings", "learning_rate")] == [rate, "0.5", rate]
    assert found[("resolved", "precision")] == ["fp32", "bf16", "fp32"]
    assert found[("envs", "class")] == ["CartPoleEnv", "MyEnv", "-"]
    assert found[("envs", "wrappers")] == ["TimeLimit", "none", "-"]
    assert found[("versions", "torch")] == ["2.13.0+cpu", "2.13.0+cpu", "2.11.0"]
    assert found[("code", "git_commit")] == ["0" * 12, "f" * 12, "-"]
    assert ("host", "memory_total_bytes") not in found
    assert found[("results", "stopped by")] == ["total_env_steps", "unfinished", "total_env_steps"]
    assert found[("results", "evaluation")] == ["39.0 +- 1.0", "20.5 +- 2.0", "39.0 +- 1.0"]
    assert found[("results", "evaluated")] == ["at the end", "at 800", "at the end"]
    assert found[("results", "eval episodes")] == ["20", "10", "20"]
    assert found[("results", "cut short")] == ["3", "0", "-"]
    assert found[("results", "median")] == ["38.0", "20.0", "-"]
    assert found[("results", "min to max")] == ["37.0 to 50.0", "17.0 to 24.0", "-"]
    assert found[("results", "wall time")] == ["0:01:15", "13.0 s", "0:01:15"]
    assert found[("results", "env steps/s")] == ["1,234", "160", "1,234"]
    assert found[("results", "ended")] == [SUMMARY["ended"], "-", "-"]


def test_seeds_alone_are_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        record = changed(RECORD, session={"command": ["fastdqn", "train", f"--seed={seed}"]})
        write(tmp_path / f"s{seed}", record=record, summary=SUMMARY, rows=ROWS, seed=seed)
    write(tmp_path / "resumed", record=RECORD, rows=ROWS, seed=1, resume="auto")
    assert main(["compare", "s1", "s2"]) == 0
    said, found = table(capsys)
    assert said == "Of the settings only the seeds differ; nothing else differs."
    assert {label for section, label in found if section == "settings"} == {"seed"}
    assert main(["compare", "s1", "s2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["only_seeds_differ"] is True
    assert main(["compare", "s1", "resumed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["only_seeds_differ"] is False
    assert main(["compare", "s1", "resumed"]) == 0
    assert table(capsys)[0] == "The settings are the same, the seeds included; nothing differs."


def test_json_holds_everything_in_full(runs, tmp_path, capsys):
    long = ["fastdqn", "train", *(f"--option-{k}" for k in range(40))]
    write(tmp_path / "long", record=changed(RECORD, session={"command": long}), rows=ROWS)
    assert main(["compare", "whole", "long", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    first, second = body["runs"]
    assert (first["run"], second["run"]) == ("whole", "long")
    assert second["start"]["command"] == long == body["differences"]["start"]["command"][1]
    assert first["envs"] == RECORD["envs"] and first["host"] == HOST  # what is the same, too
    assert first["settings"]["gamma"] == Config().gamma and "run_dir" not in first["settings"]
    assert first["results"]["evaluation"]["median"] == 38


@pytest.mark.parametrize("width", [60, 80, 120])
def test_it_fits_the_width_and_shows_where_long_values_part(
    runs, tmp_path, monkeypatch, capsys, width
):
    monkeypatch.setenv("COLUMNS", str(width))
    begin = ["fastdqn", "train", "--config", "/a/long/way/to/" * 9]
    for k, rest in enumerate(["--n-step 1", "--n-step 2", "", "--n-step 1 --seed 4"]):
        command = [*begin, *rest.split()]
        write(tmp_path / f"c{k}", record=changed(RECORD, session={"command": command}), rows=ROWS)
    assert main(["compare", "c0", "c1", "whole", "older", "going"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    for other in (["c1"], ["c2"], ["c3"], ["c1", "older"]):
        assert main(["compare", "c0", *other]) == 0
        line, *_ = [x for x in capsys.readouterr().out.splitlines() if x.startswith("  command")]
        _, first, second, *_ = re.split(r"  +", line.strip())
        assert first.startswith("...") and first.removesuffix("...") != second.removesuffix("...")


def test_many_runs_stand_below_one_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"run{k}" for k in range(7)]
    for k, name in enumerate(names):
        write(tmp_path / name, record=RECORD, summary=SUMMARY, rows=ROWS, seed=k)
    assert main(["compare", *names]) == 0
    _, found = table(capsys)
    assert found[("settings", "seed")] == [str(k) for k in range(7)]


def test_what_somebody_else_wrote_does_no_harm(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write(tmp_path / "good", record=RECORD, summary=SUMMARY, rows=ROWS, evaluations=PLAYED)
    odd = {
        "envs": {"name": "\x1b[31mred\nline", "wrappers": {"a": 1}, "\x1b" + 99 * "x": 1},
        "network": [1],
        "sessions": [3, {"versions": "none", "command": 7, "host": None, "started": 5,
                         "torch_threads": [1, 2], "git_commit": 12}],
    }  # fmt: skip
    summary = {**SUMMARY, "env_steps": "many", "eval_return_mean": True, "wall_s": float("inf")}
    path = write(tmp_path / "odd", record=odd, summary=summary, rows=ROWS)
    assert main(["compare", "good", "odd"]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "[31mred line" in printed
    assert max(map(len, printed.splitlines())) <= 100
    for text in ("{", "[1]", "[" * 5_000, '{"sessions": 1, "envs": 2}', "\x00"):
        for name in ("run.json", "summary.json"):
            (path / name).write_text(text)
        assert main(["compare", "good", "odd"]) == 0
    assert "unfinished" in capsys.readouterr().out


def test_settings_of_another_version_are_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / name, rows=ROWS)
    body = json.loads((tmp_path / "b" / "config.json").read_text())
    del body["n_step"]  # it did as the default does
    body.update(gamma=0.25, warp_drive=True)  # which this one does not know
    (tmp_path / "b" / "config.json").write_text(json.dumps(body))
    assert main(["compare", "a", "b"]) == 0
    _, found = table(capsys)
    assert {label: cells for (section, label), cells in found.items() if section == "settings"} == {
        "gamma": [str(Config().gamma), "0.25"],
        "warp_drive": ["None", "True"],
    }


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([], "fastdqn compare needs two different runs or more; name them as RUN RUN."),
        (["RUN"], "needs two different runs or more, and RUN is one; name them as RUN RUN."),
        (["RUN", "./RUN/"], "needs two different runs or more, and RUN is one"),
        (["RUN", "none"], "none does not exist; name the directory"),
        (["RUN", "."], "holds no run (no config.json)"),
        (["RUN", "broken"], "The configuration broken/config.json cannot be read"),
        (["RUN", "list"], "it is no JSON object"),
        (["RUN", "pipe"], "metrics.csv cannot be read (it is no file)"),
        (["RUN", "x", "--josn"], "did you mean '--json'?"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    args, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "RUN", rows=ROWS)
    for name, text in (("broken", "{"), ("list", "[]"), ("pipe", Config().to_json())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    os.mkfifo(tmp_path / "pipe" / "metrics.csv")
    assert main(["compare", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastdqn: error: ") and printed.err.count("\n") == 1
    assert words in printed.err


def test_in_a_pipe_without_torch_and_without_letters_beyond_ascii(tmp_path):
    for name in ("a", "ü"):
        write(tmp_path / name, rows=ROWS, env_id=f"My{name}-v0")
    program = (
        "import sys; from fastdqn.cli.main import main\n"
        "code = main(['compare', 'a', '\\u00fc'])\n"
        "print(code, 'torch' in sys.modules, 'numpy' in sys.modules)"
    )
    search = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr
    assert "My\\xfc-v0" in done.stdout and done.stderr == ""
