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
    for line in project["dependencies"] + project["optional-dependencies"]["leaderboard"]:
        requirement = Requirement(line)
        (lowest,) = [bound.version for bound in requirement.specifier if bound.operator == ">="]
        if requirement.name != "torch":
            yield f"{requirement.name}=={lowest}"


if __name__ == "__main__":
    print(*constraints(), sep="\n")
