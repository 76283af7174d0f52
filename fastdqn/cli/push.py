"""``fastdqn push``: a run on the Hugging Face Hub, with a card."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fastdqn.checkpoints.names import parse_choice
from fastdqn.cli.arguments import parse
from fastdqn.cli.status_line import StatusLine
from fastdqn.sharing.hub_client import PREFIX, check_repo, hub
from fastdqn.sharing.parcel import contents_of, pack
from fastdqn.sharing.upload import check_account, upload
from fastdqn.system.signals import exit_on_signals


@dataclass(frozen=True, kw_only=True)
class _PushFlags:
    """The options of ``fastdqn push``."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Run directory."""
    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="USER/NAME")]
    """Where to on the Hub; made where it does not exist."""
    checkpoint: str | None = None
    """The policy to send: best (the one whose evaluation had the highest mean return), latest, or
    the env steps of one. None: latest."""
    film: Annotated[str | None, tyro.conf.arg(metavar="FILE")] = None
    """A film of it; None: the newest in RUN/films, if there is one."""
    private: tyro.conf.FlagCreatePairsOff[bool] = False
    """Make what is new private."""
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Say what would be sent and how much it is, and stop. Needs neither token nor connection."""


def run(args: list[str]) -> int:
    """Send a run to the Hub; ``fastdqn push``."""
    flags = parse(
        _PushFlags,
        args,
        prog="fastdqn push",
        description="A run to the Hugging Face Hub: policy, figures, and a card. A token "
        "comes from HF_TOKEN or 'hf auth login'.",
        example="fastdqn push runs/MY-RUN alice/cartpole-dqn --dry-run",
    )
    repo = check_repo(flags.name.removeprefix(PREFIX), "name")
    choice = parse_choice(flags.checkpoint)
    hub()
    contents = contents_of(Path(flags.run), checkpoint=choice, film=flags.film)
    if not flags.dry_run:
        check_account(repo, private=flags.private)
    with tempfile.TemporaryDirectory(prefix="fastdqn-push-") as name, exit_on_signals():
        directory = Path(name)
        with StatusLine() as status:
            status.say(f"{Path(flags.run).name}: loading torch, to pack it ...")
            files = pack(contents, directory, repo=repo)
        sizes = {str(path.relative_to(directory)): path.stat().st_size for path in files}
        width = max(map(len, sizes))
        for file, size in sizes.items():
            print(f"{file:<{width}}  {size / 1e3:>10,.1f} kB")
        where = f"{repo}{', private' if flags.private else ''}"
        print(f"{len(sizes)} files, {sum(sizes.values()) / 1e6:,.2f} MB, to {where}", flush=True)
        score = "" if contents.evaluation is not None else "; these weights have no score"
        if flags.dry_run:
            print(f"nothing is sent{score}")
            return 0
        message = f"{contents.config.env_id} after {contents.env_steps:,} env steps"
        page = upload(directory, repo, private=flags.private, message=message)
    print(f"{page}{score}\nload it: fastdqn.load('hf:{repo}')")
    return 0
