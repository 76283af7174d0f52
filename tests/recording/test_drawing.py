"""What a frame of a film shows, and that it hides nothing of the game."""

import numpy as np
import pytest
from PIL import ImageColor

from fastdqn.errors import EnvError
from fastdqn.plotting.style import ORANGE
from fastdqn.recording import drawing
from fastdqn.recording.drawing import Drawing, enlarged
from fastdqn.recording.insight import Insight


def picture(height=210, width=160, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("size", "factor"),
    [((210, 160), 2), ((84, 84), 5), ((40, 90), 5), ((600, 400), 1), ((1, 1), 480)],
)
def test_small_pictures_are_enlarged_by_whole_pixels(size, factor):
    small = picture(*size)
    large = enlarged(small)
    assert large.shape == (size[0] * factor, size[1] * factor, 3)
    assert np.array_equal(large[::factor, ::factor], small)
    assert np.array_equal(large[factor - 1 :: factor, factor - 1 :: factor], small)


def contains(frame, image):
    """Where the frame has the image, untouched; from the bottom, centred."""
    top, left = frame.shape[0] - image.shape[0], (frame.shape[1] - image.shape[1]) // 2
    part = frame[top:, left : left + image.shape[1]]
    return np.array_equal(part, image)


@pytest.mark.parametrize("size", [(210, 160), (84, 20), (7, 5), (500, 700)])
def test_text_stands_above_the_whole_picture(size):
    shown = picture(*size)
    frame = Drawing([])(shown, ("return -3", "step 1,234"), None)
    assert contains(frame, enlarged(shown))
    strip = frame[: frame.shape[0] - enlarged(shown).shape[0]]
    assert strip.max() > 200 and len(strip) <= 32
    other = Drawing([])(shown, ("return -12345.67", "episode 10,000, step 10,000"), None)
    assert other.shape == frame.shape


def widths(frame, color):
    """Lengths of the horizontal runs of a colour, one for each block of rows."""
    found = (frame == ImageColor.getrgb(color)).all(axis=2).sum(axis=1)
    runs = [int(n) for n, before in zip(found[1:], found[:-1], strict=True) if n and n != before]
    return runs


def test_bars_are_as_long_as_q_above_the_lowest():
    draw = Drawing(["left", "none", "right"])
    frame = draw(picture(), ("", ""), Insight(2, np.array([1.0, 1.5, 2.0])))
    full = drawing._BAR_WIDTH
    assert widths(frame, ORANGE) == [full + 1]  # the rectangle's ends are both drawn
    assert widths(frame, drawing._BAR) == [2, full // 2 + 1]
    # A smaller difference a step later: the scale forgets slowly.
    frame = draw(picture(), ("", ""), Insight(0, np.array([1.4, 1.0, 1.0])))
    assert widths(frame, ORANGE) == [round(full * 0.4 / drawing._FADE) + 1]


def test_there_is_room_for_eighteen_actions_and_none_is_known_at_first():
    draw = Drawing([f"action {i}" for i in range(18)])
    shown = picture(20, 40)
    first = draw(shown, ("", ""), None)
    later = draw(shown, ("", ""), Insight(17, np.arange(18.0)))
    assert first.shape == later.shape and widths(first, ORANGE) == []
    assert len(widths(later, drawing._BAR)) == 17


def test_saliency_colours_where_it_is():
    shown = np.full((84, 84, 3), 60, np.uint8)
    map_ = np.zeros((84, 84), np.float32)
    map_[:20, :20] = 2.0
    frame = Drawing([])(shown, ("", ""), Insight(0, np.zeros(2), map_))
    game = frame[-420:, (frame.shape[1] - 420) // 2 :][:, :420].astype(int)
    assert (game[:80, :80, 2] - game[:80, :80, 0] > 100).all()  # blue
    assert (game[200:, 200:] == 45).all()  # grey, darker


def test_saliency_beside_a_picture_of_something_else():
    shown = picture(300, 200)
    seen = np.linspace(0, 1, 12 * 12).reshape(12, 12)
    draw = Drawing([], panel=(12, 12))
    blank = draw(shown, ("", ""), None)
    frame = draw(shown, ("", ""), Insight(0, np.zeros(2), np.zeros((12, 12)), seen))
    assert frame.shape == blank.shape == (28 + 480, 200 + 8 + 480, 3)
    assert np.array_equal(frame[28 + 90 : 28 + 390, :200], shown)
    assert (frame[28:, 208:][-40:, -40:, 0] > frame[28:, 208:][:40, :40, 0].max()).all()


def test_a_picture_of_another_size_is_refused():
    draw = Drawing([])
    draw(picture(), ("", ""), None)
    with pytest.raises(EnvError, match=r"draws \(20, 30\) pixels, and \(210, 160\) before"):
        draw(picture(20, 30), ("", ""), None)
