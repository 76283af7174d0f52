"""A file system that has no locks."""

import os


def refuse_locks(monkeypatch, number):
    def lock_descriptor(descriptor, **_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("filelock.lock_descriptor", lock_descriptor)
