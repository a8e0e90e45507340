"""Prints the lowest versions that pyproject.toml admits, as pip constraints: what `make lowest` installs.

torch is left out: its older builds for CPUs are not on PyPI.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator

from packaging.requirements import Requirement

from tests.shared import ROOT


def constraints() -> Iterator[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = project["dependencies"] + project["optional-dependencies"]["leaderboard"]
    here = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate()]
    lowest = {one.name: bound.version for one in here for bound in one.specifier if bound.operator == ">="}
    return (f"{name}=={version}" for name, version in lowest.items() if name != "torch")


if __name__ == "__main__":
    print(*constraints(), sep="\n")
