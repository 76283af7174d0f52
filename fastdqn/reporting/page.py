"""``fastdqn report``: one page about runs that needs nothing but a browser."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn._version import __version__
from fastdqn.errors import ConfigError
from fastdqn.reporting import chart, facts, films, repeat
from fastdqn.reporting.protocol import algorithm, protocol
from fastdqn.runs.atari_scores import human_normalised
from fastdqn.runs.comparison import Account, read_account
from fastdqn.runs.groups import Group, by_env, group_runs, returns_of, threshold_of, window_of
from fastdqn.runs.reader import Run, read_run
from fastdqn.runs.scores import GroupScore, group_score, together
from fastdqn.runs.statistics import FEWEST_RUNS, Estimate
from fastdqn.system.file_systems import replace

_HERE = Path(__file__).parent
_FEW_ENVS = 3


@dataclass(frozen=True)
class Report:
    """What a page is about."""

    groups: list[Group]
    scores: list[GroupScore]
    left_out: list[films.Film]  # films that are too large


def write_report(paths: Sequence[Path], out: Path) -> Report:
    """Write a page about runs, finished or in progress, whole or not at all.

    Args:
        paths: Run directories, at least one.
        out: The page, one HTML file. An existing one is overwritten.

    Raises:
        CheckpointError: Where a path is no run directory, or its rows cannot be read.
        ConfigError: Where Jinja2 is missing, there are no runs, or a config.json cannot be read.
        OSError: Where the page cannot be written.
    """
    template = _template()
    if not paths:
        raise ConfigError("paths is empty; name a directory.")
    runs = [read_run(path) for path in paths]
    accounts = [read_account(path) for path in paths]
    groups = group_runs(runs)
    scores = [score for score in map(group_score, groups) if score is not None]
    shown = _films(groups)
    text = template.render(_context(runs, accounts, groups, scores, shown))
    _write(out, text.encode("utf-8", "replace"))  # a path may hold bytes that are no text
    return Report(groups, scores, [film for film in shown if not film.address])


def _template() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ConfigError("fastdqn report needs Jinja2; pip install 'fastdqn[report]'.") from None
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,  # whatever a run says of itself may be a forger's
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = facts.number
    return environment.get_template("page.html")


def _context(
    runs: Sequence[Run],
    accounts: Sequence[Account],
    groups: Sequence[Group],
    scores: Sequence[GroupScore],
    shown: Sequence[films.Film],
) -> dict[str, Any]:
    names = facts.names_of([run.path for run in runs])
    envs = by_env(groups)
    algorithms = list(dict.fromkeys(algorithm(group.runs[0].config) for group in groups))
    charts = [chart.chart_of(env, mine, threshold_of(mine)) for env, mine in envs.items()]
    code, version = repeat.code_of(accounts)
    recipes = [repeat.recipe(group, k + 1, len(groups)) for k, group in enumerate(groups)]
    return {
        "title": _title(list(envs)),
        "subtitle": "; ".join(algorithms[:_FEW_ENVS])
        + (f" and {len(algorithms) - _FEW_ENVS} more" if len(algorithms) > _FEW_ENVS else ""),
        "overview": _overview(runs, accounts, code),
        "size": chart,
        "charts": [drawn for drawn in charts if drawn is not None],
        **_key(groups, [drawn for drawn in charts if drawn is not None]),
        "configurations": _configurations(groups),
        "window": window_of(runs),
        "fewest": FEWEST_RUNS,
        "few": any(FEWEST_RUNS <= len(score.scores) < 5 for score in scores),
        "threshold": _threshold(envs),
        "algorithm_of": _algorithm_of(envs, algorithms),
        "scores": [_score(score, _algorithm_of(envs, algorithms)) for score in scores],
        "some_normalised": any(score.normalised() is not None for score in scores),
        "together": [
            {
                "name": _configuration(one.groups[0]),
                "games": len(one.groups),
                "iqm": one.iqm,
                "median": one.median,
                "mean": one.mean,
            }
            for one in together(scores)
        ],
        "films": shown,
        "film_room": films.MOST_BYTES,
        "protocols": _protocols(groups, runs, accounts),
        "runs": facts.run_rows(runs, accounts, names),
        "differences": facts.difference_rows(accounts, names) if len(runs) > 1 else [],
        "machine": facts.machine_rows(accounts, names),
        "recipes": recipes,
        "methods": repeat.methods(algorithms, groups, scores, code),
        "bibtex": repeat.bibtex(version),
        "css": (_HERE / "page.css").read_text(encoding="utf-8"),
        "version": __version__,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _configuration(group: Group) -> str:
    label = "" if group.label == group.env_name else f" ({group.label})"
    return f"{algorithm(group.runs[0].config)}{label}"


def _title(envs: Sequence[str]) -> str:
    if len(envs) <= _FEW_ENVS:
        return ", ".join(envs)
    kind = "Atari games" if all(env.startswith("ALE/") for env in envs) else "envs"
    return f"{len(envs)} {kind}"


def _overview(runs: Sequence[Run], accounts: Sequence[Account], code: str) -> list[tuple[str, str]]:
    results = [account.results for account in accounts]
    steps = sum(result["env_steps"] or 0 for result in results)
    seconds = [result["wall_s"] for result in results if result["wall_s"] is not None]
    running = sum(not result["finished"] for result in results)
    seeds = sorted({run.config.seed for run in runs})
    shown = ", ".join(map(str, seeds)) if len(seeds) <= 6 else f"{len(seeds)} of them"
    devices = dict.fromkeys(
        facts.short(str(account.sections["resolved"]["device"]))
        for account in accounts
        if "device" in account.sections["resolved"]
    )
    return [
        ("Runs", f"{len(runs)}" + (f", {running} not finished" if running else "")),
        ("Seeds", shown),
        ("Env steps", f"{steps:,.0f}" + (" in all" if len(runs) > 1 else "")),
        ("Wall time", facts.duration(sum(seconds)) + (" in all" if len(seconds) > 1 else "")),
        ("Device", "; ".join(devices) or "not recorded"),
        ("Code", code),
    ]


def _key(groups: Sequence[Group], charts: Sequence[chart.Chart]) -> dict[str, Any]:
    """What the marks of the charts are."""
    leads = {returns_of(group).leads for group in groups}
    kinds = {path.kind for drawn in charts for path in drawn.paths}
    counts = [len(getattr(returns, returns.leads)) for returns in map(returns_of, groups)]
    averaged = ": mean of the runs" if "band" in kinds else ""
    if averaged and min(counts) < FEWEST_RUNS:
        averaged += f", each run if fewer than {FEWEST_RUNS}"
    kinds |= {"dot" for drawn in charts for dot in drawn.dots if dot.evaluation}
    return {
        "kinds": kinds,
        "lead_evaluated": "evaluated" in leads,
        "lead_trained": "trained" in leads,
        "averaged": averaged,
    }


def _configurations(groups: Sequence[Group]) -> list[tuple[int, int, str]]:
    """Colour, dashes and name of each; none where one name says nothing."""
    found = {
        group.configuration: (chart.color_of(group), chart.dashes_of(group), group.label)
        for group in groups
    }
    return list(found.values()) if len(found) > 1 else []


def _threshold(envs: Mapping[str, Sequence[Group]]) -> str:
    known = {threshold_of(mine) for mine in envs.values()} - {None}
    return f" at {known.pop():g}" if len(known) == 1 else ""


def _algorithm_of(envs: Mapping[str, Sequence[Group]], algorithms: Sequence[str]) -> dict[str, str]:
    """Of envs with one configuration its algorithm, where not all have the same."""
    if len(algorithms) == 1:
        return {}
    return {env: algorithm(mine[0].runs[0].config) for env, mine in envs.items() if len(mine) == 1}


def _score(score: GroupScore, algorithm_of: Mapping[str, str]) -> dict[str, Any]:
    env = score.group.env_name
    on_scale = [human_normalised(env, v) for v in (score.iqm.value, score.iqm.low, score.iqm.high)]
    normalised = None if None in on_scale else Estimate(*(v for v in on_scale if v is not None))
    return {
        "env": env,
        "label": score.group.label if score.group.label != env else algorithm_of.get(env, ""),
        "color": chart.color_of(score.group),
        "runs": len(score.scores),
        "iqm": score.iqm,
        "median": score.median,
        "mean": score.mean,
        "normalised": normalised,
        "counted": facts.counted(score),
    }


def _protocols(
    groups: Sequence[Group], runs: Sequence[Run], accounts: Sequence[Account]
) -> dict[str, Any]:
    """Names of the columns, and rows of a name and one cell for all or one for each."""
    spaces = {
        run.path: account.sections["envs"].get("action_space")
        for run, account in zip(runs, accounts, strict=True)
    }
    ordered = [group for mine in by_env(groups).values() for group in mine]
    said_by = []
    for group in ordered:
        said = spaces[group.runs[0].path]
        said_by.append(protocol(group, facts.short(said) if isinstance(said, str) else None))
    heads = [
        group.env_name if group.label == group.env_name else f"{group.env_name}: {group.label}"
        for group in ordered
    ]
    rows = []
    for name in dict.fromkeys(name for one in said_by for name in one):
        cells = [one.get(name, facts.NONE) for one in said_by]
        rows.append((name, cells[:1] if len(set(cells)) == 1 else cells))
    return {"heads": heads, "rows": rows, "one": all(len(cells) == 1 for _, cells in rows)}


def _films(groups: Sequence[Group]) -> list[films.Film]:
    found, room = [], films.MOST_BYTES
    for env, mine in by_env(groups).items():
        paths = [run.path for group in mine for run in group.runs]
        film = films.newest_film(env, paths, room)
        if film is not None:
            found.append(film)
            room -= film.num_bytes if film.address else 0
    return found


def _write(out: Path, data: bytes) -> None:
    unfinished = out.with_name(out.name + ".tmp")
    try:
        unfinished.write_bytes(data)
        replace(unfinished, out)
    except OSError:
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
