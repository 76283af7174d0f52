"""What other libraries do to a process, undone after each test."""

import signal

import pytest


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    """TorchRL's LazyMemmapStorage takes SIGINT and SIGTERM to remove its files, and keeps them."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
