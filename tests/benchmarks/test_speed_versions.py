"""Two checkouts in turns: launches become rounds, and what is no checkout is refused."""

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks.speed import versions
from fastdqn.bench import compare

ROOT = Path(__file__).parents[2]


def _result(**us):
    return {
        "kind": compare.KIND, "format_version": 1, "date": "2026-01-01", "settings": {},
        "fingerprint": {},
        "cases": [
            {"name": name, "status": "ok" if median else "skipped", "reason": "no",
             "us": {"median": median}, "rounds_us": [median] * 2, "other_cpus": [0.1]}
            for name, median in us.items()
        ],
    }  # fmt: skip


def test_launches_become_rounds_and_cases_of_all_launches_remain():
    both = versions.merged([_result(a=1.0, b=2.0, c=3.0), _result(a=5.0, b=None)])
    (case,) = both["cases"]
    assert (case["name"], case["rounds_us"], case["other_cpus"]) == ("a", [1.0, 5.0], [0.1, 0.1])
    assert case["us"] == {"median": 3.0, "p10": 1.0, "p90": 5.0}


def test_versions_take_turns(tmp_path, monkeypatch, capsys):
    ran = []
    checkouts = {}
    for which in ("before", "after"):
        checkouts[which] = tmp_path / which
        (checkouts[which] / "fastdqn" / "bench").mkdir(parents=True)

    def run(command, cwd, env, **_):
        ran.append(cwd.name)
        assert env["PYTHONPATH"].startswith(str(cwd))
        wobble = 1.01 if len(ran) > 2 else 0.99
        took = _result(a=wobble * (12.0 if cwd.name == "after" else 10.0))
        Path(command[command.index("--json") + 1]).write_text(json.dumps(took))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(versions.subprocess, "run", run)
    versions.main([*map(str, checkouts.values()), "--cases", "a", "--launches", "2"])
    assert ran == ["before", "after"] * 2
    assert "1.200" in (said := capsys.readouterr().out) and "1 slower" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/", str(ROOT)], "is no checkout of fastdqn"),
        ([str(ROOT), str(ROOT), "--launches", "1"], "two or more"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, message, capsys):
    with pytest.raises(SystemExit) as left:
        versions.main([*arguments, "--cases", "a"])
    assert left.value.code == 2 and message in capsys.readouterr().err
