"""Filters, metrics and aggregations in lm-eval's runner, with our model and a stock one."""

from __future__ import annotations

from pathlib import Path

import pytest
from lm_eval.api.registry import get_aggregation

from lm_eval_ext.grading import GRADER_VERSION
from tests.test_pruned_hf import evaluated


def test_anybodys_task_counts_votes_with_a_stock_model(
    tiny_model: Path, original_hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(original_hub)
    results = evaluated("hf", {"pretrained": str(tiny_model)}, ["quiz_votes"])
    assert results["configs"]["quiz_votes"]["metadata"]["grader_version"] == GRADER_VERSION
    scores = results["results"]["quiz_votes"]
    assert {f"{name},answer" for name in ("acc", "pass@2", "pass@4", "maj@2", "maj@4", "graded")} <= set(scores)
    assert scores["graded,answer"] == 1
    sample = results["samples"]["quiz_votes"][0]
    assert len(sample["graded"]) == len(sample["filtered_resps"][0]) == 4


def test_intervals_are_aggregations_for_any_metric() -> None:
    low, high = get_aggregation("ci95_low"), get_aggregation("ci95_high")
    assert low is not None and high is not None
    scores = [0.0, 0.5, 1.0, 1.0] * 10
    assert 0.45 < low(scores) < sum(scores) / len(scores) < high(scores) < 0.8
