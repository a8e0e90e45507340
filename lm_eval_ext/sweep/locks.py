"""Locks that a process passes on to those it starts, so that they hold even if it is killed."""

from __future__ import annotations

import os
from pathlib import Path

from lm_eval_ext.errors import ManifestError


def hold(path: Path) -> int | None:
    """Lock a file; returns an open file descriptor, or None if another process holds the lock.

    The lock ends when all processes that have inherited the descriptor have closed it or ended.
    """
    try:
        import fcntl
    except ImportError as error:
        raise ManifestError("sweeps need file locks, which this operating system doesn't have (fcntl)") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
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
