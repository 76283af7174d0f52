"""docs/howto/export-and-share.md: its script plays without fastdqn, its commands exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from helpers.short_runs import tiny

import fastdqn
from fastdqn.cli import arguments
from fastdqn.cli.export import _ExportFlags
from fastdqn.cli.main import COMMANDS, main
from fastdqn.cli.push import _PushFlags

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "howto" / "export-and-share.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"<!-- play\.py -->\n```python\n(.*?)^```", TEXT, re.M | re.S)[1]
ALONE = "import sys; sys.modules.update(dict.fromkeys(['torch', 'fastdqn']))\n"


def returns(policy):
    """Of the same three episodes, played by the policy itself."""
    env = gymnasium.make("CartPole-v1")
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(int(policy.act(observation)))
            total, over = total + reward, terminated or truncated
        yield f"seed {seed}: return {total:.0f}"


@pytest.mark.slow
def test_the_script_plays_alone(tmp_path):
    run, out = tmp_path / "run", tmp_path / "policy.onnx"
    fastdqn.train(tiny(run, total_env_steps=2_000, device="cpu", torch_threads=1))
    assert main(["export", str(run), "--out", str(out)]) == 0
    (tmp_path / "play.py").write_text(ALONE + SCRIPT)
    done = subprocess.run(
        [sys.executable, "-I", "play.py", str(out)],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == list(returns(fastdqn.load(run, device="cpu")))


def test_the_script_is_short():
    lines = [line for line in SCRIPT.splitlines() if line]
    assert len(lines) <= 20
    assert not re.search(r"torch|fastdqn", SCRIPT)


def test_commands_and_options_exist():
    kinds = {"export": _ExportFlags, "push": _PushFlags}
    lines = [line for block in re.findall(r"```bash\n(.*?)^```", TEXT, re.M | re.S)
             for line in block.splitlines() if line.startswith("fastdqn")]  # fmt: skip
    assert len(lines) == 6
    for line in lines:
        _, command, *_ = shlex.split(line, comments=True)
        assert command in COMMANDS
        if command in kinds:
            known = {f"--{name}" for name in arguments._options(kinds[command])}
            named = re.findall(r"--[a-z-]+", line)
            assert set(named) <= known
