"""Methods that drop one layer at a time, and those that choose attention and MLP blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_ext.pruning.context import PruningContext, ScoreCache
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.selection import choose
from tests.checkpoints import LAYERS


@pytest.mark.parametrize("method", ["shortgpt", "angular", "taylor"])
def test_layers_are_scored_anew_after_each(method: str, tiny: PruningContext) -> None:
    once, twice = (choose(tiny, method, [count], {"iterative": True})[count] for count in (1, 2))
    assert once.drop == choose(tiny, method, [1], {})[1].drop and set(once.drop) < set(twice.drop)
    kept = [layer for layer in range(LAYERS) if layer not in once.drop]
    model = load_pruned(tiny.pretrained, tiny.config, kept).eval().requires_grad_(False)
    short = replace(tiny, config=model.config, score_cache=ScoreCache())
    vars(short)["model"] = model
    fresh = choose(short, method, [1], {})[1]
    assert twice.drop == tuple(sorted((*once.drop, *(kept[layer] for layer in fresh.drop))))
    assert [twice.scores[layer] for layer in kept] == pytest.approx(list(fresh.scores), rel=1e-4)
    assert twice.scores[once.drop[0]] is None


def test_the_scores_of_blocks_are_their_definition(tiny: PruningContext) -> None:
    recipe = choose(tiny, "joint", [5], {})[5]
    sums, tokens = [[0.0] * LAYERS, [0.0] * LAYERS], 0
    model = AutoModelForCausalLM.from_pretrained(tiny.pretrained).eval().requires_grad_(False)
    cosine = torch.nn.functional.cosine_similarity
    for text in tiny.calibration.texts:
        ids = torch.tensor([tiny.tokenizer.encode(text)[: tiny.max_tokens]])
        states = model(ids, use_cache=False, output_hidden_states=True).hidden_states
        tokens += ids.shape[1]
        rotary = model.model.rotary_emb(states[0], torch.arange(ids.shape[1])[None])
        for number, layer in enumerate(model.model.layers):
            attention = layer.self_attn(layer.input_layernorm(states[number]), rotary, None)[0]
            between = states[number] + attention
            after = between + layer.mlp(layer.post_attention_layernorm(between))
            sums[0][number] += float(cosine(states[number], between, dim=-1).sum())
            sums[1][number] += float(cosine(between, after, dim=-1).sum())
    expected = [1 - total / tokens for some in sums for total in some]
    assert list(recipe.scores) == pytest.approx(expected, abs=1e-5)
    lowest_five = sorted(range(2 * LAYERS), key=expected.__getitem__)[:5]
    chosen = [*recipe.drop_attention, *(LAYERS + layer for layer in recipe.drop_mlp)]
    assert sorted(chosen) == sorted(lowest_five)


def test_sleb_keeps_the_first_and_the_last_layer(tiny: PruningContext) -> None:
    assert not {0, LAYERS - 1} & set(choose(tiny, "sleb", [3], {})[3].drop)
    free = choose(tiny, "sleb", [1], {"early_barrier": 0, "latter_barrier": 0})[1]
    assert all(score is not None for score in free.scores)
