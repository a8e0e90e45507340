"""The checkout, results and tables of cases in it that tests read, and a mark for tests of what lies outside it."""

from __future__ import annotations

import json
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
