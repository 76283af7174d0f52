"""Ids of packages that register their envs when asked: entry points, minigrid, and their faults."""

import sys
from importlib import metadata

import gymnasium
import pytest

from fastdqn import make_envs
from fastdqn.config.env_ids import check_env_id
from fastdqn.errors import EnvError

REGISTERS = """
import gymnasium

def register():
    gymnasium.register({id!r}, "gymnasium.envs.classic_control:CartPoleEnv")
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Put a module on the path, with an entry point if it has one; all is undone at the end."""
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(gymnasium.registry)

    def put(module, source, entry=None):
        (tmp_path / f"{module}.py").write_text(source)
        if entry is not None:
            info = tmp_path / f"{module}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[gymnasium.envs]\n{entry}\n")

    yield put
    for module in ("pond", "minigrid"):
        sys.modules.pop(module, None)
    for env_id in set(gymnasium.registry) - known:
        if not env_id.startswith("ALE/"):
            del gymnasium.registry[env_id]


def test_the_entry_point_of_a_namespace_is_asked(install):
    install("pond", REGISTERS.format(id="Pond/Duck-v1"), "Pond = pond:register")
    stream = make_envs("Pond/Duck-v1", 2)
    assert stream.observation_space.shape == (4,)
    stream.close()
    check_env_id("Pond/Duck")  # the newest version


def test_ids_without_a_namespace_ask_the_root(install):
    install("pond", REGISTERS.format(id="Duck-v1"), "__root__ = pond:register")
    check_env_id("Duck-v1")


def test_an_id_that_is_known_asks_nobody(install):
    install("pond", "def register(): raise RuntimeError", "__root__ = pond:register")
    check_env_id("CartPole-v1")
    assert "pond" not in sys.modules


def test_minigrid_registers_when_imported(install):
    source = REGISTERS.format(id="MiniGrid-Empty-5x5-v0") + "\nregister()\n"
    install("minigrid", source)
    check_env_id("MiniGrid-Empty-5x5-v0")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def register(): raise RuntimeError('no\\nwater')", r"failed \(RuntimeError: no water\)"),
        ("import missing_duck", r"failed \(ModuleNotFoundError: No module named 'missing_duck'\)"),
    ],
)
def test_a_package_that_fails_is_named_by_the_id(install, source, said):
    install("pond", source, "Pond = pond:register")
    with pytest.raises(EnvError, match=f"register Pond/Duck-v1 {said}"):
        check_env_id("Pond/Duck-v1")
    install("minigrid", source + "\nregister()" * source.startswith("def"))
    with pytest.raises(EnvError, match=f"register BabyAI-Duck-v0 {said}"):
        check_env_id("BabyAI-Duck-v0")


@pytest.mark.parametrize(
    ("env_id", "package"),
    [
        ("MinAtar/Breakout-v1", "MinAtar"),
        ("MiniGrid-Empty-5x5-v0", "minigrid"),
        ("BabyAI-GoTo-v0", "minigrid"),
    ],
)
def test_a_known_package_that_is_missing_is_named(monkeypatch, env_id, package):
    monkeypatch.setattr(metadata, "entry_points", lambda **_: ())
    monkeypatch.setitem(sys.modules, "minigrid", None)
    with pytest.raises(EnvError, match=f"needs {package}, .*: pip install {package}$"):
        check_env_id(env_id)


def test_an_id_nobody_has_says_how_a_module_is_named(install):
    with pytest.raises(EnvError, match="if a module of yours registers it, use 'module:Qqq/Xyz'"):
        check_env_id("Qqq/Xyz")
    install("pond", REGISTERS.format(id="Qqq/Xyz") + "\nregister()\n")
    make_envs("pond:Qqq/Xyz").close()
