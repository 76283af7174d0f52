"""Films on the disk: what was written comes back, at its speed; whole or not there."""

import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageSequence

from fastdqn.errors import ConfigError
from fastdqn.recording.film_file import film_file, film_path

av = pytest.importorskip("av")


def frames(count=7, size=(21, 33), colours=5, seed=0):
    """Blocks of few colours that move."""
    palette = np.random.default_rng(seed).integers(0, 256, (colours, 3), np.uint8)
    rows, columns = np.indices(size)
    return [palette[(rows // 8 + columns // 8 + i) % colours] for i in range(count)]


def write(path, film, fps):
    with film_file(path, fps) as file:
        for frame in film:
            file.write(frame)
    return path


def read_gif(path):
    """Frames, and how long each is shown in ms."""
    with Image.open(path) as image:
        assert image.info["loop"] == 0
        shown = [
            (np.asarray(frame.convert("RGB")), frame.info["duration"])
            for frame in ImageSequence.Iterator(image)
        ]
    return [frame for frame, _ in shown], [ms for _, ms in shown]


def read_mp4(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return found, stream


@pytest.mark.parametrize("colours", [2, 40, 255])
def test_a_gif_of_few_colours_has_them_all(tmp_path, colours):
    film = frames(9, (40, 60), colours)
    found, times = read_gif(write(tmp_path / "a.gif", film, 30.0))
    assert len(found) == 9 and all(np.array_equal(a, b) for a, b in zip(found, film, strict=True))
    assert times == [30, 40, 30, 30, 40, 30, 30, 40, 30]  # 3 1/3 hundredths each, rounded in sum


def test_a_gif_of_many_colours_keeps_large_areas(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    film = [np.full((80, 80, 3), (250, 253, 255), np.uint8) for _ in range(3)]
    for i, frame in enumerate(film):
        frame[i : i + 40, 20:60] = noise
    found, _ = read_gif(write(tmp_path / "a.gif", film, 10.0))
    for frame, made in zip(film, found, strict=True):
        assert np.array_equal(made[60:], frame[60:])
        assert np.abs(made.astype(int) - frame).mean() < 12


def test_a_gif_counts_its_pixels_once_however_many_colours_there_are(tmp_path, monkeypatch):
    counted, total = [], Counter.total
    monkeypatch.setattr(Counter, "total", lambda self: counted.append(1) or total(self))
    ramp = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3)
    with film_file(tmp_path / "film.gif", 10.0) as film:
        film.write((ramp * 2_654_435_761 >> 7).astype(np.uint8))
    with Image.open(tmp_path / "film.gif") as image:
        assert image.size == (64, 64)
    assert len(counted) == 1


def test_a_gif_shows_a_repeated_frame_longer(tmp_path):
    a, b = frames(2)
    found, times = read_gif(write(tmp_path / "a.gif", [a, a, a, b, b, a], 10.0))
    assert [np.array_equal(f, g) for f, g in zip(found, [a, b, a], strict=True)] == [True] * 3
    assert times == [300, 200, 100]


@pytest.mark.parametrize(("size", "even"), [((21, 33), (22, 34)), ((40, 60), (40, 60))])
def test_an_mp4_is_what_browsers_play(tmp_path, size, even):
    film = frames(13, size)
    found, stream = read_mp4(write(tmp_path / "a.mp4", film, 12.5))
    context = stream.codec_context
    assert (context.name, context.pix_fmt, float(stream.average_rate)) == ("h264", "yuv420p", 12.5)
    assert len(found) == 13 and found[0].shape == (*even, 3)
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")  # the index comes first
    grey = np.full((64, 64, 3), (200, 80, 20), np.uint8)
    (found, *_), _ = read_mp4(write(tmp_path / "b.mp4", [grey], 5.0))
    assert np.abs(found.astype(int) - grey).max() <= 4


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_film_that_fails_leaves_what_was_there(tmp_path, name):
    path = tmp_path / name
    path.write_text("an older film")
    with pytest.raises(KeyError), film_file(path, 10.0) as file:
        file.write(frames(1)[0])
        raise KeyError
    assert path.read_text() == "an older film" and os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("name", ["a.gif", "a.mp4"])
def test_a_disk_that_refuses_is_an_oserror(tmp_path, name):
    with pytest.raises(OSError), film_file(tmp_path / "no" / name, 10.0) as file:
        file.write(frames(1)[0])
        file.finish()


@pytest.mark.parametrize(
    ("out", "fps", "message"),
    [
        ("a.avi", None, r"out = '.*a.avi' is no film; end it in .mp4 or .gif."),
        ("a", None, "is no film"),
        ("no/a.gif", None, "needs the directory '.*no'; name a file in a directory that exists"),
        ("d.gif", None, "is a directory"),
        ("a.gif", 60.0, "fps = 60 is too fast for a .gif; use 50 or less, or an .mp4."),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, out, fps, message):
    (tmp_path / "d.gif").mkdir()
    with pytest.raises(ConfigError, match=message):
        film_path(tmp_path / out, fps)


def test_mp4_without_pyav_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fastdqn\[video\]', or end it in .gif"):
        film_path(tmp_path / "a.mp4")
    assert film_path(tmp_path / "A.GIF") == tmp_path / "A.GIF"
