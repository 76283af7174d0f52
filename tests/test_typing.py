"""Type checkers see every public name, with a type."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastdqn
from fastdqn import learning, networks

ROOT = Path(__file__).parents[1]
USER_FILE = ROOT / "tests" / "data" / "user_file.py"
USER_OF_INTEGRATIONS = USER_FILE.with_name("user_of_integrations.py")
PACKAGES = [fastdqn, learning, networks]

# What a user's program gets, and a part of what mypy must call it.
REVEALED = {
    "fastdqn.train": "-> fastdqn.training.trainer.TrainResult",
    "fastdqn.train('cartpole').policy.act": "-> ",
    "fastdqn.presets()": "dict[str, fastdqn.config.config.Config]",
    "fastdqn.load('run')": "fastdqn.acting.policy.Policy",
    "fastdqn.make_envs('CartPole-v1').step": "-> tuple[",
    "fastdqn.make_network((4,), 2)": "fastdqn.networks.q_network.QNetwork",
    "fastdqn.Learner(network)": "fastdqn.learning.learner.Learner",
    "fastdqn.Learner(network).update(batch).loss": "torch._tensor.Tensor",
    "fastdqn.Learner(network).policy()": "fastdqn.acting.policy.Policy",
    "replay.sample(8).reward": "torch._tensor.Tensor",
    "replay.latest()": "torch._tensor.Tensor",
    "batch.discount": "torch._tensor.Tensor",
    "fastdqn.EpisodeStatistics(2).read().return_mean": "float",
    "fastdqn.linear_schedule(1, 1.0, 0.0, 0, 10)": "float",
    "fastdqn.learning.td_error": "-> torch._tensor.Tensor",
    "fastdqn.networks.MLP(4, (8,)).features": "int",
    "fastdqn.evaluate": "-> fastdqn.acting.evaluation.EvalResult",
}
BEFORE = """
import gymnasium, numpy, torch
import fastdqn
network = torch.nn.Linear(4, 2)
replay = fastdqn.ReplayBuffer(64, 2, gymnasium.spaces.Box(-1, 1, (4,), numpy.float32))
batch = replay.sample(8)
"""
WRONG = ["fastdqn.Replaybuffer", "fastdqn.networks.Mlp", "fastdqn.learning.tderror",
         "fastdqn.train(3)", "batch.observations"]  # fmt: skip


@pytest.fixture(scope="module")
def mypy(request):
    """``mypy --strict`` without this project's settings."""
    pytest.importorskip("mypy")
    cache = request.config.cache.mkdir("mypy")  # torch takes ten seconds to read

    def run(path):
        command = [sys.executable, "-m", "mypy", "--config-file=", "--strict",
                   "--follow-imports=silent", f"--cache-dir={cache}", str(path)]  # fmt: skip
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout

    return run


def test_a_program_with_every_public_name_is_typed(mypy):
    assert mypy(USER_FILE).startswith("Success")


def test_a_program_with_the_integrations_is_typed(mypy):
    """TorchRL itself has no types; ours have, behind its interfaces as well."""
    from fastdqn.integrations import sb3, torchrl

    assert mypy(USER_OF_INTEGRATIONS).startswith("Success")
    assert {*sb3.__all__, *torchrl.__all__} - set(names_in(USER_OF_INTEGRATIONS)) == set()


def test_main_types_are_known_and_wrong_names_are_not(mypy, tmp_path):
    path = tmp_path / "revealed.py"
    lines = [*(f"reveal_type({name})" for name in REVEALED), *WRONG]
    path.write_text(BEFORE + "\n".join(lines))
    first = BEFORE.count("\n") + 1
    found = {}
    for number, text in re.findall(r"revealed\.py:(\d+): (?:note|error): (.*)", mypy(path)):
        found.setdefault(lines[int(number) - first], []).append(text)
    for name, part in REVEALED.items():
        (text,) = found.pop(f"reveal_type({name})")
        kind = re.fullmatch(r'Revealed type is "(.*)"', text)[1]
        assert part in kind and not re.search(r"(?<!\[)(?<!, )\bAny\b", kind), (name, kind)
    assert sorted(found) == sorted(WRONG)


def names_in(path):
    """Every name, attribute and imported name of a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name


def test_the_program_has_every_public_name():
    public = {name for package in PACKAGES for name in package.__all__}
    assert public - set(names_in(USER_FILE)) == set()


def test_the_program_runs(tmp_path):
    command = [sys.executable, str(USER_FILE), str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].startswith(f"{fastdqn.__version__} 400 ")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_all_is_a_literal_of_what_is_there(package):
    tree = ast.parse(Path(package.__file__).read_text())
    (literal,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    extra = ["__version__"] if package is fastdqn else []
    assert sorted(literal) == sorted([*package._HOME, *extra]) == sorted(package.__all__)
    assert len(set(literal)) == len(literal)
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("fastdqn.")
        for alias in node.names
    }
    for name, home in package._HOME.items():
        assert seen[name] == f"fastdqn.{home}"  # type checkers and Python look in one place
        assert getattr(package, name) is getattr(sys.modules[f"fastdqn.{home}"], name)
        assert name in dir(package)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_other_names_are_refused(package):
    with pytest.raises(AttributeError, match="no attribute 'Replaybuffer'"):
        package.Replaybuffer  # noqa: B018
