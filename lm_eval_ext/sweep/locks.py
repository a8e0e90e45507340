"""Locks that a process passes on to those it starts, so that they hold even if it is killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_eval_ext.errors import ManifestError

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
    try:
        import fcntl
    except ImportError as error:
        raise ManifestError("sweeps need file locks, which this operating system doesn't have (fcntl)") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    # Reading is enough, so that others can see who works on a study, and its folder may be theirs alone to write.
    descriptor = os.open(path, os.O_RDONLY if path.exists() else os.O_RDWR | os.O_CREAT, 0o644)
    end = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                os.close(descriptor)
                return None
            time.sleep(_PAUSE)
        except OSError as error:
            os.close(descriptor)
            raise ManifestError(f"{path}: its file system has no locks ({error.strerror}); choose another") from error
        else:
            return descriptor


def is_held(path: Path) -> bool:
    """Whether a process holds a lock."""
    if not path.exists():
        return False
    descriptor = hold(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


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
