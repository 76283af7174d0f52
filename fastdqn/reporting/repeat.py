"""How the runs of a page are made again, from the page alone, and cited."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from fastdqn.runs.comparison import Account
from fastdqn.runs.groups import Group
from fastdqn.runs.record import read_record
from fastdqn.runs.scores import FINAL, TRAINING, GroupScore

URL = "https://github.com/fastdqn/fastdqn"


@dataclass(frozen=True)
class Recipe:
    """A configuration, and the command that runs it with every seed."""

    title: str
    command: str
    file: str
    config: str  # JSON
    address: str  # of the same: data:...
    remark: str  # where the command line cannot do it


def recipe(group: Group, number: int, of: int) -> Recipe:
    """How the runs of a group are made again.

    Args:
        group: Whose configuration it is.
        number: Of it, from 1.
        of: How many there are.
    """
    file = "config.json" if of == 1 else f"config-{number}.json"
    seeds = sorted({run.config.seed for run in group.runs})
    first = group.runs[0]
    config = first.config.replace(run_dir=None, resume="never", seed=seeds[0]).to_json()
    command = f"fastdqn train --config {file} --seed {seeds[0]}"
    if len(seeds) > 1:
        each = " ".join(map(str, seeds))
        command = f'for seed in {each}; do fastdqn train --config {file} --seed "$seed"; done'
    record = read_record(first.path)
    own = [part.what for part in (record.envs, record.network) if not part.made_from_config]
    remark = ""
    if own:
        remark = f"Trained with {' and '.join(own)}: pass them to fastdqn.train with this file."
    title = group.env_name if group.label == group.env_name else f"{group.env_name}, {group.label}"
    address = f"data:application/json;base64,{base64.b64encode(config.encode()).decode()}"
    return Recipe(title, command, file, config, address, remark)


def methods(
    algorithms: Sequence[str], groups: Sequence[Group], scores: Sequence[GroupScore], code: str
) -> str:
    """What a paper says of these runs, in a few sentences."""
    lengths = {run.config.total_env_steps for group in groups for run in group.runs}
    length = f"{lengths.pop():,}" if len(lengths) == 1 else f"{min(lengths):,} to {max(lengths):,}"
    envs = list(dict.fromkeys(group.env_name for group in groups))
    named = ", ".join(envs) if len(envs) < 4 else f"{len(envs)} envs"
    counts = sorted({len({run.config.seed for run in group.runs}) for group in groups})
    seeds = " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    text = (
        f"{'; '.join(algorithms)}: trained for {length} env steps on {named}, with "
        f"{seeds} {'seed' if counts[-1] == 1 else 'seeds'}"
        f"{'' if len(groups) == 1 else ' for each env and configuration'}, by {code}."
    )
    kinds = {score.kind for group in scores for score in group.scores}
    if kinds == {FINAL}:
        text += " Scores are mean returns of the final parameters in evaluation episodes."
    elif kinds == {TRAINING}:
        text += " Scores are mean returns of the last training episodes."
    if any(group.iqm.has_interval for group in scores):
        text += (
            " Intervals are 95 % percentile-bootstrap intervals over runs (Agarwal et al., 2021)."
        )
    return text


def code_of(accounts: Sequence[Account]) -> tuple[str, str]:
    """The version and commit that the runs have recorded: in words, and the version alone."""
    versions = _said(accounts, "versions", "fastdqn")
    commits = [commit[:12] for commit in _said(accounts, "code", "git_commit")]
    version = ", ".join(versions) or "of an unknown version"
    dirty = any(account.sections["code"].get("git_dirty") is True for account in accounts)
    changed = " with uncommitted changes" if dirty else ""
    commit = f" (commit {', '.join(commits)}{changed})" if commits else ""
    return f"fastdqn {version}{commit}", ", ".join(versions)


def bibtex(version: str) -> str:
    """The software as an entry of a bibliography."""
    said = f"  version = {{{version}}},\n" if version else ""
    return f"@software{{fastdqn,\n  title = {{fastdqn}},\n{said}  url = {{{URL}}}\n}}"


def _said(accounts: Sequence[Account], section: str, name: str) -> list[str]:
    values = [account.sections[section].get(name) for account in accounts]
    return list(dict.fromkeys(value for value in values if isinstance(value, str)))
