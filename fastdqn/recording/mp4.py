"""H.264 in an mp4 that browsers play, by PyAV."""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import Colorspace

_BT709 = 1  # of ITU-T H.273, for primaries, transfer and matrix alike


class Mp4:
    """A film in H.264, yuv420p, with its index in front.

    Args:
        path: Of the file.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.fps = fps
        options = {"movflags": "faststart"}
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._stream: Any = None

    def write(self, frame: np.ndarray) -> None:
        """Add a frame, uint8 [H, W, 3]; an odd edge is doubled."""
        height, width = frame.shape[:2]
        if height % 2 or width % 2:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._stream is None:
            self._open(frame.shape[1], frame.shape[0])
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)
        for packet in self._stream.encode(picture):
            self._container.mux(packet)

    def finish(self) -> None:
        """Write what the encoder still holds, and the index."""
        if self._stream is not None:
            for packet in self._stream.encode(None):
                self._container.mux(packet)
        self._container.close()

    def abandon(self) -> None:
        """Close the file as it is."""
        with contextlib.suppress(Exception):
            self._container.close()

    def _open(self, width: int, height: int) -> None:
        rate = Fraction(self.fps).limit_denominator(1001)
        # Sharp edges and few colours: a small crf costs little here, and keeps the text readable.
        stream: Any = self._container.add_stream(
            "libx264", rate=rate, options={"crf": "18", "preset": "medium", "threads": "1"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        context = stream.codec_context
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        self._stream = stream
