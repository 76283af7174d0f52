"""A configuration as JSON text: an object of field names and plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastdqn.config.checks import shown
from fastdqn.errors import ConfigError

FORMAT_VERSION = 1


def write(values: Mapping[str, Any]) -> str:
    """The text of a record: the format's version, then every field."""
    return json.dumps({"format_version": FORMAT_VERSION, **values}, indent=2) + "\n"


def read(text: str) -> tuple[dict[str, Any], bool]:
    """What stands in the text, and whether it is a record, which has the format's version.

    Raises:
        ConfigError: Where it is no JSON object, names a field twice, or has another version.
    """
    if not isinstance(text, str | bytes):
        raise ConfigError(f"The configuration is {type(text).__name__}; pass a text of JSON.")
    try:
        body = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:  # ValueError: also an int of 5,000 digits
        hint = "" if text.lstrip()[:1] in ("", "{", "[") else "; a TOML file needs a name in .toml"
        raise ConfigError(f"The configuration is not valid JSON ({error}){hint}.") from None
    if not isinstance(body, dict):
        raise ConfigError("The configuration must be a JSON object of field names and values.")
    record = "format_version" in body
    version = body.pop("format_version", FORMAT_VERSION)
    if type(version) is not int or version != FORMAT_VERSION:
        raise ConfigError(
            f"format_version = {shown(version)} is not known; this fastdqn reads {FORMAT_VERSION}."
        )
    return body, record


def plain_copy(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """The value of a field as it comes back from JSON, so that a resumed run gets equal values.

    Raises:
        ConfigError: Where JSON cannot hold it.
    """
    try:
        if not all(isinstance(key, str) for key in value):
            raise TypeError("names must be strings")
        return dict(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError, RecursionError):
        raise ConfigError(
            f"{name} = {shown(value)} cannot be written as a JSON object of names and plain values."
        ) from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands there twice")
    return body
