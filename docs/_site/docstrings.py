"""Docstrings for the site: roles of Sphinx become code, and so do shapes, which have stars.

The ``::`` before an example becomes a colon.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:class|func|meth|mod|attr|data):`~?([^`]+)`")
SHAPE = re.compile(r"(?<![\w`])(\[[A-Z][^\]`\n]*\*O[^\]`\n]*\])(?!`)")
LITERAL = re.compile(r"::(?=\n\n)")


class Readable(griffe.Extension):
    """Rewrites each docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Edit the docstring of one object."""
        if obj.docstring:
            text = ROLE.sub(r"`\1`", obj.docstring.value)
            obj.docstring.value = LITERAL.sub(":", SHAPE.sub(r"`\1`", text))
