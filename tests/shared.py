"""Things that lie outside the checkout, where they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HUB = Path(os.environ.get("LM_EVAL_TTS_HUB", ROOT.parent / "shared" / "data" / "hub"))
SMOLLM2 = ROOT / ".models" / "smollm2"

needs_benchmarks = pytest.mark.skipif(
    not HUB.is_dir(), reason=f"the benchmarks' datasets are not at {HUB} (set LM_EVAL_TTS_HUB)"
)
