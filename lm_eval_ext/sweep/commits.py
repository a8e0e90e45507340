"""Which commit a revision of a model or dataset is, kept for the whole study so that it never changes in the middle."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal

from lm_eval_ext.errors import ManifestError

Kind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")


class Commits:
    """The commits of a study, in `commits.json`.

    Args:
        folder: of the study.
        keep: whether to write what was found, so that it stays the same.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self.path, self.keep = folder / "commits.json", keep
        self._unknown: set[str] = set()  # what was asked for in vain, so that nobody waits for it twice

    @cached_property
    def _known(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self.path.read_text("utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise ManifestError(
                f"{self.path}: cannot be read as JSON ({error}); delete it to look the commits up"
            ) from error
        return found

    def of(self, kind: Kind, name: str, revision: str | None) -> str | None:
        """The commit of a revision; None if it is neither in the cache of this machine nor within reach."""
        revision = revision or "main"
        if _COMMIT.fullmatch(revision):
            return revision
        key = f"{kind} {name}@{revision}"
        if key not in self._known and key not in self._unknown:
            found = _cached(kind, name, revision) or _asked(kind, name, revision)
            if found is None:
                self._unknown.add(key)
            else:
                self._known[key] = found
                self._write()
        return self._known.get(key)

    def _write(self) -> None:
        if not self.keep:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(_sorted(self._known), indent=1) + "\n", "utf-8")
        part.replace(self.path)


def _sorted(known: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(known.items()))


def _cached(kind: Kind, name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / revision
    return path.read_text("utf-8").strip() if path.is_file() else None


def _asked(kind: Kind, name: str, revision: str) -> str | None:
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return None
    try:
        return HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=20).sha
    except Exception:  # huggingface_hub's, and those of the HTTP library beneath, which changes
        return None
