from __future__ import annotations

from typing import Any

import pytest

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.request import GenerationOptions, parse_options
from tests.shared import case_table


def parsed(**kwargs: Any) -> GenerationOptions:
    return parse_options(kwargs, answer_budget=100, max_tokens=256)


def test_defaults_are_greedy_and_unlimited() -> None:
    options = parsed()
    assert options.sampling.temperature == 0
    assert (options.thinking_budget, options.answer_budget, options.max_tokens) == (None, 100, 256)


def test_minus_one_is_no_limit() -> None:
    options = parsed(thinking_token_budget=-1, answer_token_budget=-1)
    assert options.thinking_budget is None and options.answer_budget is None


def test_other_names_mean_the_same() -> None:
    theirs = parsed(max_tokens_thinking=8, thinking_n_ignore=2, thinking_n_ignore_str="Hm", max_new_tokens=50)
    ours = parsed(thinking_token_budget=8, wait_count=2, wait_text="Hm", max_gen_toks=50)
    assert theirs == ours


def test_sampling_without_a_temperature_is_at_one() -> None:
    assert parsed(do_sample=True).sampling.temperature == 1.0
    assert parsed(do_sample=True, temperature=0).sampling.temperature == 0


@pytest.mark.parametrize(("kwargs", "message"), case_table("wrong_arguments.yaml")["generation"])
def test_faults_are_one_line(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as error:
        parsed(**kwargs)
    assert "\n" not in str(error.value)
