"""One torch thread: two of them beside a busy process slow convolutions down tens of times."""

import pytest
import torch
from matplotlib.figure import Figure

torch.set_num_threads(1)


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    saved = []
    really = Figure.savefig

    def savefig(self, *args, **kwargs):
        saved.append(self)
        return really(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return saved
