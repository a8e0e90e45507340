"""The reference semantics, on an engine that decodes from a script."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.budget_forcing import BudgetForcing, plan
from lm_eval_ext.generation.engine import Codec
from lm_eval_ext.generation.request import Generation, Job, Request, Sampling
from lm_eval_ext.thinking_formats import ThinkingFormat, format_named
from tests.scripted import ScriptedEngine

# A text is its characters' numbers; "]" ends the thinking, "$" the text.
FORM = ThinkingFormat("test", start="[", end="]", early_stop="!]", close=".]")
EOS = ord("$")


def ids(text: str) -> tuple[int, ...]:
    return tuple(map(ord, text))


def text_of(numbers: Iterable[int]) -> str:
    return "".join(map(chr, numbers)).replace("$", "")


CODEC = Codec(lambda text: list(ids(text)), text_of, frozenset({EOS}), frozenset({ord("]")}))


def generate(
    requests: list[Request],
    script: Callable[[str], str],
    thinking_format: ThinkingFormat = FORM,
    max_length: int = 1000,
    share: bool = True,
) -> tuple[list[Generation], list[Job]]:
    engine = ScriptedEngine(lambda job: ids(script("".join(map(chr, job.ids)))), text_of)
    forcing = BudgetForcing(engine, CODEC, thinking_format, base_seed=1, max_length=max_length)
    return forcing.run(requests, plan(requests, max_length, share=share)), engine.jobs


def asked(*budgets: int | None, **changes: object) -> list[Request]:
    return [Request(ids("q["), thinking_budget=budget, **changes) for budget in budgets]  # type: ignore[arg-type]


def thinks_ten(so_far: str) -> str:
    """Ten letters of thinking, then an answer that tells how it was asked for."""
    if so_far == "q[":
        return "abcdefghij]"
    return "forced$" if "!]" in so_far else "free$"


def test_one_trace_serves_all_budgets() -> None:
    results, jobs = generate(asked(3, 5, 20, None), thinks_ten)
    assert results == ["abc!]forced", "abcde!]forced", "abcdefghij]free", "abcdefghij]free"]
    assert [job.max_tokens for job in jobs if text_of(job.ids) == "q["] == [998]
    assert len(jobs) == 1 + 3, "a trace, and three answers for four budgets"
    assert [(r.thinking_tokens, r.answer_tokens, r.forced) for r in results] == [
        (3, 6, True),
        (5, 6, True),
        (10, 4, False),
        (10, 4, False),
    ]
    assert [r.answer for r in results] == ["forced", "forced", "free", "free"]


@pytest.mark.parametrize(("budget", "forced"), [(9, True), (10, True), (11, False)])
def test_the_end_marker_counts_as_thought(budget: int, forced: bool) -> None:
    """Ten tokens and their end are eleven: a run with a budget of ten alone would never see the end."""
    (result,), _ = generate(asked(budget), thinks_ten)
    assert result.forced == forced


def test_a_budget_of_nothing_answers_at_once() -> None:
    (result,), jobs = generate(asked(0), thinks_ten)
    assert (result, result.thinking_tokens, len(jobs)) == ("!]forced", 0, 1)


def test_an_end_of_text_closes_the_thinking() -> None:
    (result,), jobs = generate(asked(50), lambda so_far: "hm$" if so_far == "q[" else "42$")
    assert (result, result.answer, result.forced) == ("hm.]42", "42", False)
    assert text_of(jobs[1].ids) == "q[hm.]"


def test_task_stops_end_the_answer_alone() -> None:
    results, _ = generate(asked(50, until=("\n",)), lambda so_far: "a\nb]" if so_far == "q[" else "42\nmore$")
    assert results == ["a\nb]42"]


def test_a_cut_without_an_answer_has_none() -> None:
    """No budget, and the most tokens are spent: whatever stands in the trace is no answer."""
    (result,), _ = generate(asked(None, max_tokens=6), thinks_ten)
    assert (result, result.answer, result.finish_reason) == ("abcdef", None, "length")


def test_a_full_context_has_none_either() -> None:
    (result,), _ = generate(asked(None), thinks_ten, max_length=8)
    assert (result, result.answer, result.finish_reason) == ("abcdef", None, "context")


def test_an_answer_stays_within_its_limits() -> None:
    limits = {"answer": {"answer_budget": 2}, "total": {"max_tokens": 5}}
    for changes in limits.values():
        (result,), _ = generate(asked(3, **changes), thinks_ten)
        assert (result.answer, result.finish_reason) == ("fo", "length")
    (result,), _ = generate(asked(3), thinks_ten, max_length=2 + 3 + 2 + 2)
    assert result.answer == "fo"


def test_waiting_takes_the_end_back() -> None:
    def script(so_far: str) -> str:
        return {"q[": "ab]", "q[ab~": "cd]"}.get(so_far, "ok$")

    results, _ = generate(asked(50, wait_count=1, wait_text="~"), script)
    assert (results[0], results[0].thinking_tokens) == ("ab~cd]ok", 5)


def test_waiting_takes_an_end_in_ordinary_text_back() -> None:
    worded = ThinkingFormat("worded", "", "done", early_stop="!done", close=" done")

    def script(so_far: str) -> str:
        return {"q[": "ab done", "q[ab ~": "cd done"}.get(so_far, "ok$")

    results, _ = generate(asked(50, wait_count=1, wait_text="~"), script, worded)
    assert results == ["ab ~cd doneok"]


def test_a_cut_within_an_end_marker_leaves_no_half_of_it() -> None:
    marker = ThinkingFormat("long", "[", "](", early_stop="!](", close="](")
    results, jobs = generate(asked(4), lambda so_far: "abc](" if so_far == "q[" else "4$", marker)
    assert results == ["abc!](4"] and results[0].thinking_tokens == 4
    assert text_of(jobs[1].ids) == "q[abc!]("


def test_a_stop_that_is_a_token_of_its_own_is_found_by_its_id() -> None:
    """Special tokens do not show in decoded text; here "]" stands for one."""
    results, _ = generate([Request(ids("q"), thinks=False, until=("]",))], lambda _: "42]and on")
    assert (results[0], results[0].finish_reason) == ("42", "stop")


@given(st.lists(st.integers(1, 14), min_size=1, max_size=4))
def test_sharing_changes_no_result_of_waiting(budgets: list[int]) -> None:
    def script(so_far: str) -> str:
        return {"q[": "abcd]", "q[abcd~": "ef]"}.get(so_far, "ok$")

    requests = asked(*budgets, wait_count=1, wait_text="~")
    assert generate(requests, script)[0] == generate(requests, script, share=False)[0]


def test_a_plain_model_is_graded_as_a_whole() -> None:
    plain = format_named("plain")
    ended, cut = generate(asked(50, 2), lambda so_far: "abc 4$" if so_far == "q[" else " 5$", plain)[0]
    assert (ended, ended.answer, ended.forced) == ("abc 4", "abc 4", False)
    assert (cut, cut.answer, cut.forced) == ("ab\n\nFinal Answer: 5", "ab\n\nFinal Answer: 5", True)


def test_what_an_early_stop_begins_is_part_of_the_answer() -> None:
    s1 = ThinkingFormat("s1-like", "[", "]", early_stop="\n]\nFinal Answer:", close="]")
    results, _ = generate(asked(3), lambda so_far: "abcdef" if so_far == "q[" else " 7$", s1)
    assert results[0].answer == "\nFinal Answer: 7"


def test_a_prompt_that_has_closed_the_thinking_is_answered() -> None:
    results, jobs = generate([Request(ids("q[]"), thinking_budget=50, thinks=False)], lambda _: "9$")
    assert (results[0], results[0].answer, results[0].thinking_tokens, len(jobs)) == ("9", "9", 0, 1)


def test_an_end_in_ordinary_text_is_found_by_text() -> None:
    """Where the marker is no token of its own it may come in any split, here with a letter behind it."""
    worded = ThinkingFormat("worded", "", "so", early_stop="!so", close=" so")
    results, _ = generate(asked(50), lambda so_far: "hm so" if so_far == "q[" else " 4$", worded)
    assert (results[0], results[0].answer) == ("hm so 4", " 4")


@pytest.mark.parametrize(("prompt", "message"), [(ids("q" * 20), "20 tokens leaves no room"), ((), "empty")])
def test_prompts_that_cannot_be_continued(prompt: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        generate([Request(prompt)], thinks_ten, max_length=20)


@given(st.lists(st.one_of(st.none(), st.integers(0, 14)), min_size=1, max_size=5), st.integers(1, 20))
def test_sharing_changes_no_result(budgets: list[int | None], max_tokens: int) -> None:
    requests = asked(*budgets, max_tokens=max_tokens)
    shared, alone = (generate(requests, thinks_ten, share=share)[0] for share in (True, False))
    assert shared == alone
    assert [vars(one) for one in shared] == [vars(other) for other in alone]


def test_seeds_pair_budgets_and_part_repeats() -> None:
    requests = [Request(ids("q["), repeat, Sampling(1.0), budget) for repeat in (0, 1) for budget in (3, 5)]
    _, jobs = generate(requests, thinks_ten, share=False)
    traces = [job.seed for job in jobs if text_of(job.ids) == "q["]
    assert traces[0] == traces[1] != traces[2] == traces[3]
    assert len({job.seed for job in jobs}) == 2 + 4


def test_the_stop_that_begins_first_ends_the_answer() -> None:
    """Whatever the order of the list: `b` lies within `ab`."""
    for until in (("b", "ab"), ("ab", "b")):
        (result,), _ = generate(asked(50, until=until), lambda so_far: "]" if so_far == "q[" else "xabc$")
        assert result.answer == "x"


def test_an_end_that_the_model_wrote_counts_among_all_its_tokens() -> None:
    """Ten of thinking, one for its end, and what is left of thirteen for the answer."""
    (result,), _ = generate(asked(12, max_tokens=13), thinks_ten)
    assert (result.thinking_tokens, result.answer, result.finish_reason) == (10, "fr", "length")


def test_another_end_ends_the_thinking_as_well() -> None:
    thinking_format = replace(FORM, other_ends=("}",))
    codec = replace(CODEC, markers=frozenset(map(ord, "]}")))
    engine = ScriptedEngine(lambda job: ids("ab}" if len(job.ids) == 2 else "42$"), text_of)
    requests = asked(50)
    (result,) = BudgetForcing(engine, codec, thinking_format, base_seed=1, max_length=99).run(
        requests, plan(requests, 99)
    )
    assert (result.thinking_tokens, result.answer, result) == (2, "42", "ab]42")
    assert text_of(engine.jobs[1].ids) == "q[ab}", "the model goes on behind the end that it wrote"


def test_a_generation_is_a_string_in_all_that_is_done_to_strings() -> None:
    made = Generation("a]42", answer="42", thinking_tokens=1, seed=5)
    assert type(made)("gold") == "gold" and type(made)("gold").answer == "gold" and type(made)() == ""
    assert type(made)(7) == "7", "lm-eval turns numbers into what the result is"
    assert made[2:] == "42" and made.upper() == "A]42" and f"{made}" == "a]42" and made + "x" == "a]42x"
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert again == made and vars(again) == vars(made)
    assert json.loads(json.dumps([made])) == ["a]42"]
