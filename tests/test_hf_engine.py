"""The transformers engine against transformers' own `generate`, and against itself in other batches."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.generation.engines import hf
from lm_eval_ext.generation.engines.hf import HFEngine, SingleRowEngine, Slots, engine_for
from lm_eval_ext.generation.request import Completion, Job, Sampling, Stop
from lm_eval_ext.harness.models.pruned_hf import needs_single_rows, why_wrong
from lm_eval_ext.pruning.verification import tiny_twin
from tests.checkpoints import ARCHITECTURES, write_checkpoint
from tests.shared import one_line

EOS = 2
GREEDY = Sampling()
FollowUps = Callable[[Job, Completion], Iterable[Job]]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_checkpoint(request.param, tmp_path_factory.mktemp(request.param))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = write_checkpoint("llama", tmp_path_factory.mktemp("llama"))
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def prompts() -> list[tuple[int, ...]]:
    generator = random.Random(5)
    return [tuple(generator.randrange(3, 90) for _ in range(length)) for length in (3, 9, 17, 5, 30, 2, 8)]


def jobs(sampling: Sampling = GREEDY) -> list[Job]:
    return [Job(ids, 12 + 5 * i, Stop(frozenset({EOS})), sampling, seed=i) for i, ids in enumerate(prompts())]


def decoded(
    model: Any, batch_size: int, todo: list[Job], follow: FollowUps = lambda job, done: ()
) -> dict[Job, Completion]:
    results: dict[Job, Completion] = {}

    def on_completion(job: Job, completion: Completion) -> Iterable[Job]:
        results[job] = completion
        return follow(job, completion)

    HFEngine(model, batch_size, decode=str).run(todo, on_completion)
    return results


@cache
def reference(model: Any, job: Job) -> tuple[int, ...]:
    ids = torch.tensor([job.ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=job.max_tokens,
        do_sample=False,
        eos_token_id=EOS,
        pad_token_id=0,
    )
    return tuple(output[0, len(job.ids) :].tolist())


def continued(job: Job, done: Completion) -> list[Job]:
    """A shorter and a full continuation, as answers after a cut and after a natural end are."""
    if job.tag == "continued":
        return []
    ends = ((*done.ids[:4], 7, 8), (*done.ids, 9))
    return [Job(job.ids + end, 6, Stop(frozenset({EOS})), GREEDY, 1, tag="continued") for end in ends]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_greedy_text_is_that_of_generate(model: Any, batch_size: int) -> None:
    """Rows that end early, rows refilled from the queue, and continuations of a cropped cache, in every batch."""
    results = decoded(model, batch_size, jobs(), continued)
    assert len(results) == 3 * len(prompts())
    for job, completion in results.items():
        assert completion.ids == reference(model, job)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("bamba", {"attn_layer_indices": [1]}),
        ("minimax", {"layer_types": ["linear_attention", "full_attention", "linear_attention"]}),
    ],
)
def test_a_row_without_a_batch_goes_on_at_its_next_position(kind: str, fields: dict[str, Any]) -> None:
    """Models of mixed layers, whose classes don't count the tokens before: they begin at 0 again unless told."""
    with tiny_twin(AutoConfig.for_model(kind, num_hidden_layers=3, **fields)) as twin:
        engine, todo, texts = engine_for(twin.model, 4, str, print), jobs(), {}
        engine.run(todo, lambda job, done: texts.update({job: done.ids}) or ())
        assert isinstance(engine, SingleRowEngine)
        assert texts == {job: reference(twin.model, job) for job in todo}


@pytest.mark.parametrize(
    ("kind", "fields"), [("roberta", {"is_decoder": True}), ("data2vec-text", {"is_decoder": True}), ("opt", {})]
)
def test_positions_begin_where_the_class_begins(kind: str, fields: dict[str, Any]) -> None:
    with tiny_twin(AutoConfig.for_model(kind, num_hidden_layers=3, **fields)) as twin:
        assert why_wrong(twin.model, HFEngine) is None


@pytest.mark.parametrize(
    ("kind", "single_rows"), [("llama", False), ("trocr", True), ("rwkv", True), ("bart", True), ("git", True)]
)
def test_an_engine_is_chosen_that_decodes_as_transformers_computes(kind: str, single_rows: bool) -> None:
    assert needs_single_rows(AutoConfig.for_model(kind, num_hidden_layers=2, decoder_layers=2)) is single_rows


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("xlnet", "the xlnet model has no cache to generate with"),
        ("recurrent_gemma", "the recurrent_gemma model does not return its cache"),
        ("cpmant", "RuntimeError: The size of tensor"),
    ],
)
def test_what_no_engine_decodes_rightly_is_refused_in_one_line(kind: str, reason: str) -> None:
    with one_line(ArchitectureError, match=f"{kind} models cannot be decoded: {reason}"):
        needs_single_rows(AutoConfig.for_model(kind, num_hidden_layers=3))


def test_three_hundred_samples_are_the_same_in_any_batch_and_order(llama: Any) -> None:
    """With answers that follow cut and finished traces, more than one prompt per prefill, and repeats."""
    generator = random.Random(9)
    some = [tuple(generator.randrange(3, 90) for _ in range(generator.randrange(1, 20))) for _ in range(75)]
    sampling = Sampling(temperature=1.0, top_p=0.9)
    todo = [Job(ids, 8, Stop(frozenset({EOS})), sampling, seed) for seed, ids in enumerate(4 * some)]
    expected = decoded(llama, 64, todo, continued)
    for batch_size in (5, 300):
        generator.shuffle(todo)
        assert decoded(llama, batch_size, todo, continued) == expected


def test_stop_sequences_and_strings_end_a_row(llama: Any) -> None:
    (free,) = decoded(llama, 1, [Job(prompts()[0], 12, Stop(), Sampling(), 0)]).values()
    by_ids = Stop(sequences=(free.ids[3:5],))
    by_text = Stop(strings=(f"{free.ids[3]}, {free.ids[4]}]",))  # `decode=str` shows a list of numbers
    for stop in (by_ids, by_text):
        (cut,) = decoded(llama, 1, [Job(prompts()[0], 12, stop, Sampling(), 0)]).values()
        assert cut == Completion(free.ids[:5], "stop")


def test_running_out_of_memory_halves_the_batch(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decoded(llama, 16, jobs())
    forward = HFEngine.forward

    def limited(self: HFEngine, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if ids.shape[0] > 2:
            raise torch.OutOfMemoryError("no more than two rows")
        return forward(self, ids, *rest)

    monkeypatch.setattr(HFEngine, "forward", limited)
    assert decoded(llama, 16, jobs()) == expected


def test_memory_for_not_even_one_row_is_an_error(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("nothing")

    monkeypatch.setattr(HFEngine, "forward", none)
    with pytest.raises(torch.OutOfMemoryError):
        decoded(llama, 4, jobs())


def test_a_first_token_may_end_a_job_that_others_follow(llama: Any) -> None:
    """The follow-ups come to the head of the queue while the job that they follow is just being started."""
    short = [Job(job.ids, 1, Stop(), GREEDY, job.seed) for job in jobs()]
    for batch_size in (1, 3, 16):
        results = decoded(llama, batch_size, short, continued)
        assert len(results) == 3 * len(short)
        assert all(completion.ids == reference(llama, job) for job, completion in results.items())


def test_no_memory_for_a_finished_rows_states_costs_a_prefill(llama: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = decoded(llama, 3, jobs(), continued)

    def full(self: Slots, slot: int, tokens: int) -> Any:
        raise torch.OutOfMemoryError("no room for a copy")

    monkeypatch.setattr(Slots, "take", full)
    told: list[Job] = []

    def follow(job: Job, done: Completion) -> list[Job]:
        told.append(job)
        return continued(job, done)

    assert decoded(llama, 3, jobs(), follow) == expected
    assert len(told) == len(expected), "a job was reported twice"


def test_caches_go_with_their_owner(llama: Any) -> None:
    gc.disable()
    try:
        slots = Slots(2, 1)
        slots.put(0, [(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4))])
        gone = weakref.ref(slots.layers[0])
        del slots
        assert gone() is None, "a cycle keeps the buffers until the next garbage collection"
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("chosen", "cores", "most", "used"),
    [({}, 2, hf.SMALL, 1), ({}, 2, 0, 2), ({}, 16, hf.SMALL, 2), ({"OMP_NUM_THREADS": "2"}, 2, 10**7, 2)],
    ids=["small", "large", "set_num_threads", "environment"],
)
def test_small_models_decode_on_one_thread_unless_somebody_has_chosen(
    llama: Any, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], cores: int, most: int, used: int
) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hf, "_cores", lambda: cores)
    monkeypatch.setattr(hf, "SMALL", most)
    before, seen = torch.get_num_threads(), set[int]()
    torch.set_num_threads(2)
    try:
        HFEngine(llama, 2, str, lambda tokens: seen.add(torch.get_num_threads())).run(jobs()[:2], lambda *_: [])
        assert seen == {used} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
