"""What other libraries do to a process, undone after each test; what they draw, repeated."""

import random
import signal

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    """TorchRL's LazyMemmapStorage takes SIGINT and SIGTERM to remove its files, and keeps them."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def draws_repeat():
    """TorchRL's and SB3's parts draw from global generators."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
