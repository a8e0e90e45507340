"""The beginning of a leaderboard repository of one's own: `leaderboard/skeleton/` with a title, and a `site.yaml`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from string import Template

import yaml

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.paths import LEADERBOARD

SKELETON = LEADERBOARD / "skeleton"
_HIDDEN = {"github": ".github", "gitignore": ".gitignore", "gitkeep": ".gitkeep"}  # packages leave hidden files out
_WORKFLOWS = "github"  # their `$` is not ours


def write_skeleton(folder: Path, title: str) -> list[Path]:
    """Write the files of a new leaderboard repository; returns their paths.

    Args:
        folder: new or empty.
        title: of the leaderboard, on one line.

    Raises:
        ArgumentError: the folder is not empty, or the title is not one line of text.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArgumentError(f"{folder}: is not empty; give a new folder")
    if not title.strip() or not title.isprintable():
        raise ArgumentError(f"title={title!r}; expected one line of text")
    written = []
    for name, text in _files(title):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _files(title: str) -> Iterator[tuple[Path, str]]:
    for source in sorted(path for path in SKELETON.rglob("*") if path.is_file()):
        parts = source.relative_to(SKELETON).parts
        text = source.read_text("utf-8")
        name = Path(*(_HIDDEN.get(part, part) for part in parts))
        yield (
            name,
            text
            if parts[0] == _WORKFLOWS
            else Template(text).substitute(title=title, quoted=json.dumps(title, ensure_ascii=False)),
        )
    settings = (LEADERBOARD / "site.yaml").read_text("utf-8")
    line = yaml.safe_dump({"title": title}, allow_unicode=True, width=1000)
    yield Path("site.yaml"), re.sub(r"^title: .*\n", lambda _: line, settings, flags=re.MULTILINE)
