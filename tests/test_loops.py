from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.generation.engine import COPIES, TOKENS, loops
from tests.shared import case_table

TEXTS = case_table("looping_texts.json")


@pytest.mark.parametrize("case", [pytest.param(case, id=case["source"]) for case in TEXTS])
def test_texts(case: dict[str, object]) -> None:
    assert loops(str(case["text"]).split(" ")) == case["loops"]  # type: ignore[arg-type]  # words stand for tokens


def plainly(ids: list[int]) -> bool:
    """The definition, word for word: some block, at least four copies at the end, at least 32 tokens."""
    for period in range(1, len(ids) // COPIES + 1):
        covered = period
        while covered < len(ids) and ids[-covered - 1] == ids[-covered - 1 + period]:
            covered += 1
        if covered >= COPIES * period and covered >= TOKENS:
            return True
    return False


@given(
    st.lists(st.integers(0, 2), max_size=30),
    st.lists(st.integers(0, 2), min_size=1, max_size=12),
    st.integers(0, 40),
    st.lists(st.integers(0, 2), max_size=2),
)
def test_it_is_the_definition(head: list[int], block: list[int], copies: int, tail: list[int]) -> None:
    ids = head + block * copies + tail
    assert loops(ids) == plainly(ids)
