"""Sending a packed run to the Hugging Face Hub: what would be refused is refused before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastdqn.errors import ConfigError
from fastdqn.sharing.hub_client import hub, hub_errors

_ANYONES = {".gitattributes", "README.md"}


def check_account(name: str, *, private: bool) -> None:
    """Ask the Hub whether a run may be sent there; sends nothing.

    Args:
        name: USER/NAME.
        private: Whether it is to be private.

    Raises:
        ConfigError: Where the token's account has no such user or organization, or the repository
            holds something else than a run, or is public and should not be.
        CheckpointError: Where there is no token, it is refused, or the Hub cannot be reached.
    """
    client = hub()
    api = client.HfApi(library_name="fastdqn")
    with hub_errors(name, "written"):
        me: dict[str, Any] = api.whoami()
        owners = [me.get("name"), *(each.get("name") for each in me.get("orgs") or ())]
        try:
            info = api.model_info(name)
        except client.errors.RepositoryNotFoundError:
            info = None
    owner = name.partition("/")[0]
    if owner not in owners:
        raise ConfigError(
            f"name = {name!r} belongs to {owner!r}, and the token to {owners[0]!r}; use one of "
            f"{', '.join(str(each) for each in owners)}."
        )
    if info is None:
        return
    files = {each.rfilename for each in info.siblings or ()} - _ANYONES
    if files and not any(file.startswith("checkpoints/step_") for file in files):
        raise ConfigError(f"name = {name!r} holds something else than a run; name another.")
    if private and not info.private:
        raise ConfigError(
            f"name = {name!r} exists and is public; make it private on the Hub, or name another."
        )


def upload(directory: Path, name: str, *, private: bool, message: str) -> str:
    """Send the files of a directory as one commit, in the place of an older run's.

    Returns:
        The address of the page.

    Raises:
        CheckpointError: Where the Hub refuses, or cannot be reached.
    """
    client = hub()
    api = client.HfApi(library_name="fastdqn")
    with hub_errors(name, "written"):
        api.create_repo(name, private=private or None, exist_ok=True)
        api.upload_folder(
            repo_id=name,
            folder_path=directory,
            commit_message=message,
            delete_patterns=["checkpoints/*", "replay.*", "*.csv", "*.png"],
        )
    return f"{client.constants.ENDPOINT}/{name}"
