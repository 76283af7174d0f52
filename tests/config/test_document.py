"""docs/config.md says of every field what the code says."""

from dataclasses import fields
from pathlib import Path

from fastdqn.config.config import Config
from fastdqn.config.document import document


def test_the_page_is_in_step_with_the_code():
    page = Path(__file__).parents[2] / "docs" / "config.md"
    again = "run 'python -m fastdqn.config.document > docs/config.md'"
    assert page.read_text(encoding="utf-8") == document(), again


def test_a_row_by_hand_and_one_for_every_field():
    rows = [line for line in document().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in fields(Config)]
    assert all(row.replace(r"\|", "").count("|") == 6 for row in rows)
    wanted = (
        "| `learning_rate` | float | `0.001` | above 0 and at most 10 | Step size. |",
        "| `padding` | choice | `'valid'` | `valid`, `same` | Of the convolutions of networks "
        "nature and der: same pads with zeros, as Dopamine does. |",
        "| `stop_eval_return` | float or None | `None` | any finite | Stop once the mean return of "
        "an evaluation during the run reaches this. |",
    )
    assert set(wanted) <= set(rows)
