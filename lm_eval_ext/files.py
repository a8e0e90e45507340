"""Files that are there as a whole or not at all, and digests of what is in them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that nobody ever reads a part of it, also if several processes write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a JSON object, as a whole."""
    write_whole(path, json.dumps(content, indent=1, default=str) + "\n")


def read_json_object(path: Path) -> dict[str, object]:
    """Read a JSON object; empty if it isn't there, or is none."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def digest(content: object) -> str:
    """SHA-256 of a value's JSON, whatever the order of its keys; 64 hex digits.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
