from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lm_eval.api.registry import get_aggregation

from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.rules import clusters
from tests.test_pruned_hf import evaluated


def same_parity(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    return [len(one) % 2 == len(other) % 2 for one, other in pairs]


def test_equal_answers_are_one_vote() -> None:
    answers = ["1/2", "7", "0.5", "", r"\frac{1}{2}", "7.0", r"\dfrac12", "\uff10.\uff15", r"50\%"]
    labels = clusters([answers])[0]
    assert labels == [0, 1, 0, None, 0, 1, 0, 0, 0]


def test_expressions_are_clustered_by_algebra() -> None:
    answers = [r"2\sqrt{2}", r"\sqrt{8}", "x^2-1", "(x-1)(x+1)", "(1,2)", r"\{1,2\}", "1,2"]
    labels = clusters([answers])[0]
    assert labels[0] == labels[1]
    assert labels[2] == labels[3]
    assert labels[4] != labels[5], "a tuple is no set"


def test_what_cannot_be_read_clusters_by_text() -> None:
    answers = [r"\begin{cases", "I do not know", r"\begin{cases", "I do not know.", "9^{9^{9^9}}", "9^{9^{9^9}}"]
    labels = clusters([answers])[0]
    assert labels[0] == labels[2] and labels[1] == labels[3] and labels[4] == labels[5]
    assert len(set(labels)) == 3


@given(st.lists(st.lists(st.text("ab", max_size=4), max_size=8), max_size=4), st.randoms())
def test_labels_do_not_depend_on_the_order_of_samples(questions: list[list[str]], random: object) -> None:
    labels = clusters(questions, same_parity)
    for answers, found in zip(questions, labels, strict=True):
        pairs = list(zip(answers, found, strict=True))
        random.shuffle(pairs)  # type: ignore[attr-defined]  # Hypothesis's own Random
        shuffled = [answer for answer, _ in pairs]
        assert clusters([shuffled], same_parity)[0] == [label for _, label in pairs]


@given(st.lists(st.text("ab", max_size=4), max_size=12))
def test_clusters_are_those_of_the_relation(answers: list[str]) -> None:
    labels = clusters([answers], same_parity)[0]
    for one, label in zip(answers, labels, strict=True):
        assert (label is None) == (one == "")
        for other, another in zip(answers, labels, strict=True):
            if one and other:
                assert (label == another) == (len(one) % 2 == len(other) % 2)


def test_few_comparisons_are_made() -> None:
    asked: list[tuple[str, str]] = []

    def counted(pairs: Sequence[tuple[str, str]]) -> list[bool]:
        asked.extend(pairs)
        return same_parity(pairs)

    clusters([["a", "aaa", "bbb", "aa", "bb"] * 50], counted)
    assert len(asked) == 5, "distinct texts against one of each cluster: four, then one"


# In lm-eval's runner, with our model and a stock one ------------------------------------------------------------------


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
