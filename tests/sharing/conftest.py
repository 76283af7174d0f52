"""A short run, and a hub on this machine that huggingface_hub takes for the real one."""

import pytest
from helpers.hub_server import TOKEN, serving
from helpers.short_runs import small
from huggingface_hub import constants

import fastdqn


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    """A finished run of CartPole whose final policy was evaluated."""
    path = tmp_path_factory.mktemp("sharing") / "run"
    changes = {"total_env_steps": 240, "learning_starts_env_steps": 80, "torch_threads": 1}
    fastdqn.train(small(path.parent, device="cpu", **changes))
    return path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub, with a token of alice's and an empty cache."""
    with serving() as hub:
        template = f"{hub.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
