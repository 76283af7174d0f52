"""A frame of a film: the picture, a line of text above it, what the network makes of it beside it.

Drawn with Pillow: a figure of matplotlib would take a hundred times as long.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fastdqn.errors import EnvError
from fastdqn.plotting.style import ORANGE
from fastdqn.recording.insight import Insight

_GROUND, _TEXT, _DIM, _BAR = "#14161a", "#f2f2f2", "#a4abb5", "#5b626c"
_HEAT = np.array(ImageColor.getrgb("#38c6ff"), np.float32)
_SIDE = 480  # pixels up to which small pictures are enlarged
_STRIP, _GAP = 28, 8  # height of the text above, and what stands between things
_FONT, _BAR_WIDTH = 16, 72
_LETTERS = 33  # of the text above, room for "return -12345.67" and "episode 10, step 10,000"
_ROWS = (15, 30)  # heights of a bar's row
_FULL = 99.5  # percentile of a map that is drawn in full colour
_FADE = 0.97  # how fast larger values are forgotten, per env step


class Drawing:
    """Draws the frames of one film, which are all of one size.

    Args:
        actions: Names of the bars; empty: there are none.
        panel: Height and width of what the network sees, to be shown with its saliency beside the
            picture; None: saliency is drawn over the picture.
    """

    def __init__(self, actions: Sequence[str], panel: tuple[int, int] | None = None) -> None:
        self._actions, self._panel = list(actions), panel
        self._shape: tuple[int, ...] | None = None
        self._spread = 0.0  # difference of Q that fills a bar
        self._full = 0.0  # saliency that is drawn in full colour
        self._newest: Insight | None = None

    def __call__(
        self, picture: np.ndarray, caption: tuple[str, str], insight: Insight | None
    ) -> np.ndarray:
        """A frame, uint8 [H, W, 3].

        Args:
            picture: uint8 [H, W, 3], always of one size.
            caption: What stands above it, left and right.
            insight: To show; None: nothing is known yet.

        Raises:
            EnvError: Where the size has changed.
        """
        self._shape = self._shape or picture.shape
        if picture.shape != self._shape:
            raise EnvError(
                f"The env draws {picture.shape[:2]} pixels, and {self._shape[:2]} before; let its "
                f"render() keep to one size."
            )
        self._adapt(insight)
        parts = [self._heated(enlarged(picture), None if self._panel else insight)]
        if self._panel is not None:
            seen = np.zeros(self._panel, np.float32)
            if insight is not None and insight.frame is not None:
                seen = insight.frame
            grey = np.repeat((255 * seen).astype(np.uint8)[..., None], 3, axis=2)
            parts.append(self._heated(enlarged(grey), insight))
        images = [Image.fromarray(part) for part in parts]
        if self._actions:
            images.append(self._bars(max(image.height for image in images), insight))
        return self._framed(images, caption)

    def _adapt(self, insight: Insight | None) -> None:
        """Scales of bars and maps: steady, or every frame would look decisive."""
        if insight is None or insight is self._newest:
            return
        self._newest = insight
        self._spread = max(float(np.ptp(insight.q)), _FADE * self._spread)
        if insight.saliency is not None:
            self._full = max(float(np.percentile(insight.saliency, _FULL)), _FADE * self._full)

    def _heated(self, picture: np.ndarray, insight: Insight | None) -> np.ndarray:
        """The picture, darker, with the map in one colour over it."""
        if insight is None or insight.saliency is None:
            return picture
        size = picture.shape[1], picture.shape[0]
        map_ = Image.fromarray(insight.saliency.astype(np.float32)).resize(
            size, Image.Resampling.BILINEAR
        )
        strength = np.clip(np.asarray(map_) / (self._full or 1.0), 0, 1)[..., None]
        # Pale below, so that the colour is seen on every ground; never so strong as to hide things.
        mixed = picture * (0.75 - 0.25 * strength) + 0.8 * strength * _HEAT
        return np.clip(mixed, 0, 255).astype(np.uint8)

    def _bars(self, height: int, insight: Insight | None) -> Image.Image:
        """Q of every action from the lowest on, for only differences decide."""
        row = int(np.clip(height // len(self._actions), *_ROWS))
        font = font_of(min(_FONT, row - 3))
        wide = max(int(font.getlength(name)) for name in self._actions)
        left, right = _GAP + wide + _GAP, int(font.getlength("-0.0000")) + _GAP
        size = left + _BAR_WIDTH + _GAP + right, max(height, row * len(self._actions))
        image = Image.new("RGB", size, _GROUND)
        draw = ImageDraw.Draw(image)
        top = (size[1] - row * len(self._actions)) // 2
        for index, name in enumerate(self._actions):
            y = top + index * row
            middle = y + row // 2
            chosen = insight is not None and index == insight.action
            draw.text((left - _GAP, middle), name, _TEXT if chosen else _DIM, font, anchor="rm")
            if insight is None:
                continue
            above = float(insight.q[index] - insight.q.min()) / (self._spread or 1.0)
            end = left + max(1, round(_BAR_WIDTH * above))
            box = (left, y + row // 6, end, y + row - row // 6 - 1)
            draw.rectangle(box, fill=ORANGE if chosen else _BAR)
            value = f"{insight.q[index]:.{_decimals(insight.q)}f}"
            color = _TEXT if chosen else _DIM
            draw.text((size[0] - _GAP, middle), value, color, font, anchor="rm")
        return image

    def _framed(self, images: Sequence[Image.Image], caption: tuple[str, str]) -> np.ndarray:
        """Images side by side under the text."""
        font = font_of(_FONT)
        # However narrow the picture is, the text has room: frames must not change their size.
        least = int(font.getlength("0" * _LETTERS)) + 2 * _GAP
        inner = sum(image.width for image in images) + _GAP * (len(images) - 1)
        tall = max(image.height for image in images)
        frame = Image.new("RGB", (max(inner, least), _STRIP + tall), _GROUND)
        x = (frame.width - inner) // 2
        for image in images:
            frame.paste(image, (x, _STRIP + (tall - image.height) // 2))
            x += image.width + _GAP
        draw = ImageDraw.Draw(frame)
        left, right = caption
        draw.text((_GAP, _STRIP // 2), left, _TEXT, font, anchor="lm")
        draw.text((frame.width - _GAP, _STRIP // 2), right, _DIM, font, anchor="rm")
        return np.asarray(frame)


def _decimals(values: np.ndarray) -> int:
    """That show three digits of the largest, one notation for all."""
    largest = float(np.abs(values).max())
    return int(np.clip(2 - np.floor(np.log10(largest)), 0, 3)) if 0 < largest < np.inf else 1


def enlarged(picture: np.ndarray) -> np.ndarray:
    """A small picture by a whole factor, every pixel a square: its longer side is at most 480."""
    factor = max(1, _SIDE // max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


@functools.lru_cache
def font_of(size: int) -> Any:
    """Pillow's own font."""
    return ImageFont.load_default(size)
