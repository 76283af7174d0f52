"""An animated GIF, by Pillow: one palette for all frames, and of each what has changed."""

from __future__ import annotations

import contextlib
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import GifImagePlugin, Image

_COLOURS = 255  # and one index for what stays as it was
_SAMPLES = 48  # frames that the palette is made of
_LARGE = 0.005  # of all pixels
_PLAIN = Image.Dither.NONE  # dots would dance, and every pixel would have to be written anew


class Gif:
    """A film that repeats for ever.

    Frames wait in memory, compressed, until it is known which colours there are.

    Args:
        path: Of the file.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.fps = fps
        self._file = path.open("wb")
        self._frames: list[bytes] = []
        self._size = (0, 0)

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 [H, W, 3]."""
        self._size = frame.shape[1], frame.shape[0]
        self._frames.append(zlib.compress(np.ascontiguousarray(frame).tobytes(), 1))

    def finish(self) -> None:
        """Write them all."""
        if self._frames:
            self._write()
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _image(self, index: int) -> Image.Image:
        return Image.frombytes("RGB", self._size, zlib.decompress(self._frames[index]))

    def _palette(self) -> Image.Image:
        """An image whose palette has the colours of frames spread over the film."""
        count = min(_SAMPLES, len(self._frames))
        images = [self._image(index * len(self._frames) // count) for index in range(count)]
        counts: Counter[Any] = Counter()
        for image in images:
            for pixels, colour in image.getcolors(image.width * image.height) or ():
                counts[colour] += pixels
        colours = list(counts)
        if len(counts) > _COLOURS:  # those of large areas as they are, and a choice for the rest
            large_area = counts.total() * _LARGE
            colours = [c for c, pixels in counts.items() if pixels >= large_area]
            large = set(colours)
            rest = [c for c in counts if c not in large]
            weights = np.array([counts[c] for c in rest])
            drawn = np.repeat(np.array(rest, np.uint8), -(-weights // count), axis=0)
            choice = Image.fromarray(drawn[None]).quantize(_COLOURS - len(colours), dither=_PLAIN)
            colours += np.reshape(choice.getpalette() or [], (-1, 3)).tolist()
        palette = Image.new("P", (1, 1))
        palette.putpalette(bytes(np.array(colours, np.uint8)))
        return palette

    def _write(self) -> None:
        palette = self._palette()
        before: Image.Image | None = None
        newest: Image.Image | None = None  # is to be written
        begin, shown = 0, 0  # which that is, and when it is shown
        for index in range(len(self._frames) + 1):
            image = None
            if index < len(self._frames):
                if index and self._frames[index] == self._frames[begin]:
                    continue  # the one before stays longer
                image = self._image(index).quantize(palette=palette, dither=_PLAIN)
            if index:
                assert newest is not None
                until = round(100 * index / self.fps)  # in hundredths of a second
                self._write_frame(newest, before, 10 * (until - shown))
                before, begin, shown = newest, index, until
            newest = image
        self._file.write(b";")

    def _write_frame(self, image: Image.Image, before: Image.Image | None, ms: int) -> None:
        if before is None:
            header, _ = GifImagePlugin.getheader(image, info={"loop": 0})
            self._file.writelines(header)
            self._file.writelines(GifImagePlugin.getdata(image, duration=ms, disposal=1))
            return
        pixels = np.asarray(image)
        same = pixels == np.asarray(before)
        rows, columns = np.flatnonzero(~same.all(1)), np.flatnonzero(~same.all(0))
        top, bottom = (rows[0], rows[-1] + 1) if len(rows) else (0, 1)
        left, right = (columns[0], columns[-1] + 1) if len(columns) else (0, 1)
        part = np.where(same, _COLOURS, pixels).astype(np.uint8)[top:bottom, left:right]
        crop = Image.fromarray(part, "P")
        crop.putpalette(image.getpalette() or [])
        data = GifImagePlugin.getdata(
            crop, (int(left), int(top)), duration=ms, disposal=1, transparency=_COLOURS
        )
        self._file.writelines(data)
