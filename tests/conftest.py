"""One torch thread: two of them beside a busy process slow convolutions down tens of times."""

import pytest
import torch
from matplotlib.figure import Figure

from fastdqn import loops

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=["loops", "torch"])
def both_ways(request):
    """The replay on a CPU with Numba, and as it is on a GPU or without Numba."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "torch":
            patch.setattr(loops, "choose_loops", lambda device, compiled=None: False)
        yield request.param


@pytest.fixture
def in_torch(monkeypatch):
    """The replay as it is on a GPU."""
    monkeypatch.setattr(loops, "choose_loops", lambda device, compiled=None: False)


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
