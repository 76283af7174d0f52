"""``fastdqn record``, and ``fastdqn eval --render``, as a user runs them."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from helpers.command_line import Terminal, environment, refusal
from PIL import Image, ImageSequence

from fastdqn.cli.main import main

TRAIN = ["train", "--total-env-steps", "120", "--learning-starts-env-steps", "100", "--num-envs",
         "2", "--eval-episodes", "0", "--device", "cpu", "--torch-threads", "1"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs")
    catch = ["--env-id", "fastdqn/Catch-v0", "--env-kwargs", '{"size": 24}', "--batch-size", "8"]
    assert main([*TRAIN, *catch, "--run-dir", str(path / "catch")]) == 0
    assert main([*TRAIN, "--hidden-sizes", "8", "--run-dir", str(path / "cartpole")]) == 0
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def frames(path):
    with Image.open(path) as image:
        return [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(image)]


def test_a_gif_with_everything_on_it(runs, here, capsys):
    run = str(runs / "catch")
    assert main(["record", run, "--out", "a.gif", "--q-bars", "--saliency", "--episodes", "2",
                 "--env-kwargs", '{"size": 24, "balls": 2}',
                 "--max-env-steps", "30"]) == 0  # fmt: skip
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("fastdqn/Catch-v0: returns ")
    assert first.endswith(" in 30 steps, cut there")
    assert second == "a.gif (37 frames, 3.7 s)"  # rows 0 to 23, half a second more, rows 0 to 7
    film = frames("a.gif")
    assert film[0].shape[0] == 508 and film[0].shape[1] > 480
    assert os.listdir(here) == ["a.gif"]


def test_an_mp4_is_the_default(runs, here, capsys):
    av = pytest.importorskip("av")
    assert main(["record", str(runs / "cartpole"), "--seed", "1"]) == 0
    out = capsys.readouterr().out
    with av.open("play.mp4") as container:
        count = sum(1 for _ in container.decode(video=0))
        assert container.streams.video[0].average_rate == 50
    assert f"play.mp4 ({count} frames, {count / 50:.1f} s)" in out
    steps = int(out.partition(" steps")[0].rpartition(" ")[2])
    assert count == steps + 1 + 25


def test_pong_in_its_colours(here, capsys):
    pytest.importorskip("ale_py")
    run = os.path.join(os.path.dirname(__file__), "../../benchmarks/results/policies/pong")
    assert main(["record", run, "--out", "p.gif", "--max-env-steps", "12", "--fps", "20"]) == 0
    assert "ALE/Pong-v5: return 0 in 12 steps, cut there" in capsys.readouterr().out
    picture = frames("p.gif")[-1][28:]
    assert picture.shape == (420, 320, 3)
    colours, counts = np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)
    assert colours[counts.argmax()].tolist() == [144, 72, 17]
    assert any((colour == (92, 186, 92)).all() for colour in colours)  # our paddle


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{catch}", "--out", "a.avi"], "out = 'a.avi' is no film; end it in .mp4 or .gif."),
        (["{catch}", "--out", "no/a.gif"], "out = 'no/a.gif' needs the directory 'no'"),
        (["{catch}", "--out", "a.gif", "--fps", "60"], "fps = 60 is too fast for a .gif"),
        (["{catch}", "--fps", "0"], "fps = 0.0 is out of range; use 0.1 to 240."),
        (["{catch}", "--episodes", "0"], "episodes = 0 is out of range"),
        (["nowhere"], "nowhere does not exist"),
        (["{catch}", "--epsilon", "2"], "epsilon = 2.0 is out of range"),
        (["{cartpole}", "--out", "a.gif", "--saliency"], "observations that are pictures"),
        (["{catch}", "--out", "a.gif", "--env-id", "CartPole-v1"], ""),
        ([], "fastdqn record needs RUN"),
    ],
)
def test_what_cannot_be_filmed_is_one_sentence(runs, here, capsys, args, message):
    named = {name: str(runs / name) for name in ("catch", "cartpole")}
    assert message in refusal(["record", *(arg.format(**named) for arg in args)], capsys)
    assert os.listdir(here) == []


def test_a_terminal_sees_how_far_it_is(runs, here, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    assert main(["record", str(runs / "catch"), "--out", "a.gif", "--max-env-steps", "40"]) == 0
    said = stream.getvalue().split("\r\x1b[K")
    assert said == ["", "fastdqn/Catch-v0: loading torch ...",
                    "fastdqn/Catch-v0: filming, env step 0 ...",
                    "fastdqn/Catch-v0: filming, env step 30 ...", ""]  # fmt: skip


def test_ctrl_c_ends_the_film_and_it_is_whole(runs, here):
    command = [sys.executable, "-m", "fastdqn", "record", str(runs / "catch"), "--out", "a.gif"]
    command += ["--episodes", "10000", "--max-env-steps", "10000000"]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while not (here / "a.gif.tmp").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and err.splitlines()[-1] == "fastdqn: stopped by SIGINT"
    assert out.splitlines()[0].endswith(", cut there")
    assert len(frames("a.gif")) >= 1 and os.listdir(here) == ["a.gif"]


def test_watching_in_a_window(runs, here, capsys, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    args = ["eval", str(runs / "cartpole"), "--render", "human", "--episodes", "1"]
    assert main([*args, "--epsilon", "1.0"]) == 0  # random play falls soon
    assert "over 1 episode" in capsys.readouterr().out
    assert "num_envs = 4 does not fit in one window" in refusal([*args, "--num-envs", "4"], capsys)
    assert refusal([*args, "--render", "rgb"], capsys) == "render = 'rgb' must be one of human."
    args[1] = str(runs / "catch")
    assert "has no window of its own; film it with 'fastdqn record" in refusal(args, capsys)
    monkeypatch.delenv("SDL_VIDEODRIVER")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    args[1] = str(runs / "cartpole")
    assert "There is no display for a window of CartPole-v1" in refusal(args, capsys)
