"""``fastdqn push``: what it says before and after, and what it refuses."""

import json
import sys

import pytest
from helpers.command_line import Terminal, refusal
from helpers.hub_server import OF_HTTPX, TOKEN, serving
from helpers.short_runs import small
from huggingface_hub import constants

import fastdqn
from fastdqn.cli.main import main
from fastdqn.runs.lock import RunLock

pytestmark = pytest.mark.filterwarnings(OF_HTTPX)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of CartPole with a score."""
    path = tmp_path_factory.mktemp("push") / "run"
    changes = {"total_env_steps": 240, "learning_starts_env_steps": 80, "torch_threads": 1}
    fastdqn.train(small(path.parent, device="cpu", **changes))
    return path


def test_a_dry_run_says_what_would_be_sent(run, capsys):
    assert main(["push", str(run), "alice/cart", "--dry-run", "--private"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines[:-2]]
    assert names == [
        "README.md",
        *(f"checkpoints/step_000000000240/{name}"
          for name in ("learner-00000.safetensors", "manifest.json", "state.json")),
        "config.json", "evaluations.csv", "metrics.csv", "returns.png", "run.json", "summary.json",
    ]  # fmt: skip
    assert lines[-2].startswith("10 files, 0.") and lines[-2].endswith(" to alice/cart, private")
    assert lines[-1] == "nothing is sent"


def test_a_terminal_sees_what_is_waited_for(run, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    assert main(["push", str(run), "alice/cart", "--dry-run"]) == 0
    assert stream.getvalue() == f"\r\x1b[K{run.name}: loading torch, to pack it ...\r\x1b[K"


def test_push_and_play(run, tmp_path, capsys, monkeypatch):
    with serving() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert main(["push", str(run), "alice/cart"]) == 0
        printed = capsys.readouterr()
        assert printed.err == ""
        assert printed.out.splitlines()[-2:] == [
            f"{hub.url}/alice/cart",
            "load it: fastdqn.load('hf:alice/cart')",
        ]
        scores = []
        for path in (str(run), "hf:alice/cart"):
            args = ["eval", path, "--episodes", "4", "--json", "--device", "cpu"]
            assert main(args) == 0
            scores.append(json.loads(capsys.readouterr().out)["returns"])
        assert scores[0] == scores[1]
        assert main(["plot", "hf:alice/cart", "--out", str(tmp_path / "curves.png")]) == 0
        assert (tmp_path / "curves.png").stat().st_size > 1_000


def test_it_may_be_called_as_it_will_be_loaded(run, capsys):
    assert main(["push", str(run), "hf:alice/cart", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines()[-2].endswith(" to alice/cart")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["alice"], "name = 'alice' is no name on the Hub; use USER/NAME"),
        (["alice/cart@main"], "name = 'alice/cart@main' is no name on the Hub"),
        (["alice/cart", "--checkpoint", "7"], "no checkpoint of 7 env steps"),
        (["alice/cart", "--film", "no.mp4"], "film = 'no.mp4' does not exist"),
        (["alice/cart", "--film", __file__], "is no film; name a file that ends in .mp4"),
        ([], "push needs RUN USER/NAME"),
    ],
)
def test_refusals(run, args, words, capsys):
    assert words in refusal(["push", str(run), *args], capsys)


def test_a_run_that_goes_on_is_not_pushed(run, capsys):
    lock = RunLock(run, 0.0)
    try:
        said = refusal(["push", str(run), "alice/cart"], capsys)
    finally:
        lock.release()
    assert said.endswith("is still being trained; let that run end or stop it.")


def test_a_missing_package_is_named(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    said = refusal(["push", str(run), "alice/cart"], capsys)
    assert said == "The Hub needs the package huggingface_hub; pip install 'fastdqn[hub]'."
