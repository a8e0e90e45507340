"""The parts of the vLLM engine that need no vLLM; the whole is tested in test_pruned_vllm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pytest

from lm_eval_ext.generation.engine import ScriptedEngine
from lm_eval_ext.generation.engines.vllm import RoundsEngine
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop

END = 9


def job(*ids: int, most: int = 6) -> Job:
    return Job(ids, most, Stop(tokens=frozenset({END})), Sampling(0.0), seed=0)


def script(some: Job) -> list[int]:
    """Counts on from the last id; what comes after the end must not be taken."""
    return list(range(some.ids[-1] + 1, some.ids[-1] + 1 + some.max_tokens))


def outcome(engine: RoundsEngine | ScriptedEngine) -> list[tuple[tuple[int, ...], Completion]]:
    found: list[tuple[tuple[int, ...], Completion]] = []

    def on_completion(done: Job, completion: Completion) -> Iterable[Job]:
        found.append((done.ids, completion))
        return [job(*done.ids, *completion.ids[:2], most=3)] if len(done.ids) < 3 else []

    engine.run([job(1), job(6)], on_completion)
    return sorted(found)


def test_rounds_decode_what_one_engine_does() -> None:
    rounds: list[int] = []

    def generate(jobs: Sequence[Job]) -> list[list[int]]:
        rounds.append(len(jobs))
        return [script(some) for some in jobs]

    assert outcome(RoundsEngine(generate, str)) == outcome(ScriptedEngine(script))
    assert rounds == [2, 2], "all that follows a round is decoded together"


def test_a_text_that_ends_too_early_is_no_result() -> None:
    with pytest.raises(RuntimeError, match="ended a request unexpectedly, after 2 of 6 tokens"):
        RoundsEngine(lambda jobs: [[2, 3]], str).run([job(1)], lambda done, completion: [])
