"""`leaderboard/site.yaml`: the leaderboard's benchmarks, their titles, and which of them are gated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from lm_eval_ext.declared import Declared, read_yaml
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.paths import LEADERBOARD

Kind = Literal["knowledge", "shallow", "long", "other"]


class Benchmark(Declared):
    """A column of the leaderboard."""

    title: Annotated[str, Field(min_length=1)]
    kind: Kind = "other"
    metric: str = "acc"
    filter: str | None = None
    chance: Annotated[float | None, Field(ge=0, le=1)] = None  # accuracy of guessing, if results don't record it


class Catalogue(Declared):
    """Content of `site.yaml`."""

    title: str
    url: Annotated[str, Field(pattern=r"^(https?://[^\s<>\"]+/)?$")] = ""  # of the site, for link previews
    rank_by: tuple[str, ...] = ()
    gated: tuple[str, ...] = ()
    not_gated: tuple[str, ...] = ()
    kinds: dict[Kind, str]
    benchmarks: dict[str, Benchmark]

    @model_validator(mode="after")
    def _titles_of_all_kinds(self) -> Catalogue:
        if missing := set(get_args(Kind)) - set(self.kinds):
            raise ValueError(f"kinds: {min(missing)} has no title")
        return self

    def benchmark(self, name: str) -> Benchmark:
        """The benchmark called `name`; an undeclared one gets the kind `other`."""
        return self.benchmarks.get(name) or Benchmark(title=name)

    def is_gated(self, task: str, dataset: str = "") -> bool:
        """Whether a task or its dataset is gated, so that its questions must not be shown."""
        names = f"{task} {dataset}".lower()
        for word in self.not_gated:
            names = names.replace(word.lower(), "")
        return any(word.lower() in names for word in self.gated)

    def order(self, name: str) -> tuple[int, int, str]:
        """Sort key of a benchmark: by kind, then in declaration order, then by name."""
        known = list(self.benchmarks)
        return (
            list(self.kinds).index(self.benchmark(name).kind),
            known.index(name) if name in known else len(known),
            name,
        )


def read_catalogue(path: str | Path | None = None) -> Catalogue:
    """Read the catalogue from a YAML file; the project's own if none is named.

    Raises:
        ResultsError: the file is invalid; names the file, the field and what is allowed.
    """
    return read_yaml(Path(path or LEADERBOARD / "site.yaml"), Catalogue, ResultsError)
