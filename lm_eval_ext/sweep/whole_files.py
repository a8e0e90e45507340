"""JSON files that are there as a whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path


def write_whole(path: Path, content: Mapping[str, object]) -> None:
    """Write JSON so that nobody ever reads a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1, default=str) + "\n", "utf-8")
    part.replace(path)


def read_whole(path: Path) -> dict[str, object]:
    """Read JSON; empty if it isn't there, or isn't a mapping."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
