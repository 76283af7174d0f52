"""docs/howto/export-and-share.md: its script plays without fastdqn, its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest
from helpers.short_runs import tiny

import fastdqn
from fastdqn.cli.main import main

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
