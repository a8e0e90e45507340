"""A sweep from shared traces equals separate runs, text for text: greedy and sampled, in every batch and order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from lm_eval.api.instance import Instance

from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from tests.checkpoints import write_checkpoint
from tests.conftest import VOCABULARY
from tests.tokenizers import add_tokenizer

BUDGETS = (3, 10, 17, 40, 90)
SAMPLINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False, "temperature": 0.0},
    "sampled": {"do_sample": True, "temperature": 1.0},
}


@pytest.fixture(
    scope="module",
    params=["gemma3_text", *(pytest.param(one, marks=pytest.mark.long) for one in ("llama", "qwen3", "lfm2"))],
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three kinds of caches: full, sliding window, and one with convolutions, which cannot be cut."""
    folder = tmp_path_factory.mktemp(request.param)
    write_checkpoint(request.param, folder, vocab_size=VOCABULARY, max_position_embeddings=512)
    return add_tokenizer(folder)


def model(folder: Path, batch_size: int, **arguments: Any) -> PrunedHFLM:
    return PrunedHFLM(str(folder), batch_size=batch_size, device="cpu", journal="off", dtype="float32", **arguments)


def sweep(budgets: Sequence[int], sampling: str) -> list[Instance]:
    kwargs = {**SAMPLINGS[sampling], "until": [], "max_gen_toks": 120, "answer_token_budget": 12}
    found = []
    for number, text in enumerate(["Hello", "A longer question, of two parts?", "x"]):
        for budget in budgets:
            arguments = (text, {**kwargs, "thinking_token_budget": budget})
            found += [Instance("generate_until", {}, arguments, 0, metadata=(f"b{budget}", number, 2))] * 2
    return found


def outcome(lm: PrunedHFLM, requests: list[Instance]) -> dict[tuple[Any, ...], list[Any]]:
    texts = lm.generate_until(requests, disable_tqdm=True)
    found: dict[tuple[Any, ...], list[Any]] = {}
    for request, text in zip(requests, texts, strict=True):
        found.setdefault((request.task_name, request.doc_id), []).append((str(text), vars(text)))
    return found


@pytest.mark.parametrize("sampling", [pytest.param("greedy", marks=pytest.mark.long), "sampled"])
def test_sharing_batches_and_order_change_nothing(folder: Path, sampling: str) -> None:
    alone = model(folder, 3, share_traces=False)
    expected = {key: texts for budget in BUDGETS for key, texts in outcome(alone, sweep([budget], sampling)).items()}
    for batch_size in (1, 3, 16):
        together = sweep(BUDGETS, sampling)
        pairs = [together[start : start + 2] for start in range(0, len(together), 2)]
        random.Random(batch_size).shuffle(pairs)
        shuffled = [request for pair in pairs for request in pair]
        assert outcome(model(folder, batch_size), shuffled) == expected
    different = {text for texts in expected.values() for text, _ in texts}
    assert len(different) > len(BUDGETS)
