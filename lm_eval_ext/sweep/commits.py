"""Which commit a revision of a model or dataset is, kept for the whole study so that it never changes in the middle."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.sweep.locks import locked
from lm_eval_ext.sweep.whole_files import write_whole

Kind = Literal["model", "dataset"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REFUSED = (401, 403, 404)  # not there, or not for this user: an answer, which asking again doesn't change


class Commits:
    """The commits of a study, in `commits.json`; null for what the Hub doesn't show, or was unknown without a network.

    Args:
        folder: of the study.
        keep: whether to write what was found, so that it stays the same.
    """

    def __init__(self, folder: Path, keep: bool) -> None:
        self.path, self.keep = folder / "commits.json", keep
        self._known = self._read()

    def of(self, kind: Kind, name: str, revision: str | None) -> str | None:
        """The commit of a revision; None if it isn't known.

        Raises:
            ManifestError: the Hub cannot be reached, and what is found is kept.
        """
        revision = revision or "main"
        if _COMMIT.fullmatch(revision):
            return revision
        key = f"{kind} {name}@{revision}"
        if key not in self._known:
            self._known[key] = _cached(kind, name, revision) or self._asked(kind, name, revision)
            self._write()
        return self._known[key]

    def _asked(self, kind: Kind, name: str, revision: str) -> str | None:
        from huggingface_hub import HfApi, constants

        if constants.HF_HUB_OFFLINE:
            return None
        try:
            return HfApi().repo_info(name, revision=revision, repo_type=kind, timeout=20).sha
        except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath, which changes
            refused = getattr(getattr(error, "response", None), "status_code", None) in _REFUSED
            if refused or not self.keep:
                return None
            reason = " ".join(str(error).split())[:200]
            raise ManifestError(
                f"{name}: the Hub cannot be reached to look up which commit its {revision} is ({reason}); "
                "try again, or set HF_HUB_OFFLINE=1 to use what is on this machine"
            ) from error

    def _read(self) -> dict[str, str | None]:
        try:
            found: dict[str, str | None] = json.loads(self.path.read_text("utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ValueError as error:
            raise ManifestError(
                f"{self.path}: cannot be read as JSON ({error}); delete it to look the commits up"
            ) from error
        if not isinstance(found, dict):
            raise ManifestError(f"{self.path}: is no mapping; delete it to look the commits up")
        return found

    def _write(self) -> None:
        """Add what was found to what others may have written, which stays as it is."""
        if not self.keep:
            return
        with locked(self.path.with_suffix(".lock")):
            self._known |= self._read()
            write_whole(self.path, dict(sorted(self._known.items())))


def _cached(kind: Kind, name: str, revision: str) -> str | None:
    from huggingface_hub import constants

    path = Path(constants.HF_HUB_CACHE) / f"{kind}s--{name.replace('/', '--')}" / "refs" / revision
    return path.read_text("utf-8").strip() if path.is_file() else None
