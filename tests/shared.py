"""The checkout, results and tables of cases in it that tests read, and a mark for tests of what lies outside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.smollm2 import HUB

ROOT = Path(__file__).resolve().parent.parent
BASE_RUN = ROOT / "leaderboard" / "results" / "tiny-chain" / "tiny-chain-dense-fc97c339"

needs_benchmarks = pytest.mark.skipif(
    not HUB.is_dir(), reason=f"the benchmarks' datasets are not at {HUB} (set LM_EVAL_TTS_HUB)"
)


def case_table(name: str) -> Any:
    """What a file in `cases` holds."""
    text = (ROOT / "tests" / "cases" / name).read_text("utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


@contextmanager
def one_line(
    kind: type[Exception] | tuple[type[Exception], ...], *said: str, match: str | None = None
) -> Iterator[None]:
    """An error of this kind is raised, and is one line that says so."""
    with pytest.raises(kind, match=match) as error:
        yield
    line = str(error.value)
    assert "\n" not in line and [one for one in said if one not in line] == [], line


def results_in(folder: Path) -> dict[str, Any]:
    """What lm-eval has written of the one run in a folder."""
    (path,) = folder.rglob("results_*.json")
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return content


def samples_in(folder: Path) -> list[dict[str, Any]]:
    """The rows of the one task of a run."""
    (path,) = folder.rglob("samples_*.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
