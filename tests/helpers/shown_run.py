"""What a display asks a run for."""

from typing import NamedTuple


class ShownRun(NamedTuple):
    """A run that has said all it is."""

    title: str
    said: str

    def header(self):
        return self.said
