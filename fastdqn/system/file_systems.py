"""What some file systems refuse or lack, decided call by call in one place.

Network shares, FUSE mounts, overlays and the shared folders of virtual machines do not have every
call that a local disk has. What they lack costs one warning per kind of call; what fails on them
(EIO, ENOSPC, EDQUOT, ESTALE and all the rest) is raised.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

_MISSING = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY}
_REFUSED = {errno.EPERM, errno.EACCES}
_BUSY = {errno.EBUSY, errno.ETXTBSY}  # a share whose server keeps a file open for somebody

NO_LOCKS = _MISSING | {errno.ENOLCK, errno.EBADF}  # EBADF: NFS, for a file it may only read
"""What locking a file gives where there are no locks."""

UNUSABLE_PATH = _REFUSED | {errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE}
"""What looking at a path gives that the user has named, and had better not."""

_NO_SYNC = _MISSING
# A directory can be opened on few systems other than Unix; SMB answers EINVAL or EBADF.
_NO_SYNC_OF_DIRECTORY = _MISSING | _REFUSED | {errno.EBADF, errno.EISDIR}
_NO_REOPENING = _MISSING | _REFUSED  # stores whose files are written once
# SFTP without the posix-rename extension, and hosts where a name that exists cannot be taken.
_NO_REPLACING = _MISSING | _REFUSED | {errno.EEXIST}
# EXDEV: a directory of an overlay's lower layer, as in a container's image. EMFILE: object stores.
_NO_DIRECTORY_RENAME = _MISSING | _REFUSED | _BUSY | {errno.EXDEV, errno.EMFILE}

_said: set[str] = set()


def warn_once(path: Path, lacks: str, error: OSError, so: str) -> None:
    """Say on stderr what is not to be had at ``path``, once per kind in a process."""
    if lacks in _said:
        return
    _said.add(lacks)
    with contextlib.suppress(OSError, ValueError):  # stderr may be gone
        print(
            f"fastdqn: warning: {path}: its file system has no {lacks} ({error.strerror}); {so}.",
            file=sys.stderr,
            flush=True,
        )


def sync_file(path: Path, descriptor: int | None = None) -> None:
    """Wait until a file is on the disk; OSError where it does not get there.

    Args:
        path: The file.
        descriptor: Of the file, where one is open for writing.
    """
    with _lacking(path, "fsync for files", _NO_SYNC, "a power cut may spoil the newest files"):
        if descriptor is not None:
            os.fsync(descriptor)
            return
        try:
            # SMB does nothing for a descriptor that cannot write.
            descriptor = os.open(path, os.O_RDWR)
        except OSError as error:
            if error.errno not in _NO_REOPENING:
                raise
            descriptor = os.open(path, os.O_RDONLY)
        _sync(descriptor)


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on the disk; OSError where they do not get there."""
    so = "a power cut may undo the newest names"
    with _lacking(path, "fsync for directories", _NO_SYNC_OF_DIRECTORY, so):
        _sync(os.open(path, os.O_RDONLY))


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace(source: Path, target: Path) -> None:
    """``os.replace`` of a file; where only a free name can be taken, the old file goes first."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno not in _NO_REPLACING or not os.path.isfile(target):
            raise
        try:
            os.unlink(target)
        except OSError:
            raise error from None
        os.rename(source, target)
        so = f"{target.name} is deleted before it is written anew"
        warn_once(target.parent, "renaming over a file", error, so)


def move_directory(source: Path, target: Path, *, last: str) -> None:
    """Rename a directory of files; where that is not to be had, move them one by one.

    Args:
        source: The directory.
        target: Its new name, which is free.
        last: The file without which the others are nothing: the last to come and the first to go.
    """
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_RENAME or not source.is_dir():
            raise
        refusal = error
    try:
        target.mkdir()
    except OSError:
        raise refusal from None
    try:  # copies: until all are there the source is whole
        for path in sorted(source.iterdir(), key=lambda path: path.name == last):
            shutil.copyfile(path, target / path.name)
            sync_file(target / path.name)
        sync_directory(target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    with contextlib.suppress(OSError):
        (source / last).unlink()
    shutil.rmtree(source, ignore_errors=True)
    warn_once(target.parent, "renaming of directories", refusal, "their files are copied")


@contextlib.contextmanager
def _lacking(path: Path, lacks: str, numbers: set[int], so: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise
        warn_once(path, lacks, error, so)
