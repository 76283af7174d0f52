"""info: what is there is named, what is not there is None, and nothing fails."""

import builtins
import json
import platform
import subprocess
from pathlib import Path

import pytest

import fastdqn
from fastdqn.system import info


def test_versions():
    found = info.versions()
    names = "python fastdqn torch numpy gymnasium ale-py tensordict torchrl numba cuda"
    assert set(found) == set(names.split())
    assert found["python"] == platform.python_version()
    assert found["fastdqn"] == fastdqn.__version__
    torch = pytest.importorskip("torch")
    assert found["torch"] == torch.__version__
    assert found["cuda"] == torch.version.cuda


def test_environment_is_json():
    found = info.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["cpus_usable"] >= 1
    assert found["cpu"]
    assert found["memory_total_bytes"] is None or (
        0 < found["memory_available_bytes"] <= found["memory_total_bytes"]
    )
    assert found["bf16_cpu"] in (True, False, None)
    assert isinstance(found["gpus"], list)


def test_the_name_of_a_device():
    assert info.device_name("cpu") == info._cpu_name()
    # Also where there is no CUDA, or no such index: a name, not an error.
    assert info.device_name("cuda:63")


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 9554\n", "AMD EPYC 9554"),
        ("processor: 0\nmodel name: \nModel: Raspberry Pi 4\n", "Raspberry Pi 4"),
    ],
)
def test_the_name_of_the_cpu_comes_from_proc(monkeypatch, cpuinfo, name):
    monkeypatch.setattr(info.host, "read_text", lambda path: cpuinfo)
    assert info._cpu_name() == name


def test_without_proc_there_is_still_a_name(monkeypatch):
    monkeypatch.setattr(info.host, "read_text", lambda path: "")
    assert info._cpu_name()


def test_without_torch_there_are_gaps_and_no_error(monkeypatch):
    really = builtins.__import__

    def without_torch(name, *args, **kwargs):
        if name.split(".")[0] in ("torch", "gymnasium"):
            raise ImportError(name)
        return really(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    found = info.environment()
    assert found["versions"]["cuda"] is None
    assert found["torch_threads"] is None
    assert found["bf16_cpu"] is None
    assert found["gpus"] == []
    assert info.device_name("cuda:0") == "cuda:0"


@pytest.mark.parametrize(
    "error", [FileNotFoundError(), subprocess.TimeoutExpired("git", 5), PermissionError()]
)
def test_a_program_that_cannot_run_is_none(monkeypatch, error):
    def run(*args, **kwargs):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert info._git_commit() is None
    assert info._gpu_driver() is None


def test_outside_a_checkout_there_is_no_commit(monkeypatch, tmp_path):
    monkeypatch.setattr(info, "__file__", str(tmp_path / "site" / "fastdqn" / "system" / "info.py"))
    assert info._git_commit() is None


def test_in_a_checkout_it_is_that_of_the_checkout():
    root = Path(info.__file__).parents[2]
    head = (root / ".git" / "HEAD").is_file()
    assert (info._git_commit() is not None) == head, "the root is where pyproject.toml lies"
    assert (root / "fastdqn" / "system").is_dir()
