from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.grading.rules import clusters


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
