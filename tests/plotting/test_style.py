"""What all pictures share."""

import math
import sys

import pytest

from fastdqn.plotting import style


def test_the_names_on_the_axis():
    names = [style.si(x) for x in (0, 500, 20_000, 2.5e6, 1e9)]
    assert names == ["0", "500", "20k", "2.5M", "1B"]
    assert math.isnan(float(style.si(math.nan)))


@pytest.mark.parametrize(
    ("name", "magic"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")]
)
def test_the_suffix_is_the_format(tmp_path, name, magic):
    figure = style.new_figure(2, 2)
    style.plain_axes(figure.add_subplot())
    assert style.save(figure, tmp_path / name).read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_failed_save_leaves_the_old_picture_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_text("old")
    figure = style.new_figure(2, 2)

    def torn(file, **_):
        file.write_text("half")
        raise OSError(28, "no space")

    monkeypatch.setattr(figure, "savefig", torn)
    with pytest.raises(OSError, match="no space"):
        style.save(figure, path)
    assert path.read_text() == "old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.png"]


def test_it_leaves_no_global_state():
    before = "matplotlib.pyplot" in sys.modules
    style.new_figure(2, 2)
    assert ("matplotlib.pyplot" in sys.modules) == before
