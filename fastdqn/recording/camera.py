"""From the pictures of an env to those of a film: which, with what on them, and for how long."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from fastdqn.recording.drawing import Drawing
from fastdqn.recording.film_file import FilmFile
from fastdqn.recording.insight import Insight

_HOLD_S = 0.5  # the last picture of an episode stays so long


class Camera:
    """Takes what an env shows at its own speed, and leaves out what the film has no room for.

    Args:
        file: Takes frames.
        drawing: Makes a frame of a picture.
        fps: Pictures per second of the env.
        flickers: Things are drawn in every other picture only. They would be gone, were those left
            out.

    Attributes:
        frames: Written so far.
    """

    def __init__(self, file: FilmFile, drawing: Drawing, *, fps: float, flickers: bool) -> None:
        self._file, self._drawing = file, drawing
        self._ratio = file.fps / fps  # frames per picture, at most 1
        self._mend = flickers and self._ratio < 1
        self._recent: deque[np.ndarray] = deque(maxlen=4)
        self._taken = self.frames = 0
        self._insight: Insight | None = None
        self._caption = ("", "")

    def show(
        self,
        pictures: Sequence[np.ndarray],
        caption: tuple[str, str],
        insight: Insight | None = None,
        *,
        last: bool = False,
    ) -> None:
        """Film what led to a row: all but the newest picture still belong to the row before.

        Args:
            pictures: uint8 [H, W, 3], the newest last.
            caption: What stands above the newest, left and right.
            insight: What the network makes of the newest; None: as before.
            last: Whether the episode ends here.
        """
        for picture in pictures[:-1]:
            self._take(picture)
        self._caption = caption
        self._insight = insight or self._insight
        for picture in pictures[-1:]:
            self._take(picture, keep=last)
        if last and pictures:
            self._write(math.ceil(_HOLD_S * self._file.fps))
            self._recent.clear()

    def _take(self, picture: np.ndarray, *, keep: bool = False) -> None:
        before, self._taken = self._taken, self._taken + 1
        due = math.ceil(self._taken * self._ratio) > math.ceil(before * self._ratio)
        self._recent.append(picture)
        if due or keep:
            shown = without_flicker(self._recent) if self._mend else picture
            self._frame = self._drawing(shown, self._caption, self._insight)
            self._write(1)

    def _write(self, times: int) -> None:
        for _ in range(times):
            self._file.write(self._frame)
            self.frames += 1


def without_flicker(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """The newest picture, with what blinks in it shown at its brightest.

    A pixel blinks that has had two colours in turn in the last four pictures.

    Args:
        pictures: uint8 [H, W, 3], the newest last; with fewer than four nothing is known to blink.
    """
    newest = pictures[-1]
    if len(pictures) < 4:
        return newest
    a, b, c = (pictures[-k] for k in (4, 3, 2))
    blinks = (newest == b).all(2) & (c == a).all(2) & (c != newest).any(2)
    return np.where(blinks[..., None], np.maximum(c, newest), newest)
