"""Words that a shell is offered, and the shells' own scripts at a real TAB."""

import os
import pty
import re
import select
import shutil
import sys
import time

import pytest
from helpers.command_line import environment

from fastdqn.cli.completion import DIRECTORIES, FILES, words_for
from fastdqn.cli.main import COMMANDS, main
from fastdqn.config.presets import presets


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", "no-run", "with space"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    for name in ("a", "b", "with space"):
        (tmp_path / "runs" / name / "config.json").touch()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["tr"], ["train"]),
        ([""], [*COMMANDS, "--help", "--version"]),
        (["help", "e"], ["eval", "envs", "export"]),
        (["train", ""], [*presets()]),
        (["train", "dqn"], ["dqn-atari"]),
        (["train", "--doub"], ["--double"]),
        (["train", "--no-du"], ["--no-dueling"]),
        (["train", "dqn-atari", "--help"], ["--help", "--help-all"]),
        (["train", "--resume", ""], ["never", "auto", "require"]),
        (["train", "--resume", "=", "r"], ["require"]),  # as bash splits it
        (["train", "--resume", "="], ["never", "auto", "require"]),
        (["train", "--resume=r"], ["--resume=require"]),
        (["train", "--run-dir=r"], []),
        (["train", "--device", "c"], ["cpu", "cuda"]),
        (["train", "--env-id", "CartPole-v"], ["CartPole-v0", "CartPole-v1"]),
        (["train", "--env-id", "fastdqn/Ca"], ["fastdqn/CartPole-v1", "fastdqn/Catch-v0"]),
        (["train", "--config", ""], [FILES]),
        (["train", "--run-dir", "x"], [DIRECTORIES]),
        (["train", "--initial", ""], ["runs/a", "runs/b"]),
        (["train", "--seed", "3", "--gam"], ["--gamma"]),
        (["train", "--hidden-sizes", "64", "--gam"], ["--gamma"]),
        (["train", "--logger", "w"], ["wandb"]),
        (["train", "--logger", "wandb", "t"], ["tensorboard", "trackio"]),
        (["train", "--logger", "trackio", "t"], ["tensorboard"]),
        (["train", "--logger", "wandb", "--seed", "t"], []),
        (["export", "runs/a", "--format", ""], ["onnx", "torch-export"]),
        (["eval", ""], ["runs/a", "runs/b"]),
        (["eval", "elsewhere/"], [DIRECTORIES]),
        (["eval", "runs/a", "--checkpoint", ""], ["best", "latest"]),
        (["eval", "runs/a", "--ep"], ["--episodes", "--epsilon"]),
        (["compare", "runs/a", "runs/"], ["runs/a", "runs/b"]),
        (["plot", "runs/a", "--out", ""], [FILES]),
        (["bench", "--cases", "update/der"], ["update/der/B32/eager/K1"]),
        (["bench", "--compare", ""], [FILES]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["presets", ""], ["--help", "--help-all"]),
        (["nope", ""], []),
    ],
)
def test_what_a_word_may_become(words, found, runs):
    if words == ["bench", "--cases", "update/der"]:
        found = [name for name in words_for(["bench", "--cases", ""]) if name.startswith(words[2])]
    assert words_for(words) == found


def test_every_command_is_completed_without_torch_or_an_error():
    for name in COMMANDS:
        assert "--help" in words_for([name, "--h"])


def test_the_words_are_printed_one_in_a_line(runs, capsys):
    assert main(["completion", "words", "eval", ""]) == 0
    assert capsys.readouterr().out == "runs/a\nruns/b\n"


def _plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]", "", text)


def at_tab(shell, setup, lines, seconds):
    """What stands in the line after a TAB behind each of these lines."""
    pid, fd = pty.fork()
    if pid == 0:  # pragma: no cover
        os.execvpe(shell[0], shell, os.environ)

    def read(expected):
        text, end = "", time.monotonic() + seconds
        while expected not in _plain(text) and time.monotonic() < end:
            if select.select([fd], [], [], 0.1)[0]:
                try:
                    text += os.read(fd, 65536).decode(errors="replace")
                except OSError:
                    break
        return expected in _plain(text)

    os.write(fd, f"{setup}; echo re''ady\n".encode())
    assert read("ready")
    found = []
    for line, expected in lines:
        os.write(fd, f"{line}\t".encode())
        found.append(read(expected))
        os.write(fd, b"\x15")  # clear the line
    os.write(fd, b"exit\n")
    os.close(fd)
    os.waitpid(pid, 0)
    return found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_real_tab(shell, runs, tmp_path, monkeypatch):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    program = tmp_path / "bin/fastdqn"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fastdqn "$@"\n')
    program.chmod(0o755)
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TERM", "xterm")
    words = {"bash": ["bash", "--norc"], "zsh": ["zsh", "-f"],
             "fish": ["fish", "--private", "--no-config"]}[shell]  # fmt: skip
    setup = {
        "bash": 'eval "$(fastdqn completion bash)"',
        "zsh": 'autoload -Uz compinit; compinit -u -D; eval "$(fastdqn completion zsh)"',
        "fish": "fastdqn completion fish | source",
    }[shell]
    lines = [
        ("fastdqn sali", "saliency"),
        ("fastdqn train --rmsprop-al", "rmsprop-alpha"),
        ("fastdqn eval runs/b", "runs/b "),
        ("fastdqn plot runs/no", "no-run/"),
    ]
    assert at_tab(words, setup, lines, 60) == [True] * len(lines)
