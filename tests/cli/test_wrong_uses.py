"""Wrong command lines over all commands: exit code 2, one sentence, nothing else, no torch.

Those of ``fastdqn train``'s fields one by one are in ``helpers/malformed.py``.
"""

import json
import os
import re
import subprocess
import sys

import pytest
from helpers.command_line import environment, refusal

from fastdqn.cli.help import guide_of
from fastdqn.cli.main import COMMANDS
from fastdqn.config.config import Config

# {name} stands for what the directory holds; see ``place``.
WRONG = """
    trian                                         | no command 'trian' (did you mean 'train'?)
    Train                                         | no command 'Train' (did you mean 'train'?)
    help trian                                    | no command 'trian'
    --seed 3                                      | no option '--seed'
    catch --seed 3                                | did you mean 'fastdqn train catch'?
    ./config.json                                 | no command './config.json'
    train Catch                                   | no preset 'Catch' (did you mean 'catch'?)
    train ALE/Pong-v5                             | did you mean --env-id ALE/Pong-v5?
    train good.toml                               | did you mean --config good.toml?
    train ''                                      | no preset ''
    train full                                    | no preset 'full'; did you mean --config full?
    train catch cartpole                          | takes no argument 'cartpole'
    train --seed=1.5                              | seed = '1.5' has the wrong type
    train --seed 1 2                              | no preset '2'
    train --seed 10000000000                      | seed = 10000000000 is out of range
    train --num-envs 8 --num-envs none            | num_envs = 'none' has the wrong type
    train --gamma ,99                             | gamma = ',99' has the wrong type; use a number
    train --gamma 99%                             | gamma = '99%' has the wrong type
    train --learning-rate=-1e-4                   | learning_rate = -0.0001 is out of range
    train --buffer-size 5                         | did you mean '--replay-capacity'?
    train --no-seed                               | '--no-seed' is not an option
    train --preset                                | takes its PRESET without '--preset'
    train --double=yes                            | takes no argument 'yes'; switches take no value
    train --loss mse --huber-delta 2              | huber_delta = 2.0 has no effect with loss
    train --noisy --batch-norm --layer-norm       | layer_norm = True and batch_norm exclude
    train --device cuda:x                         | device = 'cuda:x' is no device
    train --device mps                            | device = 'mps' is not supported
    train --mode graph --device cpu               | mode = 'graph'
    train --batch-size 200000                     | batch_size = 200000 exceeds replay_capacity
    train --resume require                        | name it with run_dir
    train --resume always --run-dir new           | resume = 'always' must be one of
    train --run-dir good.json                     | is a file
    train --run-dir full                          | is not empty
    train --run-dir ''                            | run_dir = '' is no path
    train --run-dir full --resume require         | full
    train --initial nowhere                       | nowhere
    train --initial full                          | full
    train --initial run:best                      | run
    train --env-id CartPole-v99                   | no env 'CartPole-v99'
    train --env-id cartpole                       | no env 'cartpole' (did you mean 'CartPole-v
    train --env-id ''                             | env_id
    train --env-id ALE/Pongg-v5                   | no env 'ALE/Pongg-v5'
    train --env-kwargs mode=1                     | env_kwargs = 'mode=1' has the wrong type
    train --config                                | config needs a value
    train --config good.toml catch                | 'catch' and --config exclude each other
    train --config nowhere.toml                   | nowhere.toml cannot be read (it is no file
    train --config full                           | full/config.json cannot be read
    train --config bad.toml                       | bad.toml: The configuration is not valid TOML
    train --config bad.json                       | bad.json: The configuration is not valid JSON
    train --config text.toml                      | text.toml: seed = '1' has the wrong type
    train --config typo.toml                      | typo.toml: 'sed' is not a field of Config
    train --config typo.json                      | typo.json: 'sed' is not a field of Config
    train --config group.toml                     | seed stands in env; move it to run
    train --config preset.json                    | no preset 'cartpol' (did you mean 'cartpole'?)
    train --config list.json                      | must be a JSON object
    train --config toml.json                      | toml.json: The configuration is not valid JSON
    train --config toml.json                      | a TOML file needs a name in .toml
    train --config json.toml                      | json.toml: The configuration is not valid TOML
    train --config tables.toml                    | env = [{'num_envs': 8}] is no group of fields
    train --config word.toml                      | logger = 'wandb' has the wrong type; use a list
    train --logger tensorboard,wandb              | with spaces between them: tensorboard wandb
    train --config binary.toml                    | binary.toml cannot be read
    train --config empty.json                     | empty.json: The configuration is not valid JSON
    train --config good.toml --sed 3              | '--sed' is not an option
    eval --run run                                | takes its RUN without '--run'
    eval nowhere                                  | nowhere does not exist
    eval full                                     | full
    eval run                                      | run
    eval good.json                                | good.json
    eval run --checkpoint newest                  | newest
    eval run --checkpoint 5 --episodes 3          | run
    eval run --episodes -1                        | episodes = -1 is out of range
    eval played --epsilon 2                       | error: epsilon = 2.0 is out of range
    eval run --epsilon high                       | epsilon = 'high' has the wrong type
    eval played --env-id Nope-v0                  | Nope-v0
    eval played --device gpu                      | device = 'gpu' is no device
    eval run --env-kwargs [1]                     | env_kwargs = '[1]' has the wrong type
    saliency run --frames 0                       | frames = 0 is out of range
    saliency run --out picture.jpg                | out = 'picture.jpg' is no picture
    saliency run --out nowhere/picture.png        | needs the directory 'nowhere'
    saliency nowhere                              | nowhere does not exist
    plot                                          | fastdqn plot needs RUN
    plot nowhere                                  | nowhere
    plot run --out curves                         | out = 'curves' is no picture
    plot run --out full                           | out = 'full'
    plot run --out ''                             | out = ''
    plot full                                     | full
    compare                                       | needs two different runs or more
    compare run                                   | needs two different runs or more, and run is one
    compare run ./run                             | needs two different runs or more
    compare run nowhere                           | nowhere
    envs                                          | fastdqn envs needs ENV_ID
    envs CartPole-v99                             | no env 'CartPole-v99'
    envs CartPole-v1 Acrobot-v1                   | takes no argument 'Acrobot-v1'
    envs CartPole-v1 --frame-stack 0              | frame_stack = 0 is out of range
    envs CartPole-v1 --image-layout nchw          | image_layout = 'nchw' must be one of
    info all                                      | takes no argument 'all'
    info --json true                              | takes no argument 'true'; switches take no value
    presets catch                                 | takes no argument 'catch'
    bench --cases nothing                         | nothing
    bench --cases ''                              | cases = '' names none
    bench --seconds 0                             | seconds = 0 is out of range
    bench --seconds fast                          | seconds = 'fast' has the wrong type
    bench --device tpu                            | device = 'tpu' must be one of
    bench --json nowhere/new.json                 | nowhere
    bench --chart bars.gif                        | chart = 'bars.gif' must end in one of
    bench --compare nowhere.json                  | nowhere.json
    bench --compare good.json                     | good.json
    bench --compare timed.json --cases act        | timed.json' has a time of none of these cases
    bench --compare failed.json                   | failed.json' has a time of none of these cases
    record                                        | fastdqn record needs RUN
    record nowhere                                | nowhere does not exist
    record played --out film.avi                  | out = 'film.avi' is no film
    record played --out film.gif --fps 60         | fps = 60 is too fast for a .gif
    record played --out -film.gif                 | use --out=-film.gif
    record played --out film.gif --epsilon 2      | error: epsilon = 2.0 is out of range
    record played --qbars                         | did you mean '--q-bars'?
    export played --format torchscript            | did you mean 'torch-export'?
    export played --out policy.pt                 | out = 'policy.pt' does not end in .onnx or .pt2
    export played --format torch-export --check 0 | check = 0 is out of range
    report                                        | fastdqn report needs RUN
    report played --out page.pdf                  | out = 'page.pdf' is no page
    report played --out                           | out needs a value
    push                                          | fastdqn push needs RUN USER/NAME
    push played a/b/c                             | name = 'a/b/c' is no name on the Hub
    push nowhere a/b                              | nowhere does not exist
    completion                                    | fastdqn completion needs SHELL
    completion powershell                         | shell = 'powershell' must be one of
    completion bash zsh                           | takes no argument 'zsh'
"""
CASES = [tuple(part.strip() for part in row.split(" | ")) for row in WRONG.strip().splitlines()]
_FIX = re.compile(
    r"\b(use|must|did you mean|names?|lower|set|drop|needs?|lists|shows|says|reads|is no|move"
    r"|does not exist|not valid|exclude|leave|are|put|there|takes?|wait|not empty|without)\b"
)


def words_of(line):
    return [word.strip("'") if word == "''" else word for word in line.split()]


# A result of ``fastdqn bench``.
BENCH = """{"kind": "fastdqn bench", "format_version": 1, "fingerprint": {}, "settings": {},
"cases": [%s]}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A directory with what the command lines name."""
    here = tmp_path_factory.mktemp("wrong")
    files = {
        "good.toml": "seed = 1\n",
        "good.json": '{"seed": 1}',
        "bad.toml": "seed = \n",
        "bad.json": '{"seed": }',
        "text.toml": 'seed = "1"\n',
        "typo.toml": "sed = 1\n",
        "typo.json": '{"sed": 1}',
        "group.toml": "[env]\nseed = 1\n",
        "preset.json": '{"preset": "cartpol"}',
        "list.json": "[]",
        "toml.json": "seed = 1\n",
        "json.toml": '{"seed": 1}',
        "tables.toml": "[[env]]\nnum_envs = 8\n",
        "word.toml": 'logger = "wandb"\n',
        "timed.json": BENCH % '{"name": "adam/flat/nature", "status": "ok", "us": {"median": 1}}',
        "failed.json": BENCH % '{"name": "adam/flat/nature", "status": "failed"}',
        "empty.json": "",
        "full/mine.txt": "mine",
        "run/config.json": Config(run_dir="run").to_json(),  # and no checkpoint
        "played/config.json": Config(run_dir="played").to_json(),
        "played/checkpoints/step_000000000005/run.json": "{}",
    }
    for name, text in files.items():
        (here / name).parent.mkdir(exist_ok=True, parents=True)
        (here / name).write_text(text, encoding="utf-8")
    (here / "binary.toml").write_bytes(b"seed = \xff\n")
    return here


def test_there_are_many_over_all_commands():
    assert len(CASES) >= 100
    assert {line.split()[0] for line, _ in CASES} >= set(COMMANDS) & {
        "train", "eval", "presets", "envs", "info", "bench", "plot", "compare", "saliency",
        "completion",
    }  # fmt: skip


# One process for all of them, which has no torch before.
CHILD = """
import contextlib, io, json, sys
from fastdqn.cli.main import main
found = {}
for line, args in json.load(sys.stdin).items():
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(args)
    found[line] = code, out.getvalue(), err.getvalue(), "torch" in sys.modules
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(place):
    before = sorted(place.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps({line: words_of(line) for line, _ in CASES}),
        env=environment(), cwd=place, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert sorted(place.rglob("*")) == before  # nothing was made
    return json.loads(done.stdout)


@pytest.mark.parametrize(("line", "words"), CASES)
def test_a_wrong_use_is_one_sentence(line, words, answers):
    code, out, err, torch_came = answers[line]
    assert (code, out) == (2, "")
    assert err.startswith("fastdqn: error: ") and err.count("\n") == 1
    assert words in err and _FIX.search(err) and len(err) < 450, err
    assert not torch_came


@pytest.mark.parametrize("name", COMMANDS)
def test_what_no_command_takes(name, capsys):
    """Those that come later, too: a wrong option, a near miss of a right one, one word too many."""
    options = guide_of(COMMANDS[name].run).options
    assert f"'--zzzzzz' is not an option of 'fastdqn {name}'" in refusal([name, "--zzzzzz"], capsys)
    assert "did you mean '--help'?" in refusal([name, "--hepl"], capsys)
    if not any("..." in option.metavar for option in options if option.positional):
        given = ["x" for option in options if option.positional]
        assert refusal([name, *given, "more"], capsys)
    for option in options:
        if not option.positional and option.metavar and not option.takes_none:
            assert "needs a value" in refusal([name, f"--{option.word}"], capsys)
            break


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("line", ["plot run --out shut/a.png", "bench --json shut/a.json"])
def test_a_directory_that_is_shut(line, place, capsys, monkeypatch):
    monkeypatch.chdir(place)
    (place / "shut").mkdir(mode=0o500, exist_ok=True)
    assert "cannot be written" in refusal(line.split(), capsys)
