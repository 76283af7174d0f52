"""``fastdqn plot`` and ``fastdqn saliency`` as a user runs them: in a process, through a pipe."""

import os
import shutil
import subprocess
import sys

import matplotlib.image
import pytest

from fastdqn.cli.main import main

TRAIN = ["train", "--total-env-steps", "400", "--learning-starts-env-steps", "100",
         "--log-period-env-steps", "40", "--eval-episodes", "0", "--hidden-sizes", "8",
         "--torch-threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "one"
    assert main([*TRAIN, "--run-dir", str(path)]) == 0
    return path


def fastdqn(*args, cwd, **environment):
    search = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    return subprocess.run(
        [sys.executable, "-m", "fastdqn", *args],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": search, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def is_picture(path):
    return matplotlib.image.imread(path)[..., :3].std() > 0.02


def test_plot_in_a_pipe(run_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    with (other / "metrics.csv").open("a") as file:
        file.write("408,1")  # torn
    done = fastdqn("plot", str(run_dir), "other", "other/", "--out", "c.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3 and lines[2] == "c.png (2 runs)"
    assert lines[1].split()[0] == "other" and lines[0].split()[0] == str(run_dir)
    for line in lines[:2]:
        assert set(line.split()[1]) <= set("▁▂▃▄▅▆▇█") and " at 400 env steps" in line
        assert "\x1b" not in line
    assert is_picture(tmp_path / "c.png")


def test_plot_says_the_newest_evaluation(run_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        shutil.copytree(run_dir, name)
    header = "env_steps,mean,std,final\n240,7.25,1.5,0\n"
    (tmp_path / "a" / "evaluations.csv").write_text(header)
    (tmp_path / "b" / "evaluations.csv").write_text(header + "400,9.5,2,1\n")
    assert main(["plot", "a", "b"]) == 0
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith(" at 400 env steps; evaluated at 240: 7.2 +- 1.5")
    assert second.endswith(" at 400 env steps; final evaluation: 9.5 +- 2.0")


def test_plot_where_there_are_no_blocks(run_dir, tmp_path):
    done = fastdqn("plot", str(run_dir), cwd=tmp_path, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii() and done.stdout.endswith("curves.png (1 run)\n")


def test_plot_needs_no_torch(run_dir, tmp_path):
    program = (
        "import sys; from fastdqn.cli.main import main\n"
        f"code = main(['plot', {str(run_dir)!r}])\n"
        "print(code, 'torch' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    search = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[-1] == "0 False False", done.stderr


def test_a_run_without_rows_is_left_out_with_a_warning(run_dir, tmp_path):
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    shutil.copy(run_dir / "config.json", fresh)
    done = fastdqn("plot", "fresh", str(run_dir), cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.endswith("curves.png (1 run)\n")
    assert done.stderr == "fastdqn: warning: fresh has logged no row yet; it is left out.\n"
    alone = fastdqn("plot", "fresh", cwd=tmp_path)
    assert alone.returncode == 2 and "logged a row yet" in alone.stderr


def test_saliency_in_a_pipe(run_dir, tmp_path):
    done = fastdqn("saliency", str(run_dir), "--frames", "2", "--device", "cpu", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("CartPole-v1, return ") and first.endswith(" steps")
    assert second == "saliency.png (2 of its steps)"
    assert is_picture(tmp_path / "saliency.png")


def test_the_seed_chooses_the_episode(run_dir, tmp_path, capsys):
    def play(*more):
        args = ["saliency", str(run_dir), "--frames", "1", "--out", str(tmp_path / "s.png")]
        assert main([*args, "--device", "cpu", *more]) == 0
        return capsys.readouterr().out.splitlines()[0], (tmp_path / "s.png").read_bytes()

    assert play("--seed", "5") == play("--seed", "5")
    assert play("--seed", "5")[1] != play("--seed", "6")[1]
    assert play("--max-env-steps", "3")[0] == "CartPole-v1, return 3 in 3 steps, cut there"


def test_frames_of_an_atari_game(tmp_path, capsys):
    pytest.importorskip("ale_py")
    run = tmp_path / "pong"
    assert main([
        "train", "dqn-atari", "--env-id", "ALE/Pong-v5", "--total-env-steps", "16",
        "--learning-starts-env-steps", "12", "--replay-capacity", "256", "--num-envs", "2",
        "--hidden-sizes", "8", "--batch-size", "4", "--eval-episodes", "0", "--device", "cpu",
        "--env-threads", "1", "--torch-threads", "1", "--run-dir", str(run),
    ]) == 0  # fmt: skip
    out = tmp_path / "s.png"
    capsys.readouterr()
    assert main(["saliency", str(run), "--out", str(out), "--frames", "2", "--max-env-steps", "6",
                 "--device", "cpu"]) == 0  # fmt: skip
    assert capsys.readouterr().out.startswith("ALE/Pong-v5, return 0 in 6 steps, cut there\n")
    assert is_picture(out)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["plot"], "fastdqn plot needs RUN"),
        (["plot", "none"], "none does not exist"),
        (["plot", "."], "holds no run (no config.json)"),
        (["plot", "RUN", "--otu", "x.png"], "did you mean '--out'?"),
        (["plot", "RUN", "--out"], "out needs a value"),
        (["plot", "RUN", "--out", "x.jpg"], "end it in .png, .svg or .pdf"),
        (["plot", "RUN", "--out", "no/such/x.png"], "needs the directory 'no/such'"),
        (["plot", "RUN", "--out", "dir.png"], "is a directory"),
        (["saliency"], "fastdqn saliency needs RUN"),
        (["saliency", "none"], "none does not exist"),
        (["saliency", "RUN", "more"], "takes no argument 'more'"),
        (["saliency", "RUN", "--frames", "0"], "frames = 0 is out of range; use 1 to 32"),
        (["saliency", "RUN", "--frames", "many"], "frames = 'many'"),
        (["saliency", "RUN", "--max-env-steps", "0"], "max_env_steps = 0"),
        (["saliency", "RUN", "--epsilon", "2"], "epsilon = 2"),
        (["saliency", "RUN", "--out", "x"], "end it in .png"),
        (["saliency", "EMPTY"], "checkpoint"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    args, words, run_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.png").mkdir()
    (tmp_path / "empty").mkdir()
    shutil.copy(run_dir / "config.json", tmp_path / "empty")
    names = {"RUN": str(run_dir), "EMPTY": "empty"}
    assert main([names.get(word, word) for word in args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastdqn: error: ") and printed.err.count("\n") == 1
    assert words in printed.err


@pytest.mark.parametrize("args", [["plot", "--nope"], ["saliency", "x", "--frames", "-1"]])
def test_wrong_arguments_in_a_pipe(args, tmp_path):
    done = fastdqn(*args, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("fastdqn: error: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["plot", "saliency"])
def test_help(name, capsys):
    assert main([name, "--help"]) == 0
    assert f"usage: fastdqn {name}" in capsys.readouterr().out
