"""The checkout, results in it that tests read, and a mark for tests of what lies outside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.smollm2 import HUB

ROOT = Path(__file__).resolve().parent.parent
BASE_RUN = ROOT / "leaderboard" / "results" / "tiny-chain" / "tiny-chain-dense-fc97c339"

needs_benchmarks = pytest.mark.skipif(
    not HUB.is_dir(), reason=f"the benchmarks' datasets are not at {HUB} (set LM_EVAL_TTS_HUB)"
)
