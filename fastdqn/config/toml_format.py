"""A configuration as TOML text: as :mod:`fastdqn.config.json_format`, for people to write."""

from __future__ import annotations

import tomllib
from typing import Any

from fastdqn.errors import ConfigError
from fastdqn.system.bounded_json import MAX_JSON_VALUES

_MAX_DOTS = 1_000  # in a line: what a key of n parts costs grows with n squared


def read(text: str) -> dict[str, Any]:
    """What stands in the text.

    Raises:
        ConfigError: Where it is no TOML, or more of it than may be parsed.
    """
    values = sum(map(text.count, "=.,[{"))
    dots = max((line.count(".") for line in text.splitlines()), default=0)
    if values > MAX_JSON_VALUES or dots > _MAX_DOTS:
        raise ConfigError(
            f"The configuration has {values} values, and {dots} dots in a line; at most "
            f"{MAX_JSON_VALUES} and {_MAX_DOTS} are read."
        )
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: also an int of 5,000 digits
        hint = "; put texts in quotes, and None, too" if "Invalid value" in str(error) else ""
        raise ConfigError(f"The configuration is not valid TOML ({error}){hint}.") from None
