"""What pages show runs: Python in order, as one program for each page; commands parse."""

import glob
import importlib
import pkgutil
import re
import shutil
import stat
import subprocess
import sys
import warnings

import gymnasium
import pytest
import torch
from helpers.pages import DOCS, PAGES, ROOT, blocks, commands, name_of
from helpers.short_runs import small

import fastdqn
import fastdqn.cli
from fastdqn.cli.main import COMMANDS, main

# Its blocks stand beside a program around them: tests/integrations/test_torchrl_example.py.
ELSEWHERE = {DOCS / "backend" / "torchrl.md"}
SHOWN = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PYTHON = {page: blocks(page, "python") for page in [*PAGES, ROOT / "CONTRIBUTING.md"]}
QUICK = [page for page, found in PYTHON.items() if any(not block.slow for block in found)]
SLOW = [page for page, found in PYTHON.items() if any(block.slow for block in found)]
CALLS = [(page, call) for page in SHOWN for call in commands(page)]


def named(pages):
    return [pytest.param(page, id=name_of(page)) for page in pages if page not in ELSEWHERE]


def run_page(page, where, monkeypatch, capsys, *, slow):
    """Run the blocks of a page; what it says that they print, they print."""
    monkeypatch.chdir(where)
    monkeypatch.syspath_prepend(str(where))
    modules = set(sys.modules)
    scope: dict[str, object] = {"__name__": page.stem}
    said = []
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("error")
        # Third parties, as in pyproject.toml.
        for kind in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=kind, module="torch|tensordict|copyreg")
        for block in blocks(page, "python"):
            if block.file:
                (where / block.file).write_text(block.code)
            elif slow or not block.slow:
                name = f"{page.name}, line {block.line}"
                exec(compile(block.setup, f"before {name}", "exec"), scope)
                exec(compile("\n" * block.line + block.code, str(page), "exec"), scope)
                said += re.findall(r"^\s*print\(.*\)  # (.*)$", block.code, re.M)
    for name in {path.stem for path in where.glob("*.py")} & set(sys.modules) - modules:
        del sys.modules[name]
        for env_id, spec in list(gymnasium.registry.items()):
            if getattr(spec.entry_point, "__module__", None) == name:
                del gymnasium.registry[env_id]
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.strip() not in printed] == []


@pytest.mark.parametrize("page", named(QUICK))
def test_the_python_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    run_page(page, tmp_path, monkeypatch, capsys, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", named(SLOW))
def test_the_python_that_takes_long_runs(page, tmp_path, monkeypatch, capsys):
    run_page(page, tmp_path, monkeypatch, capsys, slow=True)


class Parsed(Exception):
    """A command has read its arguments."""


@pytest.fixture
def only_parse(monkeypatch):
    """Every command stops when its options are read."""
    from fastdqn.cli.arguments import parse

    def parse_and_stop(*args, **kwargs):
        parse(*args, **kwargs)
        raise Parsed

    names = [module.name for module in pkgutil.iter_modules(fastdqn.cli.__path__, "fastdqn.cli.")]
    for module in [*map(importlib.import_module, names)]:  # all, before one of them is changed
        monkeypatch.setattr(module, "parse", parse_and_stop, raising=False)


@pytest.mark.parametrize("page", named(page for page in SHOWN if any(commands(page))))
def test_the_commands_of_a_page_parse(page, only_parse, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fastdqn.cli.arguments.local_run", lambda run: run)
    for name, *args in commands(page):
        assert name in COMMANDS, f"fastdqn {name}"
        if "--config" in args:
            file = tmp_path / args[args.index("--config") + 1]
            file.parent.mkdir(parents=True, exist_ok=True)
            toml = file.suffix == ".toml"
            file.write_text("seed = 7" if toml else fastdqn.Config().to_json())
        if {"--help", "--help-all"} & {*args}:
            assert main([name, *args]) == 0
            continue
        with pytest.raises(Parsed):
            main([name, *args])
            pytest.fail(f"fastdqn {name} {' '.join(args)}")


def test_a_wrong_command_is_found(only_parse, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("```bash\nuntil fastdqn train --resumee auto; do true; done  # --x\n```\n")
    ((name, *args),) = commands(page)
    assert (name, args) == ("train", ["--resumee", "auto"])
    assert main([name, *args]) == 2 and "did you mean '--resume'" in capsys.readouterr().err


def test_a_wrong_comment_and_a_wrong_block_are_found(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- setup\nx = 2\n-->\n```python\nprint(x)  # 2\n```\n")
    run_page(page, tmp_path, monkeypatch, capsys, slow=False)
    page.write_text("```python\nprint(1)  # 2\n```\n")
    with pytest.raises(AssertionError, match="'2'"):
        run_page(page, tmp_path, monkeypatch, capsys, slow=False)
    page.write_text("<!-- slow -->\n```python\nfastdqn\n```\n")
    run_page(page, tmp_path, monkeypatch, capsys, slow=False)
    with pytest.raises(NameError):
        run_page(page, tmp_path, monkeypatch, capsys, slow=True)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A working directory with what pages name in it: runs, two of them trained, and a file."""
    where = tmp_path_factory.mktemp("pages")
    every = {"checkpoint_period_env_steps": 1_000, "eval_period_env_steps": 1_000}
    for seed, name in enumerate("ab", start=1):
        fastdqn.train(small(where, seed=seed, run_dir=str(where / "runs" / name), **every,
                            checkpoint_keep_best=True))  # fmt: skip
    for name in ("A", "MY-RUN", "first", "corridor", "double-1", "breakout-1", "breakout/seed1"):
        shutil.copytree(where / "runs/a", where / "runs" / name)
    for name in ("B", "single-1", "breakout-2", "breakout/seed2", "breakout/seed3"):
        shutil.copytree(where / "runs/b", where / "runs" / name)
    (where / "my.toml").write_text("seed = 7")
    return where


@pytest.mark.slow
@pytest.mark.parametrize(
    "call", [pytest.param(call, id=f"{page.stem}: {' '.join(call)}") for page, call in CALLS]
)
def test_the_commands_run(call, runs, tmp_path, monkeypatch, capsys):
    """But for those that take long; training is planned."""
    for page in PAGES:
        for block in blocks(page, "python"):
            if block.file:
                (tmp_path / block.file).write_text(block.code)
    monkeypatch.syspath_prepend(str(tmp_path))
    name, *args = call
    quick = ("presets", "info", "envs", "eval", "compare", "plot", "saliency", "report", "export")
    monkeypatch.chdir(runs)
    if any(word.startswith("hf:") for word in args) or {"--render", "--initial"} & {*args}:
        pytest.skip("needs a hub, a display or another run")
    if "LunarLander-v3" in args:
        pytest.importorskip("Box2D")
    if name == "train":
        args = [*args, *(["--dry-run"] if "--dry-run" not in args else [])]
    elif name not in quick:
        pytest.skip("takes long, or needs what is not here")
    args = [found for word in args for found in (sorted(glob.glob(word)) or [word])]
    assert main([name, *args]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("code, again", [(0, False), (2, False), (70, False), (143, False),
                                         (124, True), (138, True)])  # fmt: skip
def test_the_job_goes_back_into_the_queue_when_there_is_more_to_do(code, again, tmp_path):
    (job,) = [block for block in blocks(DOCS / "howto" / "slurm.md") if block.file]
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    for name, does in {"srun": '"$@"', "fastdqn": f"exit {code}",
                       "scontrol": 'echo "scontrol $@"'}.items():  # fmt: skip
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $*" >> calls\n{does}\n')
        (tmp_path / name).chmod(stat.S_IRWXU)
    done = subprocess.run(
        ["bash", "-c", job.code], cwd=tmp_path, capture_output=True, text=True, timeout=30,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "71"},
    )  # fmt: skip
    assert done.returncode == code and done.stderr == ""
    calls = (tmp_path / "calls").read_text()
    assert "fastdqn train dqn-atari --env-id ALE/Breakout-v5 --seed 3" in calls
    assert "--run-dir runs/breakout/seed3 --resume auto" in calls
    assert ("scontrol requeue 71" in calls) is again
