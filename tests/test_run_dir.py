"""A process killed while it makes its run directory: the same command line starts there again."""

import signal
import subprocess
import sys
import time

import pytest

from fastdqn.config import Config
from fastdqn.errors import ConfigError
from fastdqn.run_dir import open_run_dir

# The real functions, with a configuration that takes long to write.
WRITES = """
import sys
from pathlib import Path
from fastdqn.config import Config
from fastdqn.run_dir import open_run_dir, write_json
config = Config(run_dir=sys.argv[1])
path, _ = open_run_dir(config)
print("made", flush=True)
sys.stdin.readline()
write_json(path / "config.json", config.to_json() + " " * 2**29)
"""


@pytest.mark.parametrize("moment", ["before the first file", "within the first file"])
def test_a_kill_at_the_very_start_leaves_what_the_same_command_starts_from(tmp_path, moment):
    run = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", WRITES, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == b"made\n"
        if moment == "within the first file":
            process.stdin.write(b"\n")
            process.stdin.flush()
            while process.poll() is None and not list(run.iterdir()):
                time.sleep(0.001)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    left = ["config.json.tmp"] if moment == "within the first file" else []
    assert [path.name for path in run.iterdir()] == left
    done = subprocess.run(
        [sys.executable, "-m", "fastdqn", "train", "--run-dir", str(run), "--resume", "auto",
         "--total-env-steps", "200", "--eval-episodes", "0", "--device", "cpu"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not list(run.glob("*.tmp"))


@pytest.mark.parametrize("length", [0, 1, 20, None])
def test_as_far_as_the_first_file_was_written(tmp_path, length):
    config = Config(run_dir=str(tmp_path), resume="auto")
    # Of another configuration: there was no run yet that the new one could contradict.
    (tmp_path / "config.json.tmp").write_text(Config(seed=9).to_json()[:length])
    assert open_run_dir(config) == (tmp_path, False)


@pytest.mark.parametrize(
    "files",
    [
        {"config.json.tmp": "mine"},
        {"config.json.tmp": '{\n  "format": 1}'},
        {"config.json.tmp": "", "notes": "mine"},
        {"config.json.tmp": "", "metrics.csv": ""},
        {"summary.json.tmp": ""},
        {"other.json.tmp": ""},
    ],
)
def test_files_of_others_are_refused_and_kept(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match="holds something else than a run"):
        open_run_dir(Config(run_dir=str(tmp_path), resume="auto"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_never_still_means_an_empty_directory(tmp_path):
    (tmp_path / "config.json.tmp").touch()
    with pytest.raises(ConfigError, match="is not empty"):
        open_run_dir(Config(run_dir=str(tmp_path)))
