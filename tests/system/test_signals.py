"""StopSignals: the first signal asks, the second ends; handlers come and go."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fastdqn.system.signals import EXIT_CODES, Stopped, StopSignals, exit_at_once, exit_on_signals

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)]


def until(condition) -> None:
    """Signals are served by a thread: soon, not at once."""
    for _ in range(500):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


def test_exit_codes_are_those_of_a_shell():
    assert {signal.Signals(number).name: code for number, code in SIGNALS} == EXIT_CODES


@pytest.fixture(autouse=True)
def handlers_are_put_back():
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it behind "&"
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    yield
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before
    signal.signal(signal.SIGINT, kept)
    assert signal.set_wakeup_fd(-1) == -1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()
    assert [thread.name for thread in threading.enumerate()].count("fastdqn-signals") == 0


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_first_signal_is_a_name_and_a_line(number, code, capfd):
    with StopSignals() as stop:
        assert stop.name is None
        os.kill(os.getpid(), number)
        until(lambda: stop.name == signal.Signals(number).name)
    printed = capfd.readouterr()
    assert printed.out == ""
    assert printed.err == (
        f"{stop.name}: stopping after this step and saving; again to quit at once\n"
    )


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_the_second_signal_ends_the_process(number, code, monkeypatch):
    codes = []
    monkeypatch.setattr("fastdqn.system.signals.os._exit", codes.append)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        until(lambda: stop.name)
        time.sleep(0.2)
        os.kill(os.getpid(), number)
        until(lambda: codes)
    assert codes == [code]
    assert stop.name == "SIGINT"


def test_a_signal_and_its_echo_are_one(monkeypatch):
    # timeout(1) sends to the process and then to its group.
    codes = []
    monkeypatch.setattr("fastdqn.system.signals.os._exit", codes.append)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        until(lambda: stop.name)
    assert codes == []


def test_other_signals_are_not_ours():
    before = signal.signal(signal.SIGUSR2, lambda *_: None)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(0.05)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert stop.name is None


def test_one_within_another():
    with StopSignals() as outer:
        with StopSignals() as inner:
            os.kill(os.getpid(), signal.SIGUSR1)
            until(lambda: inner.name)
        assert outer.name is None
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: outer.name)
    assert (inner.name, outer.name) == ("SIGUSR1", "SIGTERM")


def test_children_survive_what_their_group_gets_but_not_our_sigterm():
    with StopSignals() as stop, subprocess.Popen(["sleep", "60"]) as child:
        forked = os.fork()
        if forked == 0:
            time.sleep(60)
            os._exit(0)
        for pid in (child.pid, forked):
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGUSR1)
        time.sleep(0.1)
        assert child.poll() is None
        assert os.waitpid(forked, os.WNOHANG) == (0, 0)
        child.terminate()
        os.kill(forked, signal.SIGTERM)
        assert child.wait(timeout=10) == -signal.SIGTERM
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == -signal.SIGTERM
    assert stop.name is None


def test_a_groups_signals_spare_async_workers_from_their_start():
    program = (
        "import time\n"
        "from fastdqn.envs import make_envs\n"
        "from fastdqn.system.signals import StopSignals\n"
        "if __name__ == '__main__':\n"
        "    with StopSignals() as stop:\n"
        "        print('ready', flush=True)\n"
        "        envs = make_envs('CartPole-v1', 2, vectorization='async')\n"
        "        envs.reset(seed=1)\n"
        "        while stop.name is None: time.sleep(0.01)\n"
        "        envs.send([0, 1])\n"
        "        envs.recv()\n"
        "        envs.close()\n"
        "    print(stop.name, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.5)  # while the workers start
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "SIGINT\n"), err
    assert "Traceback" not in err


def test_a_closed_stderr_does_not_keep_it_from_stopping(monkeypatch):
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if fd == 2:
            raise OSError
        return real(fd, data)

    monkeypatch.setattr("fastdqn.system.signals.os.write", write)
    with StopSignals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: stop.name)
    assert stop.name == "SIGTERM"


def test_an_exception_puts_the_handlers_back():
    with pytest.raises(KeyError), StopSignals():
        raise KeyError


def test_a_handler_from_outside_python_becomes_the_default(monkeypatch):
    # signal.signal gives None for those and does not take it.
    real = signal.signal
    with monkeypatch.context() as patch:
        patch.setattr(signal, "signal", lambda *args: real(*args) and None)
        stop = StopSignals().__enter__()
    before = real(signal.SIGINT, signal.SIG_IGN)
    stop.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert before is not None
    real(signal.SIGINT, signal.default_int_handler)


def test_in_another_thread_it_does_nothing():
    seen = []

    def work() -> None:
        with StopSignals() as stop, exit_on_signals(), exit_at_once():
            seen.append((stop.name, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(None, before)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_leaves_through_the_clean_up_code(number, code):
    cleaned = []
    with pytest.raises(Stopped) as caught, exit_on_signals():
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(True)
    assert caught.value.exit_code == code
    assert str(caught.value) == signal.Signals(number).name
    assert cleaned


def test_a_signal_that_a_library_takes_for_its_own_error_leaves_all_the_same():
    with pytest.raises(Stopped) as caught, exit_on_signals():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except BaseException as error:
            raise RuntimeError("the exporter failed") from error
    assert caught.value.exit_code == 143
    with pytest.raises(RuntimeError, match="of itself"), exit_on_signals():
        raise RuntimeError("of itself")


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_signal_can_end_a_process_at_once(number, code):
    program = (
        "import os, sys\n"
        "from fastdqn.system.signals import exit_at_once\n"
        "with exit_at_once():\n"
        "    try:\n"
        "        os.kill(os.getpid(), int(sys.argv[1]))\n"
        "    finally:\n"
        "        print('cleaned')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(number))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"fastdqn: stopped by {signal.Signals(number).name}\n"


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_real_process_ends_at_the_second_signal(number, code):
    program = (
        "import time\n"
        "from fastdqn.system.signals import StopSignals\n"
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
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(timeout=20) == code
