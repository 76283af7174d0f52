"""Which pictures of an env a film has, and what blinks in them."""

import numpy as np
import pytest

from fastdqn.recording.camera import Camera, without_flicker
from fastdqn.recording.insight import Insight


class File:
    def __init__(self, fps):
        self.fps, self.frames = fps, []

    def write(self, frame):
        self.frames.append(frame)


def picture(value):
    return np.full((2, 2, 3), value, np.uint8)


def film(count, fps, film_fps, per_row=1, flickers=False):
    """(picture's number, caption, action shown) of every frame, of rows of some pictures."""
    file = File(film_fps)

    def drawing(picture, caption, insight):
        return int(picture[0, 0, 0]), caption[0], None if insight is None else insight.action

    camera = Camera(file, drawing, fps=fps, flickers=flickers)
    for row in range(0, count, per_row):
        pictures = [picture(i) for i in range(row, row + per_row)]
        camera.show(pictures, (f"row {row}", ""), Insight(row, np.zeros(2)))
    assert camera.frames == len(file.frames)
    return file.frames


@pytest.mark.parametrize(
    ("fps", "film_fps", "shown"),
    [
        (60, 60, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (60, 30, [0, 2, 4, 6, 8]),
        (60, 20, [0, 3, 6]),
        (50, 30, [0, 1, 3, 5, 6, 8]),  # at k/30 s picture floor(5k/3) is there
        (10, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    ],
)
def test_pictures_are_left_out_evenly(fps, film_fps, shown):
    assert [number for number, *_ in film(9, fps, film_fps)] == shown


def test_all_but_the_newest_picture_belong_to_the_row_before():
    assert film(8, 60, 60, per_row=4) == [
        *((i, "", None) for i in range(3)), (3, "row 0", 0),
        *((i, "row 0", 0) for i in (4, 5, 6)), (7, "row 4", 4),
    ]  # fmt: skip


def test_the_last_picture_stays_for_half_a_second():
    file = File(8)
    camera = Camera(file, lambda picture, *_: int(picture[0, 0, 0]), fps=60, flickers=False)
    camera.show([picture(i) for i in range(3)], ("", ""), last=True)
    assert file.frames == [0, 2, 2, 2, 2, 2]


def test_what_blinks_is_seen_and_what_moves_leaves_no_trace():
    ground, blinking, ball = (0, 0, 40), (200, 0, 40), (250, 250, 250)
    pictures = [np.full((6, 6, 3), ground, np.uint8) for _ in range(4)]
    for i, frame in enumerate(pictures):
        frame[i, 0] = ball
        if i % 2 == 0:
            frame[:, 3] = blinking  # not in the newest
    expected = pictures[3].copy()
    expected[:, 3] = blinking
    assert np.array_equal(without_flicker(pictures), expected)
    assert without_flicker(pictures[1:]) is pictures[3]
    still = [frame[:, :2] for frame in pictures]
    assert np.array_equal(without_flicker(still), still[3])
