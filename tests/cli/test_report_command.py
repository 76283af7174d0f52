"""``fastdqn report`` as a user runs it: in a process, through a pipe, with wrong arguments."""

import os
import subprocess
import sys

import pytest
from helpers.written_runs import write_run

from fastdqn.cli.main import main
from fastdqn.reporting import films


@pytest.fixture
def runs(tmp_path):
    return [str(write_run(tmp_path / f"r{k}", [k, 2 * k], seed=k)) for k in range(3)]


def test_in_a_pipe_without_torch_and_matplotlib(runs, tmp_path):
    program = (
        "import sys; from fastdqn.cli.main import main\n"
        f"code = main(['report', *{runs!r}, {runs[0] + '/'!r}])\n"
        "print(code, [name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    search = os.pathsep.join(filter(None, [os.getcwd(), *sys.path]))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": search},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    size = (tmp_path / "report.html").stat().st_size
    assert done.stdout == f"report.html (3 runs, {size / 1e3:.1f} kB)\n0 []\n"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_page_may_have_another_name(runs, tmp_path, capsys):
    out = tmp_path / "a.HTML"
    assert main(["report", runs[0], "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out} (1 run, {out.stat().st_size / 1e3:.1f} kB)\n"
    assert out.is_file()


def test_a_film_that_is_too_large_is_a_warning(runs, tmp_path, monkeypatch):
    (tmp_path / "r0" / "films").mkdir()
    (tmp_path / "r0" / "films" / "a.gif").write_bytes(b"GIF89a" + b"x" * 2_000_000)
    monkeypatch.setattr(films, "MOST_BYTES", 1_000_000)
    with pytest.warns(UserWarning, match=r"r0/films/a.gif has 2.0 MB and is left out of .*1 MB"):
        assert main(["report", *runs, "--out", str(tmp_path / "a.html")]) == 0


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["report"], "fastdqn report needs RUN"),
        (["report", "none"], "none does not exist"),
        (["report", "."], "holds no run (no config.json), but"),
        (["report", "RUN", "--otu", "x.html"], "did you mean '--out'?"),
        (["report", "RUN", "--out"], "out needs a value"),
        (["report", "RUN", "--out", "x.pdf"], "is no page; end it in .html or .htm"),
        (["report", "RUN", "--out", "no/such/x.html"], "needs the directory 'no/such'"),
        (["report", "RUN", "--out", "dir.html"], "is a directory"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_exit_code_2(
    args, words, runs, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dir.html").mkdir()
    assert main([runs[0] if word == "RUN" else word for word in args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("fastdqn: error: ") and printed.err.count("\n") == 1
    assert words in printed.err
    assert not list(tmp_path.glob("*.tmp"))


def test_without_jinja2_nothing_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert main(["report", "none", "--out", str(tmp_path / "a.html")]) == 2
    assert "pip install 'fastdqn[report]'" in capsys.readouterr().err


def test_a_full_disk_is_one_sentence(runs, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastdqn.reporting.page.replace", refuse)
    assert main(["report", *runs, "--out", str(tmp_path / "a.html")]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(tmp_path.glob("a.html*"))


def test_help(capsys):
    assert main(["report", "--help"]) == 0
    assert "usage: fastdqn report" in capsys.readouterr().out
