"""``fastdqn export``: what it prints and leaves, and what it refuses before it begins."""

import json
import sys

import pytest
import torch
from helpers.command_line import Terminal, refusal
from helpers.short_runs import NATURE, Own, envs, pictures, tiny

import fastdqn
from fastdqn.cli.main import main
from fastdqn.config.config import Config
from fastdqn.sharing import export as exporting
from fastdqn.sharing.agreement import Agreement
from fastdqn.sharing.network_file import METADATA_FILE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short run of CartPole."""
    path = tmp_path_factory.mktemp("export") / "run"
    fastdqn.train(tiny(path, device="cpu", torch_threads=1))
    return path


def test_a_run_is_exported_and_compared(run, tmp_path, capsys):
    out = tmp_path / "q.pt2"
    assert main(["export", str(run), "--out", str(out), "--check", "120"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "observation float32 [B, 4] -> q_values float32 [B, 2]"
    assert lines[1].startswith("120 of 120 observations of CartPole-v1: the same greedy action; Q")
    assert lines[2] == f"{out} ({out.stat().st_size / 1e3:,.1f} kB)"
    assert list(tmp_path.iterdir()) == [out]
    files = {METADATA_FILE: ""}
    program = torch.export.load(str(out), extra_files=files).module()
    said = json.loads(files[METADATA_FILE])
    assert said["env_id"] == "CartPole-v1" and said["env_steps"] == "240"
    assert json.loads(said["action_meanings"]) == ["left", "right"]
    policy = fastdqn.load(run, device="cpu")
    x = torch.randn(5, 4)
    assert torch.equal(program(x).argmax(1), torch.from_numpy(policy.act(x.numpy())))


def test_a_terminal_sees_what_is_waited_for(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    out = tmp_path / "q.pt2"
    assert main(["export", str(run), "--out", str(out), "--check", "9"]) == 0
    said = stream.getvalue().split("\r\x1b[K")
    assert [line.partition(": ")[2][:12] for line in said] == [
        "", "loading torc", "playing 9 ob", "writing and ", "",
    ]  # fmt: skip


def test_a_file_that_disagrees_ends_with_1_and_is_not_kept(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(exporting, "compare", lambda *a: Agreement(9, 7, 8, 0.5))
    out = tmp_path / "q.pt2"
    assert main(["export", str(run), "--out", str(out), "--check", "9"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and not list(tmp_path.iterdir())
    assert printed.err == (
        "fastdqn: error: no file is written, for it disagrees: 7 of 9 observations of CartPole-v1: "
        "the same greedy action; Q differs by 5.0e-01 at most\n"
    )


def test_without_its_env_random_observations_do(tmp_path, capsys):
    run = tmp_path / "run"
    fastdqn.train(tiny(run, device="cpu", torch_threads=1), envs=envs())
    out = tmp_path / "q.pt2"
    args = ["export", str(run), "--out", str(out), "--check", "10"]
    assert main(args) == 0
    printed = capsys.readouterr()
    assert "10 of 10 random observations" in printed.out
    assert printed.err == (
        "fastdqn: random observations are compared: the run's envs came from Python\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["q.onnx", "q.pt2"])
def test_runs_in_bfloat16_and_of_normalised_observations(tmp_path, name, capsys):
    pixels, vectors = tmp_path / "pixels", tmp_path / "vectors"
    fastdqn.train(tiny(pixels, device="cpu", **NATURE), envs=pictures())
    changes = {"normalize_observations": True, "head": "iqn", "noisy": True, "dueling": True}
    fastdqn.train(tiny(vectors, device="cpu", torch_threads=1, **changes))
    for run, given in ((pixels, "uint8 [B, 2, 36, 36]"), (vectors, "float32 [B, 4]")):
        assert main(["export", str(run), "--out", str(tmp_path / name)]) == 0
        out = capsys.readouterr().out
        assert f"observation {given} -> q_values float32 [B, " in out
        assert "1,000 of 1,000" in out


def test_an_env_of_a_module_is_not_imported(run, tmp_path, capsys):
    import shutil

    foreign = shutil.copytree(run, tmp_path / "foreign")
    config = Config.load(run / "config.json").replace(env_id="no_such_module:Env-v0")
    (foreign / "config.json").write_text(config.to_json())
    assert main(["export", str(foreign), "--out", str(tmp_path / "q.pt2"), "--check", "10"]) == 0
    assert "add --allow-env-import if you trust it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--check", "0"], "check = 0 is out of range; use 1 to 10,000"),
        (["--format", "onxx"], "did you mean 'onnx'"),
        (["--out", "q.pth"], "does not end in .onnx or .pt2"),
        (["--out", "no/such/q.onnx"], "needs the directory 'no/such'"),
        (["--checkpoint", "best"], "no checkpoint with a score"),
        (["--checkpoint", "bst"], "did you mean 'best'"),
        (["--fromat", "onnx"], "did you mean '--format'"),
    ],
)
def test_refusals(run, args, words, capsys):
    assert words in refusal(["export", str(run), *args], capsys)


def test_a_run_that_is_not_there(tmp_path, capsys):
    assert "does not exist" in refusal(["export", str(tmp_path / "x")], capsys)


def test_a_network_of_the_caller_s_own_is_exported_from_python(tmp_path, capsys):
    run = tmp_path / "run"
    fastdqn.train(tiny(run, device="cpu", torch_threads=1), network=Own())
    said = refusal(["export", str(run)], capsys)
    assert "which 'fastdqn export' cannot make" in said
    assert f"torch.export.export(fastdqn.load({str(run)!r}, network=network).network" in said
