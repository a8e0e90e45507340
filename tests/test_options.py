from __future__ import annotations

from typing import Any

import pytest

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.request import GenerationOptions, parse_options


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


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (
            {"thinking_budget": 5},
            r"'thinking_budget'; expected one of: do_s.*; did you mean thinking_token_budget\?",
        ),
        ({"do_sample": False, "temperature": 1.0}, "give temperature=0, for sampling do_sample=True"),
        ({"temperature": -1}, "temperature=-1: give a number at least 0"),
        ({"temperature": "hot"}, "temperature='hot'"),
        ({"top_p": 2}, "top_p=2: give a number from 0 to 1"),
        ({"thinking_token_budget": 1.5}, "thinking_token_budget=1.5: give a whole number"),
        ({"thinking_token_budget": -2}, "at least -1"),
        ({"max_gen_toks": 0}, "max_gen_toks=0: give a whole number at least 1"),
        ({"max_gen_toks": 5, "max_tokens": 6}, "contradicts"),
        ({"thinking_start": ""}, "thinking_start='': give the marker's text"),
        ({"thinking_end": 5}, "thinking_end=5: give the marker's text"),
        ({"until": 5}, "until=5: give a string or a list of strings"),
    ],
)
def test_faults_are_one_line(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message) as error:
        parsed(**kwargs)
    assert "\n" not in str(error.value)
