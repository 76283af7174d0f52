"""StopSignals: the first signal asks, the second ends; handlers come and go."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from fastdqn.signals import StopSignals, exit_on_sigterm

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    yield
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_is_a_name_and_a_line(number, code, capfd):
    with StopSignals() as stop:
        assert stop.name is None
        os.kill(os.getpid(), number)
        assert stop.name == signal.Signals(number).name
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{stop.name}: stopping after this step and saving; again to quit at once\n"
    )


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_ends_the_process(number, code, monkeypatch, capfd):
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr("fastdqn.signals.os._exit", leave)
    with StopSignals():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(SystemExit) as caught:
            os.kill(os.getpid(), number)
    assert caught.value.code == code


def test_a_closed_stderr_does_not_keep_it_from_stopping(monkeypatch):
    def write(*_: object) -> int:
        raise OSError

    monkeypatch.setattr("fastdqn.signals.os.write", write)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.name == "SIGTERM"


def test_an_exception_puts_the_handlers_back():
    with pytest.raises(KeyError), StopSignals():
        raise KeyError


def test_a_handler_from_outside_python_becomes_the_default(monkeypatch):
    # signal.signal gives None for those and does not take it.
    stop = StopSignals()
    with stop:
        stop._previous[signal.SIGTERM] = None
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_in_another_thread_it_does_nothing():
    seen = []

    def work() -> None:
        with StopSignals() as stop, exit_on_sigterm():
            seen.append((stop.name, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


def test_sigterm_leaves_through_the_clean_up_code():
    cleaned = []
    with pytest.raises(SystemExit) as caught, exit_on_sigterm():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            cleaned.append(True)
    assert caught.value.code == 143
    assert cleaned


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_real_process_ends_at_the_second_signal(number, code):
    program = (
        "import time\n"
        "from fastdqn.signals import StopSignals\n"
        "with StopSignals() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while stop.name is None:\n"
        "        time.sleep(0.01)\n"
        "    print(stop.name, flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == f"{signal.Signals(number).name}\n"
        process.send_signal(number)
        assert process.wait(timeout=20) == code
