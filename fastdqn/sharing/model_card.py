"""The card of a run on a hub: a README with the metadata that makes it found and ranked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastdqn._version import __version__
from fastdqn.config.config import Config
from fastdqn.runs.reader import Evaluation
from fastdqn.runs.record import read_record
from fastdqn.sharing.facts import env_name, trained_commit
from fastdqn.sharing.hub_client import hub

_HOME = "https://github.com/fastdqn/fastdqn"
_HEADS = {"scalar": "DQN", "c51": "C51", "qr": "QR-DQN", "iqn": "IQN"}
_PLACES = ("run_dir", "resume", "lock_timeout_s", "initial")  # say nothing of how it learned


@dataclass(frozen=True)
class Card:
    """What a card says.

    Attributes:
        repo: USER/NAME.
        run: Its directory.
        config: Of the run.
        spec: Of the policy, as its checkpoint has it.
        env_steps: Of the checkpoint.
        evaluation: Of the checkpoint's very weights; None: there is none.
        picture: File of the curves, beside the card.
        film: Likewise.
    """

    repo: str
    run: Path
    config: Config
    spec: Mapping[str, Any]
    env_steps: int
    evaluation: Evaluation | None
    picture: str | None
    film: str | None

    @property
    def env(self) -> str:
        """What it was trained on."""
        return env_name(self.run, self.config)

    @property
    def score(self) -> str | None:
        """Mean and standard deviation as leaderboards of the Hub read them."""
        found = self.evaluation
        return None if found is None else f"{found.mean:.2f} +/- {found.std:.2f}"


def algorithm(config: Config) -> str:
    """What is learned of the return, and how, in a few words."""
    switches = {
        "munchausen": config.munchausen,
        "double": config.double,
        "dueling": config.dueling,
        "noisy": config.noisy,
        "prioritized replay": config.prioritized,
    }
    on = ", ".join(name for name, used in switches.items() if used)
    return f"{_HEADS[config.head]} ({on})" if on else _HEADS[config.head]


def write_card(card: Card) -> str:
    """The text of README.md: metadata between lines of dashes, then Markdown."""
    parts = [
        f"---\n{_metadata(card)}\n---",
        f"# {algorithm(card.config)} on {card.env}",
        f"A policy of [fastdqn]({_HOME}) {__version__}, after {card.env_steps:,} env steps.",
        _score(card),
        f"![Returns over env steps]({card.picture})" if card.picture else "",
        f"A film of it: [{card.film}]({card.film})." if card.film else "",
        _usage(card),
        _training(card),
        _citation(),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _metadata(card: Card) -> str:
    """As those of Stable-Baselines3 and CleanRL, so that the same leaderboards take it."""
    client, env = hub(), card.env
    name = _HEADS[card.config.head]
    tags = [env, "deep-reinforcement-learning", "reinforcement-learning", "fastdqn", name.lower()]
    results = None
    if card.score is not None:
        results = [
            client.EvalResult(
                task_type="reinforcement-learning",
                task_name="reinforcement-learning",
                dataset_type=env,
                dataset_name=env,
                metric_type="mean_reward",
                metric_name="mean_reward",
                metric_value=card.score,
                verified=False,
            )
        ]
    data = client.ModelCardData(
        library_name="fastdqn",
        pipeline_tag="reinforcement-learning",
        tags=tags,
        model_name=name if results else None,
        eval_results=results,
    )
    return str(data)


def _score(card: Card) -> str:
    found, c = card.evaluation, card.config
    if found is None:
        return "These very weights were not evaluated during the run: there is no score."
    kind = "greedy" if c.eval_epsilon == 0 else f"epsilon {c.eval_epsilon:g}"
    cut = f", {found.unfinished:.0f} of them cut short" if found.unfinished > 0 else ""
    when = "after training" if found.final else "during training"
    return (
        f"**Return {card.score}** (mean and standard deviation over {found.episodes:.0f} episodes, "
        f"{kind}{cut}), played {when} with seeds that no training env had. Rewards are counted as "
        f"the env gives them, unclipped."
    )


def _usage(card: Card) -> str:
    record = read_record(card.run)
    address = f"hf:{card.repo}"
    own_network = not record.network.made_from_config
    call = f"fastdqn.load({address!r}{', network=network' if own_network else ''})"
    extras = "hub,atari" if card.config.env_id.startswith("ALE/") else "hub"
    lines = ["## Use", f"```bash\npip install 'fastdqn[{extras}]'"]
    if own_network or not record.envs.made_from_config:
        lines[-1] += "\n```"
        what = [part.what for part in (record.envs, record.network) if not part.made_from_config]
        lines.append(f"It was trained with {' and '.join(what)}, which you need beside it:")
    else:
        lines[-1] += f"\nfastdqn eval {address}\n```"
    lines.append(
        f"```python\nimport fastdqn\n\npolicy = {call}\n"
        f"action = policy.act(observation)  # keeps frame stacks by itself\n```"
    )
    lines.append("Loading it executes nothing of it: the files are JSON and raw numbers.")
    return "\n\n".join(lines)


def _training(card: Card) -> str:
    c, default = card.config, Config()
    network = card.spec.get("network")
    torso = network["torso"] if isinstance(network, dict) else "passed from Python"
    rows = {
        "algorithm": algorithm(c),
        "env steps": f"{c.total_env_steps:,} asked for, {c.num_envs} envs side by side",
        "network": f"{torso}, hidden sizes {list(c.hidden_sizes)}",
        "updates": f"batches of {c.batch_size}, replay ratio {c.replay_ratio:g}, n-step "
        f"{c.n_step}, gamma {c.gamma:g}",
        "seed": str(c.seed),
    }
    if c.env_id.startswith("ALE/"):
        sticky = "the protocol's" if c.atari_sticky_actions is None else c.atari_sticky_actions
        rows["Atari"] = (
            f"protocol {c.atari_protocol} (Machado 2018: machado), sticky actions {sticky}, frame "
            f"skip {c.atari_frame_skip}, frames {c.atari_frame_size} x {c.atari_frame_size}"
        )
    rows["evaluation"] = f"{c.eval_episodes} episodes at epsilon {c.eval_epsilon:g}"
    if commit := trained_commit(card.run):
        rows["commit"] = f"`{commit}`"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    changed = {
        name: value
        for name, value in json.loads(c.to_json()).items()
        if name not in (*_PLACES, "format_version", "env_id", "seed")
        and value != json.loads(default.to_json())[name]
    }
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in changed.items())
    settings = f"Settings other than the defaults, of `config.json`:\n\n```\n{text}\n```"
    return f"## Training\n\n| | |\n|---|---|\n{table}" + (f"\n\n{settings}" if changed else "")


def _citation() -> str:
    title = "fastdqn: a DQN trainer limited by the hardware and by nothing else"
    fields = f"  title = {{{title}}},\n  url = {{{_HOME}}},\n  version = {{{__version__}}},"
    return f"## Citation\n\n```bibtex\n@software{{fastdqn,\n{fields}\n}}\n```"
