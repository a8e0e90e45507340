"""Equal stretches of text are decoded once and handed to all who asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from lm_eval_ext.generation.engine import MergingEngine
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from tests.scripted import ScriptedEngine

GREEDY: dict[str, Any] = {"do_sample": False, "temperature": 0.0, "until": [], "max_gen_toks": 100}


def job(limit: int, seed: int = 0, tag: object = None) -> Job:
    return Job((1, 2), limit, Stop(frozenset({90})), Sampling(), seed, tag=tag)


def decoded(jobs: list[Job]) -> tuple[list[tuple[Any, Completion]], int]:
    inner = ScriptedEngine(lambda job: range(100))
    done: list[tuple[Any, Completion]] = []

    def on_completion(job: Job, completion: Completion) -> Iterable[Job]:
        done.append((job.tag, completion))
        return []

    MergingEngine(inner).run(jobs, on_completion)
    return done, len(inner.jobs)


def test_equal_jobs_are_decoded_once() -> None:
    done, decodes = decoded([job(5, tag=name) for name in "abc"])
    assert decodes == 1 and sorted(name for name, _ in done) == ["a", "b", "c"]
    assert {completion for _, completion in done} == {Completion((0, 1, 2, 3, 4), "length")}


def test_a_lower_limit_takes_the_beginning() -> None:
    done, decodes = decoded([job(3, tag="low"), job(99, tag="high")])
    assert decodes == 1
    assert dict(done) == {"low": Completion((0, 1, 2), "length"), "high": Completion(tuple(range(91)), "stop")}


def test_other_seeds_are_other_jobs() -> None:
    assert decoded([job(5, seed=1), job(5, seed=2)])[1] == 2


def test_follow_ups_that_meet_are_one() -> None:
    inner = ScriptedEngine(lambda job: [7])
    answers = []

    def on_completion(job: Job, completion: Completion) -> Iterable[Job]:
        if job.phase == "answer":
            answers.append(job.tag)
            return []
        return [Job((1, 2, 7), 1, Stop(), Sampling(), 0, "answer", tag=job.tag)]

    MergingEngine(inner).run([job(1, tag=name) for name in "abcd"], on_completion)
    assert sorted(answers) == ["a", "b", "c", "d"] and len(inner.jobs) == 2


def requests(repeats: int = 1, **kwargs: Any) -> list[Instance]:
    arguments = ("Hello", {**GREEDY, "thinking_token_budget": 40, **kwargs})
    return [Instance("generate_until", {}, arguments, 0, metadata=("t", 0, repeats))] * repeats


def decoding(model: Any, journal: Any, asked: list[Instance]) -> tuple[list[str], dict[str, float]]:
    lm = PrunedHFLM(str(model), device="cpu", journal=str(journal), dtype="float32", batch_size=4)
    texts = lm.generate_until(asked, disable_tqdm=True)
    return [str(text) for text in texts], lm.get_model_info()["generation"]


def test_greedy_repeats_cost_one(tiny_model: Any) -> None:
    (once,), alone = decoding(tiny_model, "off", requests())
    texts, together = decoding(tiny_model, "off", requests(8))
    assert texts == [once] * 8
    assert together["thinking_tokens"] == alone["thinking_tokens"] > 0
    assert together["answer_tokens"] == alone["answer_tokens"]


def test_a_sweep_over_waits_shares_its_beginnings(tiny_model: Any) -> None:
    sweep = [one for count in range(4) for one in requests(wait_count=count)]
    texts, together = decoding(tiny_model, "off", sweep)
    alone = [decoding(tiny_model, "off", requests(wait_count=count)) for count in range(4)]
    assert texts == [text for (text,), _ in alone]
    assert together["thinking_tokens"] == max(info["thinking_tokens"] for _, info in alone)


@pytest.mark.parametrize("sampling", [{}, {"do_sample": True, "temperature": 1.0}])
def test_what_a_journal_gave_is_not_counted_as_saved_again(tiny_model: Any, tmp_path: Any, sampling: Any) -> None:
    asked = [one for budget in (5, 10, 40) for one in requests(thinking_token_budget=budget, **sampling)]
    first = decoding(tiny_model, tmp_path / "journal.sqlite", asked)
    again = decoding(tiny_model, tmp_path / "journal.sqlite", asked)
    assert again[0] == first[0]
    assert first[1]["saved_by_sharing"] > 0 == again[1]["saved_by_sharing"]
    assert again[1]["thinking_tokens"] == 0
