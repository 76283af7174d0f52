"""The formats that a network can be exported to. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fastdqn.errors import ConfigError, nearest


@dataclass(frozen=True)
class ExportFormat:
    """What a format's files are called, and the packages that write and run them."""

    suffix: str
    packages: tuple[str, ...] = ()


FORMATS = {
    "onnx": ExportFormat(".onnx", ("onnx", "onnxscript", "onnxruntime")),
    "torch-export": ExportFormat(".pt2"),
}


def resolve_format(format: str | None, out: str | None) -> tuple[str, Path]:
    """The format and the file, where one may be left to follow from the other.

    Args:
        format: Its name; None: that of the file's suffix, without a file ``onnx``.
        out: The file; None: ``policy`` with the format's suffix.

    Raises:
        ConfigError: Where there is no such format, its packages are not installed, or the suffix
            is another's.
    """
    if format is not None and format not in FORMATS:
        hint = nearest(format, list(FORMATS))
        raise ConfigError(f"format = {format!r} must be one of onnx, torch-export{hint}.")
    suffix = "" if out is None else Path(out).suffix.lower()
    of_suffix = {known.suffix: name for name, known in FORMATS.items()}.get(suffix)
    if out is not None and (of_suffix is None or format not in (None, of_suffix)):
        wanted = " or ".join(
            known.suffix for name, known in FORMATS.items() if format in (None, name)
        )
        raise ConfigError(f"out = {out!r} does not end in {wanted}; name a file that does.")
    chosen = format or of_suffix or "onnx"
    missing = [name for name in FORMATS[chosen].packages if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"format = {chosen!r} needs {missing[0]}; pip install 'fastdqn[export]', or use format "
            f"= 'torch-export'."
        )
    return chosen, Path(f"policy{FORMATS[chosen].suffix}" if out is None else out)
