"""Locks of sweeps: one holder, kept by what it starts, seen by those who may only read."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.locks import hold, is_held, locked


def test_a_lock_has_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "lock"
    assert not is_held(path) and not path.parent.exists(), "looking makes nothing"
    descriptor = hold(path)
    assert descriptor is not None and is_held(path) and hold(path) is None
    os.close(descriptor)
    assert not is_held(path)


def test_what_was_started_keeps_it(tmp_path: Path) -> None:
    descriptor = hold(tmp_path / "lock")
    assert descriptor is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[descriptor])
    os.close(descriptor)
    assert is_held(tmp_path / "lock")
    child.communicate(b"\n")
    assert not is_held(tmp_path / "lock")


def test_looking_at_a_lock_does_not_keep_others_from_it(tmp_path: Path) -> None:
    path, done = tmp_path / "lock", threading.Event()
    path.touch()
    looking = threading.Thread(target=lambda: [is_held(path) for _ in iter(done.is_set, True)])
    looking.start()
    try:
        for _ in range(200):
            descriptor = hold(path, 5.0)
            assert descriptor is not None
            os.close(descriptor)
    finally:
        done.set()
        looking.join()


def test_a_file_system_without_locks_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ManifestError, match=r"lock: its file system has no locks \(No locks available\)"):
        hold(tmp_path / "lock")


def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        assert hold(tmp_path / "lock", 0.2) is None
    assert not is_held(tmp_path / "lock")
