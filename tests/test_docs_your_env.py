"""docs/your-env.md: its commands print what stands there, and its table names what there is."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from fastdqn.cli.main import main

TEXT = (Path(__file__).parents[1] / "docs" / "your-env.md").read_text(encoding="utf-8")
FILE = r"<!-- delivery\.py -->\n```python\n(.*?)^```"
COMMAND = r"^```bash\n(.*?)^```(?:\n\n```\n(.*?)^```)?"


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """A working directory with the reader's module in it."""
    where = tmp_path_factory.mktemp("your_env")
    (where / "delivery.py").write_text(re.search(FILE, TEXT, re.M | re.S)[1])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        patch.syspath_prepend(str(where))
        yield where
    sys.modules.pop("delivery", None)


def test_the_commands_print_what_stands_there(capsys):
    found = re.findall(COMMAND, TEXT, re.M | re.S)
    commands = [(line, output) for block, output in found for line in block.splitlines()]
    assert len(commands) == 6
    for line, output in commands:
        words = shlex.split(line)
        assert words[0] == "fastdqn"
        # Training is the README's; here it is enough that all is made and fits.
        arguments = [*words[1:], *(["--dry-run"] if words[1] == "train" else [])]
        assert main(arguments) == 0, line
        printed = capsys.readouterr().out
        assert printed.startswith(("env ", "envs ", "preset "))
        if output:
            assert printed == output, line


def test_the_table_is_of_what_is_there():
    """Networks and options that it names exist."""
    from fastdqn.config.config import Config
    from fastdqn.config.fields import fields_of
    from fastdqn.networks.torsos import TORSOS

    options = set(re.findall(r"^\| `(\w+) = ", TEXT, re.M))
    assert len(options) == 6 and options <= set(fields_of(Config))
    assert set(re.findall(r"`(mlp|nature|small_cnn)`", TEXT)) <= set(TORSOS)
