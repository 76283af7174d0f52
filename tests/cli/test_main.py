"""The command line: commands, exit codes, messages, and what it does not import."""

import os
import subprocess
import sys

import pytest
from gymnasium.envs.registration import registry
from helpers.command_line import SHORT, environment, python, refusal

import fastdqn
from fastdqn import __main__ as entry
from fastdqn.cli import arguments, info
from fastdqn.cli.main import COMMANDS, main


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_command_and_has_examples(args, capsys):
    assert main(args) == 0
    out = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert f"fastdqn {command.usage}" in out
        assert command.usage.startswith(name)
    assert "examples:" in out
    assert max(map(len, out.splitlines())) <= 80


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastdqn {fastdqn.__version__}\n"


@pytest.mark.parametrize("name", ["train", "eval", "presets", "info"])
def test_every_command_has_help(name, capsys):
    assert main([name, "--help"]) == 0
    printed = capsys.readouterr()
    assert f"usage: fastdqn {name}" in printed.out
    assert printed.err == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (
            ["trian"],
            ["no command 'trian'", "did you mean 'train'?", "train, eval, presets, envs, info"],
        ),
        (["--versoin"], ["no option '--versoin'", "did you mean '--version'?"]),
        (["cartpole"], ["did you mean 'fastdqn train cartpole'?"]),
        (["zzz"], ["no command 'zzz'; the commands are"]),
        ([""], ["no command ''"]),
        (["train", "dqn-atar"], ["no preset 'dqn-atar'", "did you mean 'dqn-atari'?"]),
        (["train", "--seed", "3", "cartpol"], ["no preset 'cartpol'", "'cartpole'"]),
        (["train", "cartpole", "more"], ["takes no argument 'more'"]),
        (["train", "catch", "--noisy", "true"], ["takes no argument 'true'", "take no value"]),
        (["train", "catch", "--noisy=False"], ["takes no argument 'False'", "'no-' in front"]),
        (["train", "--nume-nvs", "3"], ["'--nume-nvs' is not an option", "'--num-envs'?"]),
        (["train", "--nume_nvs=3"], ["'--nume_nvs' is not an option", "'--num-envs'?"]),
        (["train", "--no-doubel"], ["did you mean '--no-double'?"]),
        (["train", "--lr", "1e-3"], ["'--lr' is not an option", "'--learning-rate'?"]),
        (["train", "--env", "x"], ["did you mean '--env-id'?"]),
        (["train", "--total-timesteps", "5"], ["did you mean '--total-env-steps'?"]),
        (["train", "--qqqqqq"], ["'fastdqn train --help-all' lists the options"]),
        (["train", "-x"], ["'-x' is not an option"]),
        (["train", "--seed"], ["seed needs a value"]),
        (["train", "--seed="], ["seed needs a value"]),
        (
            ["train", "--hidden-sizes", "64", "wide"],
            [
                "hidden_sizes = '64 wide'",
                "has the wrong type; use whole numbers (on the command line",
            ],
        ),
        (
            ["train", "--frame-stack", "four"],
            ["frame_stack = 'four'", "use a whole number in digits or None"],
        ),
        (["train", "--env-kwargs", "{"], ["env_kwargs = '{'", "use a JSON object"]),
        (["train", "--env-kwargs", "[1]"], ["env_kwargs = '[1]'", "use a JSON object"]),
        (["train", "--mode", "Eager"], ["mode = 'Eager'", "did you mean 'eager'?"]),
        (
            ["train", "--batch_size", "x"],
            ["batch_size = 'x' has the wrong type; use a whole number in digits."],
        ),
        (
            ["train", "--batch-size=x"],
            ["batch_size = 'x' has the wrong type; use a whole number in digits."],
        ),
        (["train", "--seed", "1", "--seed", "-1"], ["seed = -1 is out of range"]),
        (
            ["train", "--preset", "catch"],
            ["'fastdqn train' takes its PRESET without '--preset'; leave that out"],
        ),
        (["train", "--presett", "x"], ["'fastdqn train'; did you mean '--resume'?"]),
        (["train", "--config", "no/such.json"], ["no/such.json cannot be read"]),
        (["train", "--config"], ["config needs a value"]),
        (["train", "--env-id", "CartPoel-v1"], ["no env 'CartPoel-v1'", "'CartPole-v1'?"]),
        (["train", "--env-id", "ALE/Brekout-v5"], ["no env 'ALE/Brekout-v5'"]),
        *(
            (["train", "--env-id", name], [f"no env {name!r} (did you mean 'ALE/{game}-v5'?)"])
            for name, game in (
                ("Breakout-v5", "Breakout"),
                ("pong", "Pong"),
                ("ms_pacman-v0", "MsPacman"),
            )
        ),
        (["train", "cartpole", "--config", "x"], ["'cartpole' and --config exclude each other"]),
        (["eval"], ["fastdqn eval needs RUN"]),
        (["eval", "no/such/run"], ["no/such/run does not exist"]),
        (["eval", "run", "--episodes", "0"], ["episodes = 0 is out of range"]),
        (["eval", "run", "--episodes", "many"], ["episodes = 'many'", "use a whole number"]),
        (["eval", "run", "--episode", "3"], ["did you mean '--episodes'?"]),
        (["eval", "run", "run2"], ["takes no argument 'run2'"]),
        (["presets", "all"], ["takes no argument 'all'"]),
        (["info", "--jsno"], ["did you mean '--json'?"]),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(args, words, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    message = refusal(args, capsys)
    for word in words:
        assert word in message
    assert message[-1] in ".?"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("colour", [True, False])
@pytest.mark.parametrize("columns", ["20", "80", "300"])
def test_messages_do_not_depend_on_the_terminal(encoding, colour, columns, capsys, monkeypatch):
    # tyro draws its boxes after the terminal's encoding, colours and width.
    import io

    class Screen(io.TextIOWrapper):
        def isatty(self):
            return colour

    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Screen(io.BytesIO(), encoding=encoding))
    assert main(["train", "--num-envs", "eight"]) == 2
    err = capsys.readouterr().err
    assert (
        err
        == "fastdqn: error: num_envs = 'eight' has the wrong type; use a whole number in digits.\n"
    )


def test_what_tyro_says_in_words_we_do_not_know_is_passed_on():
    box = "╭─ Title ─╮\n│ Something else │\n│ went wrong. │\n│ ───── │\n│ See --help │\n╰────╯\n"
    error = arguments.complaint(box, info.InfoFlags, [], "fastdqn info")
    assert str(error) == "Something else went wrong."
    assert str(arguments.complaint("", info.InfoFlags, [], "fastdqn info"))


def test_imports_are_lazy():
    names = "torch torchrl tensordict ale_py matplotlib rich numpy gymnasium safetensors"
    program = (
        "import sys, fastdqn\n"
        "fastdqn.Config, fastdqn.presets, fastdqn.ConfigError\n"
        "bare = set(sys.modules)\n"
        "import fastdqn.cli.main\n"
        "fastdqn.cli.main._help(); listed = set(sys.modules)\n"
        "import fastdqn.cli.train, fastdqn.cli.progress, fastdqn.plotting.one_run\n"
        "import fastdqn.system.info, fastdqn.system.signals\n"
        f"found = [name for name in '{names}'.split() if name in sys.modules]\n"
        "print(found, 'tyro' in bare, 'tyro' in listed)\n"
    )
    done = python("-c", program)
    assert done.stderr == ""
    assert done.stdout == "[] False False\n"


def test_bad_input_ends_without_torch():
    program = (
        "import sys\n"
        "from fastdqn.cli.main import main\n"
        "codes = [main(line.split()) for line in sys.stdin.read().splitlines()]\n"
        "print(codes, 'torch' in sys.modules)\n"
    )
    lines = ["trian", "train nope", "train --nope", "train --gamma 2", "train --num-envs x",
             "train --config nope", "train --env-id CartPoel-v1", "eval nope"]  # fmt: skip
    done = python("-c", program, input="\n".join(lines))
    assert done.stdout == f"{[2] * len(lines)} False\n"
    assert done.stderr.count("fastdqn: error: ") == done.stderr.count("\n") == len(lines)


def test_a_bad_command_in_a_process_of_its_own():
    done = python("-m", "fastdqn", "train", "--gamma", "2")
    assert done.returncode == 2
    assert done.stderr.startswith("fastdqn: error: gamma = 2.0 is out of range")


def test_a_reader_that_leaves_early_is_no_error():
    with subprocess.Popen(
        [sys.executable, "-c", "import time, sys; time.sleep(0.3)\n"
         "from fastdqn.cli.main import main; sys.exit(main(['presets']))"],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("args", [["presets"], ["train", "--help"], ["eval", "--help"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_one_sentence_and_exit_code_1(args, unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fastdqn", *args],
            env={**environment(), "PYTHONUNBUFFERED": unbuffered},
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        1,
        "fastdqn: error: standard output cannot be written (No space left on device); make room, "
        "or send it elsewhere.\n",
    )


@pytest.mark.skipif(os.name != "posix", reason="closes file descriptors")
@pytest.mark.parametrize("closed", [1, 2])
def test_closed_streams_are_no_error(closed):
    program = (
        "import sys; from fastdqn.cli.main import main; sys.exit(main(['train', '--gamma', '2']))"
    )
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}>&-', sys.executable, program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert ("gamma = 2.0 is out of range" in done.stderr) == (closed == 1)
    assert "Traceback" not in done.stderr


SCRIPT = (
    "from fastdqn.__main__ import main\nif __name__ == '__main__':\n    raise SystemExit(main())\n"
)
DRY_RUN = ["train", "--env-id", "own_envs:Own-v0", "--dry-run", *SHORT]
OWN_ENV = """
import gymnasium
from gymnasium.envs.classic_control import CartPoleEnv

gymnasium.register("Own-v0", CartPoleEnv, max_episode_steps=20)
"""


@pytest.fixture
def script(tmp_path):
    """What an installer makes of the package's entry point, and a folder with a module beside."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "bin/fastdqn").write_text(SCRIPT)
    (tmp_path / "here/own_envs.py").write_text(OWN_ENV)
    return tmp_path / "bin/fastdqn"


def test_a_module_beside_is_found_from_the_script_as_from_python_m(script, monkeypatch, capsys):
    here, before = script.parents[1] / "here", list(sys.path)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", before)
    monkeypatch.setattr(sys, "argv", ["fastdqn", *DRY_RUN])
    monkeypatch.setattr(entry, "exit_at_once_from_now_on", lambda: None)
    try:
        assert entry.main() == 0
    finally:
        registry.pop("Own-v0", None)
        sys.modules.pop("own_envs", None)
    assert "Own-v0" in capsys.readouterr().out


def test_the_working_directory_comes_first_but_not_where_python_is_told_to_leave_it_out(script):
    ask = "import sys; from fastdqn.__main__ import main; sys.argv[1:] = ['-V']; main(); "
    ask += "print(repr(sys.path[0]))"
    script.write_text(ask)
    for flags, first in (([], "''"), (["-P"], None)):
        done = python(*flags, str(script), cwd=script.parents[1] / "here")
        assert done.returncode == 0, done.stderr
        assert (done.stdout.splitlines()[1] == "''") == (first is not None)


@pytest.mark.slow
def test_the_script_trains_on_an_env_of_a_module_beside(script):
    words = [str(script), "train", "--env-id", "own_envs:Own-v0", "--mode", "eager", *SHORT]
    for more in ([], ["--env-vectorization", "async", "--num-envs", "2"]):
        done = python(*words, *more, cwd=script.parents[1] / "here")
        assert done.returncode == 0, done.stderr
    assert python("-P", *words, cwd=script.parents[1] / "here").returncode == 2
