"""A film in another format."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from fastdqn.recording.gif import Gif

_FPS, _FRAMES, _WIDTH = 15.0, 600, 320  # what a dashboard shows of it


def gif_of(film: Path) -> bytes:
    """The beginning of a film as a small GIF, for what shows no other; one that is a GIF as it is.

    Args:
        film: ``.mp4`` or ``.gif``.
    """
    if film.suffix.lower() == ".gif":
        return film.read_bytes()
    import av

    with tempfile.TemporaryDirectory() as scratch, av.open(str(film)) as container:
        path = Path(scratch) / "film.gif"
        gif = Gif(path, _FPS)
        stream, written = container.streams.video[0], 0
        step = max(1, -(-stream.width // _WIDTH))
        every = max(1.0, float(stream.average_rate or _FPS) / _FPS)
        for number, frame in enumerate(container.decode(stream)):
            if number >= written * every:
                gif.write(np.ascontiguousarray(frame.to_ndarray(format="rgb24")[::step, ::step]))
                written += 1
            if written == _FRAMES:
                break
        gif.finish()
        return path.read_bytes()
