"""LaCo against plain implementations: tensors merged by hand, and the algorithm on whole copies of a model."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.calibration import calibration
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.merging import merged_weights
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.selection import choose
from lm_eval_ext.pruning.verification import quiet_transformers, tiny_config
from tests.checkpoints import LAYERS, write_checkpoint
from tests.contexts import MATRICES, texts_of


def merged_by_hand(state: dict[str, torch.Tensor], into: int, layers: list[int], variant: str) -> None:
    for name in [name for name in state if f"layers.{into}." in name and any(f".{one}." in name for one in MATRICES)]:
        own = state[name]
        others = [state[name.replace(f"layers.{into}.", f"layers.{layer}.")] for layer in layers]
        state[name] = others[-1] if variant == "reference_code" else own + sum(other - own for other in others)


@pytest.mark.parametrize("variant", ["rdsc", "reference_code"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_laco_merges_as_by_hand(kind: str, variant: str, tmp_path: Path) -> None:
    folder = write_checkpoint(kind, tmp_path)
    steps: list[tuple[int, list[int]]] = [(3, [4]), (1, [2, 3])]  # what was merged is merged again
    fields = {
        "base": str(folder),
        "drop": (2, 3, 4),
        "merge": [{"into": into, "layers": layers} for into, layers in steps],
        "variant": variant,
        "method": "laco",
        "source": "-",
    }
    recipe = Recipe.model_validate(fields)
    model = AutoModelForCausalLM.from_pretrained(folder)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for into, layers in steps:
        merged_by_hand(state, into, layers, variant)
    pruned = load_pruned(str(folder), model.config, [0, 1, 5], changes=recipe.changes).state_dict()
    for new, old in enumerate([0, 1, 5]):
        for name in [name for name in state if f"layers.{old}." in name]:
            found = pruned[name.replace(f"layers.{old}.", f"layers.{new}.")]
            torch.testing.assert_close(found, state[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["rdsc", "reference_code"])
def test_a_stream_of_tensors_is_merged_as_a_checkpoint_is(variant: str, tiny_model: Path) -> None:
    """A stream as vLLM's: in any order, and from a buffer that is used again."""
    fields = {
        "base": str(tiny_model), "drop": (2, 3, 4), "variant": variant, "method": "laco", "source": "-",
        "merge": [{"into": 3, "layers": [4]}, {"into": 1, "layers": [2, 3]}],
    }  # fmt: skip
    recipe = Recipe.model_validate(fields)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)

    def stream() -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in reversed(model.state_dict().items()):
            buffer = tensor.clone()
            yield name, buffer
            buffer.zero_()

    found = {name: tensor.clone() for name, tensor in merged_weights(stream(), [0, 1, 5], recipe.changes.merged)}
    expected = load_pruned(str(tiny_model), model.config, [0, 1, 5], changes=recipe.changes).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.mark.parametrize("variant", ["rdsc", "reference_code"])
def test_laco_keeps_what_stays_alike(variant: str, tiny: PruningContext) -> None:
    """The first merge that is kept, and its similarity, computed with copies of the whole model."""
    threshold = 0.2
    found = choose(tiny, "laco", [1], {"threshold": threshold, "merged": 2, "variant": variant})[1]
    last = LAYERS - 1 if variant == "rdsc" else LAYERS - 2  # the authors' program leaves the last layer alone
    same_answer = {into: after_one_merge(tiny, into, variant) for into in range(1, last)}
    first = max(into for into, found_alike in same_answer.items() if found_alike > threshold)
    assert [(step.into, step.layers) for step in found.merge] == [(first, (first + 1,))]
    for into in range(first, last):
        assert found.scores[into] == pytest.approx(same_answer[into], abs=1e-5)


def after_one_merge(tiny: PruningContext, into: int, variant: str) -> float:
    merged = copy.deepcopy(tiny.model)
    state = dict(merged.state_dict())
    merged_by_hand(state, into, [into + 1], variant)
    merged.load_state_dict(state)
    del merged.model.layers[into + 1]
    return similarity(merged, tiny)


Step = tuple[int, tuple[int, ...]]


def plain_laco(
    context: PruningContext, count: int, threshold: float, merged: int, variant: str
) -> tuple[list[Step], list[float | None]]:
    """Algorithm 1 of arXiv 2402.11187 with an interval of 1, a whole copy of the model for each try."""
    depth = context.depth
    model, left, place = copy.deepcopy(context.model), list(range(depth)), depth - merged
    steps: list[Step] = []
    scores: list[float | None] = [None] * depth
    while place >= 1 and len(left) > depth - count:
        run = left[place + 1 : place + merged][: len(left) - depth + count]
        tried = copy.deepcopy(model)
        state = dict(tried.state_dict())
        if run:
            merged_by_hand(state, place, [place + 1 + more for more in range(len(run))], variant)
            tried.load_state_dict(state)
            del tried.model.layers[place + 1 : place + 1 + len(run)]
        same_answer = similarity(tried, context) if run else -1.0
        if run and scores[left[place]] is None:
            scores[left[place]] = same_answer
        if same_answer > threshold:
            steps.append((left[place], tuple(run)))
            model, left = tried, [layer for layer in left if layer not in run]
            place = min(place - 1, len(left) - merged)
        else:
            place -= 1
    return steps, scores


def authors_laco(
    context: PruningContext, count: int, threshold: float, merged: int, interval: int
) -> tuple[list[Step], list[float | None]]:
    """The loop of the authors' notebook, on whole copies of the model, until as many layers are gone."""
    depth = context.depth
    model, left, place = copy.deepcopy(context.model), list(range(depth)), depth - 1 - merged
    steps: list[Step] = []
    scores: list[float | None] = [None] * depth
    while place >= 0 and len(left) > depth - count:
        run = left[place + 1 : place + merged][: len(left) - depth + count]
        tried = copy.deepcopy(model)
        if run:
            state = dict(tried.state_dict())
            merged_by_hand(state, place, [place + 1 + more for more in range(len(run))], "reference_code")
            tried.load_state_dict(state)
            del tried.model.layers[place + 1 : place + 1 + len(run)]
        same_answer = similarity(tried, context)
        if run and scores[left[place]] is None:
            scores[left[place]] = same_answer
        if same_answer > threshold:
            steps += [(left[place], tuple(run))] if run else []
            model, left = tried, [layer for layer in left if layer not in run]
            place -= interval
            if place >= len(left):
                place = len(left) - 1 - merged
        else:
            place -= 1
    return steps, scores


def similarity(model: Any, context: PruningContext) -> float:
    with torch.no_grad():
        pairs = [(model.model(ids, use_cache=False)[0], context.model.model(ids)[0]) for ids in texts_of(context)]
    return sum(float(cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs) / len(pairs)


@pytest.mark.long
def test_laco_on_a_real_model(batched: PruningContext) -> None:
    steps, scores = plain_laco(batched, 3, 0.3, 3, "rdsc")
    found = choose(batched, "laco", [3], {"threshold": 0.3, "merged": 3, "interval": 1})[3]
    assert [(step.into, step.layers) for step in found.merge] == steps
    assert list(found.scores) == [None if score is None else pytest.approx(score, abs=1e-5) for score in scores]


@pytest.mark.parametrize(("interval", "merged", "count"), [(1, 3, 3), (2, 2, 2), (3, 2, 2)])
def test_the_reference_code_is_followed_in_what_it_chooses(
    tiny: PruningContext, interval: int, merged: int, count: int
) -> None:
    check_against_the_authors(tiny, interval, merged, count)


@pytest.mark.long
@pytest.mark.parametrize(("interval", "merged", "count"), [(1, 3, 3), (2, 4, 8), (3, 2, 3)])
def test_the_reference_code_is_followed_on_a_real_model(
    batched: PruningContext, interval: int, merged: int, count: int
) -> None:
    check_against_the_authors(batched, interval, merged, count)


def check_against_the_authors(context: PruningContext, interval: int, merged: int, count: int) -> None:
    steps, scores = authors_laco(context, count, -1.0, merged, interval)
    parameters = {"threshold": -1.0, "merged": merged, "interval": interval, "variant": "reference_code"}
    found = choose(context, "laco", [count], parameters)[count]
    assert [(step.into, step.layers) for step in found.merge] == steps
    assert list(found.scores) == [None if score is None else pytest.approx(score, abs=1e-5) for score in scores]


def test_laco_refuses_to_merge_half_of_a_layer(tmp_path: Path) -> None:
    folder = tmp_path / "mla"
    with quiet_transformers():
        config = tiny_config(AutoConfig.for_model("deepseek_v3", num_hidden_layers=4, first_k_dense_replace=4))
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    context = PruningContext(str(folder), config, lambda: calibration("embedded", samples=1))
    with pytest.raises(ArchitectureError, match=r"cannot be merged: .*self_attn\.\w+\.weight is not"):
        choose(context, "laco", [1], {})
