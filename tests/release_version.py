"""Checks that a release's tag, version, changelog, citation and repository agree: `release_version.py v0.1.0`.

It needs only the standard library, because it runs before anything is installed.
"""

from __future__ import annotations

import os
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def faults(tag: str, root: Path = ROOT) -> list[str]:
    """What doesn't agree with the tag; empty if all does.

    Args:
        tag: such as `v0.1.0`.
        root: of the checkout.
    """
    wanted = tag.removeprefix("v")
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    first = re.search(r"^## (\S+)(.*)$", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    cited = re.search(r"^version: (\S+)$", (root / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    found = {
        "pyproject.toml": project["version"],
        "CHANGELOG.md": first and first[1],
        "CITATION.cff": cited and cited[1],
    }
    wrong = [f"{name} says {one}, the tag {wanted}" for name, one in found.items() if one != wanted]
    if first and "unreleased" in first[2]:
        wrong.append(f"CHANGELOG.md says that {first[1]} is unreleased; give the date")
    return [*wrong, *_elsewhere(project["urls"]["Repository"])]


def _elsewhere(url: str) -> list[str]:
    """Whether the package would name another repository than the one that this runs in."""
    here = os.environ.get("GITHUB_REPOSITORY")
    same = not here or url.lower() == f"https://github.com/{here}".lower()
    return [] if same else [f"pyproject.toml names {url}, this is {here}: change its URLs, and those of mkdocs.yml"]


if __name__ == "__main__":
    wrong = faults(sys.argv[1])
    print("\n".join(wrong) or f"{sys.argv[1]}: all agree")
    sys.exit(bool(wrong))
