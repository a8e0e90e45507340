"""Locks that a process passes on to those it starts, so that they hold even if it is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import above_streams

_PAUSE = 0.05  # seconds between two tries


def hold(path: Path, seconds: float = 0.0) -> int | None:
    """Lock a file; returns an open file descriptor, or None if another process holds the lock.

    The lock ends when all processes that have inherited the descriptor have closed it or ended.

    Args:
        path: the file; it is made if it isn't there.
        seconds: how long to try. Looking at a lock takes it for an instant, so who needs it should try for longer.

    Raises:
        ManifestError: the operating system or the file system has no such locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = above_streams(os.open(path, os.O_RDWR | os.O_CREAT, 0o644))
    end = time.monotonic() + seconds
    while not _took(descriptor, path, shared=False):
        if time.monotonic() >= end:
            os.close(descriptor)
            return None
        time.sleep(_PAUSE)
    return descriptor


def is_held(path: Path) -> bool:
    """Whether a process holds a lock; also for those who may only read the file."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return not _took(descriptor, path, shared=True)
    finally:
        os.close(descriptor)


def _took(descriptor: int, path: Path, shared: bool) -> bool:
    """Take a lock if nobody has it; shared is enough to look, and all that a file system allows to those who read."""
    try:
        import fcntl
    except ImportError as error:
        raise ManifestError("sweeps need file locks, which this operating system doesn't have (fcntl)") from error
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise ManifestError(f"{path}: its file system has no locks ({error.strerror}); choose another") from error
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock that is held for moments, and hold it.

    Raises:
        ManifestError: another process holds it for a minute.
    """
    descriptor = hold(path, 60.0)
    if descriptor is None:
        raise ManifestError(f"{path}: another process has held this lock for a minute")
    try:
        yield
    finally:
        os.close(descriptor)
