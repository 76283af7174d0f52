"""Format and file of an export, where one follows from the other."""

import pytest

from fastdqn.errors import ConfigError
from fastdqn.sharing import formats
from fastdqn.sharing.formats import FORMATS, resolve_format
from fastdqn.sharing.network_file import WRITERS


@pytest.mark.parametrize(
    ("format", "out", "resolved"),
    [
        (None, None, ("onnx", "policy.onnx")),
        ("torch-export", None, ("torch-export", "policy.pt2")),
        (None, "a/b.pt2", ("torch-export", "a/b.pt2")),
        (None, "a/b.ONNX", ("onnx", "a/b.ONNX")),
        ("onnx", "b.onnx", ("onnx", "b.onnx")),
    ],
)
def test_what_has_one_meaning_works(format, out, resolved):
    name, path = resolve_format(format, out)
    assert (name, str(path)) == resolved


@pytest.mark.parametrize(
    ("format", "out", "words"),
    [
        ("onx", None, "format = 'onx' must be one of onnx, torch-export (did you mean 'onnx'?)"),
        ("onnx", "b.pt2", "out = 'b.pt2' does not end in .onnx; name a file that does"),
        ("torch-export", "b", "out = 'b' does not end in .pt2"),
        (None, "b.pth", "out = 'b.pth' does not end in .onnx or .pt2"),
    ],
)
def test_refusals(format, out, words):
    with pytest.raises(ConfigError) as caught:
        resolve_format(format, out)
    assert words in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(ConfigError, match=r"needs onnxscript; pip install 'fastdqn\[export\]'"):
        resolve_format("onnx", None)
    assert resolve_format("torch-export", None)[0] == "torch-export"


def test_every_format_has_a_writer():
    assert WRITERS.keys() == FORMATS.keys()
