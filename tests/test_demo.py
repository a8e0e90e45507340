"""What `make demo` says at its end, from results as lm-eval writes them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.lm_eval_output import write_output
from examples.demo import BudgetScore, main, reading, scores, table


def verdicts(right: int) -> list[list[bool]]:
    return [[number < right] for number in range(10)]


def test_the_demos_table_and_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = {"tts_short_b16": verdicts(10), "tts_long_b16": verdicts(3), "tts_long_b32": verdicts(8)}
    pruned = {"tts_short_b16": verdicts(9), "tts_long_b16": verdicts(1), "tts_long_b32": verdicts(2)}
    write_output(tmp_path / "whole", whole)
    write_output(tmp_path / "pruned", pruned, dropped=[5], method="reverse")
    found = scores(tmp_path)
    assert BudgetScore("reverse: without 5", "tts_long", 32, 0.2) in found
    lines = [line.split() for line in table(found)]
    assert lines[0] == ["thinking", "tokens", "16", "32"]
    assert ["tts_long", "base", "0.30", "0.80"] in lines and ["tts_short", "base", "1.00"] in lines
    assert reading(found) == ["reverse: without 5 keeps 90% of tts_short, 25% of tts_long"]
    monkeypatch.setattr(sys, "argv", ["demo", str(tmp_path)])
    main()
    said = [*table(found), "", *reading(found), "", f"Results and all samples: {tmp_path}"]
    assert capsys.readouterr().out.strip().splitlines() == said
