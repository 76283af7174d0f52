"""``fastdqn presets`` and ``fastdqn info``."""

import json

import pytest

import fastdqn
from fastdqn.cli.main import main
from fastdqn.config.presets import describe_presets


def test_presets_lists_every_preset(capsys):
    assert main(["presets"]) == 0
    out = capsys.readouterr().out
    for name, line in describe_presets().items():
        assert f"{name}\n    {line}\n" in out
    assert "ALE/Pong-v5, 16 envs, 10,000,000 env steps" in out
    assert "fastdqn train PRESET" in out


def test_info(capsys):
    pytest.importorskip("torch")
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torch", "gymnasium", "CPU", "memory", "usable", "Atari (ALE)", "bf16"):
        assert word in text
    assert main(["info", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["versions"]["fastdqn"] == fastdqn.__version__
    assert body["cpus_usable"] >= 1


def test_info_shows_gpus_and_gaps(capsys, monkeypatch):
    from fastdqn.system import info as machine

    found = {
        "versions": {"python": "3", "ale-py": None},
        "git_commit": None,
        "platform": "Linux",
        "cpu": "x",
        "cpus_usable": 2,
        "torch_threads": None,
        "memory_total_bytes": None,
        "memory_available_bytes": None,
        "cgroup_limit_bytes": 2_000_000_000,
        "bf16_cpu": None,
        "gpus": [
            {
                "name": "NVIDIA H200",
                "compute_capability": "9.0",
                "memory_total_bytes": 150_000_000_000,
                "memory_free_bytes": 149_000_000_000,
                "bf16": True,
                "driver": None,
            }
        ],
        "ale": False,
    }
    monkeypatch.setattr(machine, "environment", lambda: found)
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "NVIDIA H200, 150.0 GB, 149.0 GB free, compute capability 9.0, bf16 yes" in out
    assert "control group limit 2.0 GB" in out
    assert "pip install 'fastdqn[atari]'" in out
