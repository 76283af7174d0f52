"""docs/cli.md says of every command what the code says; what howto/command-line.md names works."""

import re
from pathlib import Path

import pytest

from fastdqn.cli.document import EXIT_CODES, document
from fastdqn.cli.help import guide_of
from fastdqn.cli.main import COMMANDS
from fastdqn.cli.train_arguments import train_config
from fastdqn.config.config import Config
from fastdqn.config.groups import GROUPS
from fastdqn.config.presets import preset
from fastdqn.system.stopping import GO_ON_CODES
from fastdqn.system.watchdog import EXIT_HANG

DOCS = Path(__file__).parents[2] / "docs"
HOWTO = (DOCS / "howto/command-line.md").read_text(encoding="utf-8")


def test_the_page_is_in_step_with_the_commands():
    again = "run 'python -m fastdqn.cli.document > docs/cli.md'"
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == document(), again


def test_every_command_and_option_has_its_place():
    sections = re.split(r"^## ", document(), flags=re.M)
    assert [part.split("\n")[0] for part in sections[1:]] == [*COMMANDS, "Exit codes"]
    for name, part in zip(COMMANDS, sections[1:], strict=False):
        options = guide_of(COMMANDS[name].run).options
        rows = re.findall(r"^\| `(?:--(?:\[no-\])?([a-z0-9-]+))?", part, flags=re.M)
        assert rows == ["" if option.positional else option.word for option in options]
        assert all(option.meaning for option in options), name
        assert f"`fastdqn {COMMANDS[name].usage}`" in part or f"`fastdqn {name} " in part, name


def test_rows_by_hand():
    rows = document().splitlines()
    assert "| `--n-step INT` | `3` | Steps of the n-step return. |" in rows
    assert "| `--[no-]batch-norm` | `off` |" in document()
    assert "| `--torch-threads INT or None` | `None` |" in document()
    assert "| `fastdqn eval RUN [--episodes N]` | play with a trained agent |" in rows


def test_every_exit_code_is_listed():
    assert set(EXIT_CODES) == {0, 1, 2, EXIT_HANG, *GO_ON_CODES.values()}
    listed = re.findall(r"^\| (\d+) \|", document(), flags=re.M)
    assert [int(code) for code in listed] == sorted(EXIT_CODES)


def test_the_file_of_the_howto_is_read_as_it_says(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", HOWTO, flags=re.S)[1], encoding="utf-8")
    expected = preset("dqn-atari").replace(
        seed=7, env_id="ALE/Breakout-v5", reward_clip=None, env_kwargs={"mode": 0},
        learning_rate=1e-4,
    )  # fmt: skip
    assert Config.load(path) == expected
    assert train_config(["--config", str(path), "--seed", "8"])[0] == expected.replace(seed=8)
    assert all(f"`{group}`" in HOWTO for group in GROUPS)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_howto_installs_every_completion(shell):
    assert f"fastdqn completion {shell}" in HOWTO
