"""The client of the Hugging Face Hub, and what it says where something goes wrong.

``HF_ENDPOINT``, ``HF_TOKEN``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` mean what they mean to it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from fastdqn.errors import CheckpointError, ConfigError

PREFIX = "hf:"
_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*\w)?/[A-Za-z0-9_](?:[\w.-]*\w)?", re.ASCII)
_REVISION = re.compile(r"[\w][\w./-]*", re.ASCII)
_LONGEST = 96  # characters of a name, as the Hub has it


def check_repo(name: str, field: str) -> str:
    """The name of a repository on the Hub, USER/NAME.

    Raises:
        ConfigError: Where it is none.
    """
    right = _NAME.fullmatch(name) and len(name) <= _LONGEST and not name.endswith(".git")
    if not right or "--" in name or ".." in name:
        raise ConfigError(
            f"{field} = {name!r} is no name on the Hub; use USER/NAME, of letters, digits, '-', "
            f"'_' and '.', such as alice/cartpole-dqn."
        )
    return name


def parse_address(run: str) -> tuple[str, str | None]:
    """The repository and the revision of ``hf:USER/NAME[@REVISION]``.

    Raises:
        ConfigError: Where it is no such address.
    """
    repo, at, revision = run.removeprefix(PREFIX).partition("@")
    check_repo(repo, "run")
    if at and not (_REVISION.fullmatch(revision) and ".." not in revision):
        raise ConfigError(
            f"run = {run!r} names no revision behind the '@'; use a branch, a tag or a commit, "
            f"or leave it out."
        )
    return repo, revision or None


def hub() -> ModuleType:
    """The package huggingface_hub; ConfigError where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except ImportError:
        raise ConfigError(
            "The Hub needs the package huggingface_hub; pip install 'fastdqn[hub]'."
        ) from None
    return huggingface_hub


@contextmanager
def hub_errors(repo: str, doing: str) -> Iterator[None]:
    """One sentence for whatever the Hub or the way to it refuses.

    Args:
        repo: USER/NAME.
        doing: ``read`` or ``written``.

    Raises:
        CheckpointError: In its place.
    """
    client = hub()
    errors, constants = client.errors, client.constants
    http_error = errors.HfHubHTTPError.__bases__[0]  # httpx's, in whichever version
    try:
        with _bars_on_terminals(client):
            yield
    except errors.GatedRepoError:
        why = (
            f"is gated; ask for access at {constants.ENDPOINT}/{repo}, and set HF_TOKEN to a token "
            f"of that account"
        )
    except errors.RevisionNotFoundError:
        why = "has no such revision; use a branch, a tag or a commit of it"
    except errors.RepositoryNotFoundError:
        why = (
            "does not exist, or is private; correct its name, or set HF_TOKEN to a token that may "
            "read it"
        )
    except errors.LocalEntryNotFoundError:
        offline = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "no connection"
        why = (
            f"is not in the cache, and {constants.ENDPOINT} cannot be reached ({offline}); try "
            f"again with a connection"
        )
    except errors.LocalTokenNotFoundError:
        why = f"cannot be {doing} without a token; run 'hf auth login', or set HF_TOKEN"
    except (http_error, OSError, ValueError, RuntimeError) as error:
        why = _reason(error, repo, doing, constants.ENDPOINT)
    else:
        return
    raise CheckpointError(f"{PREFIX}{repo} {why}.") from None


@contextmanager
def _bars_on_terminals(client: ModuleType) -> Iterator[None]:
    """Bars of progress nowhere else, unless HF_HUB_DISABLE_PROGRESS_BARS decides."""
    utils = client.utils
    decided = client.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
    if decided or sys.stderr.isatty() or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def _reason(error: BaseException, repo: str, doing: str, endpoint: str) -> str:
    """What to say of an answer, or of none."""
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of one file of many
        error = error.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"cannot be {doing}: the token is refused; run 'hf auth login', or set HF_TOKEN"
    if status == 403:
        return (
            f"cannot be {doing} with this token; set HF_TOKEN to one that may, of an account that "
            f"has {repo.partition('/')[0]!r}"
        )
    said = " ".join((getattr(error, "server_message", None) or str(error)).split())[:200]
    answer = "" if status is None else f"{status}: "
    return f"cannot be {doing} at {endpoint} ({answer}{said}); try again later"
