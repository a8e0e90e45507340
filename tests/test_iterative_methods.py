"""Methods that drop one layer at a time, and those that choose attention and MLP blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.context import PruningContext, ScoreCache
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.selection import choose
from tests.checkpoints import LAYERS
from tests.contexts import twin_of


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


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize(
    ("kind", "fields"),
    [("gemma2", {}), ("olmo2", {}), ("granite", {"residual_multiplier": 0.3}), ("llama4_text", {})],
)
def test_the_scores_of_blocks_behind_a_norm_or_a_factor(kind: str, fields: dict[str, Any], batch_size: int) -> None:
    """Between the blocks, the residual stream is what leaves the layer if its feed-forward network returns zeros."""
    with twin_of(kind, batch_size, num_hidden_layers=3, **fields) as context:
        scores = choose(context, "joint", [1], {})[1].scores
        texts = [torch.tensor([row.ids]) for row in vars(context)["_rows"]]
        plain: list[list[float]] = [[], []]
        for layer in context.layers:
            before, after = around(context.model, layer, texts)
            weights = [weight for name, weight in layer.named_parameters() if "down_proj" in name]
            saved = [weight.clone() for weight in weights]
            for weight in weights:
                weight.zero_()
            _, between = around(context.model, layer, texts)
            for weight, old in zip(weights, saved, strict=True):
                weight.copy_(old)
            for some, pair in zip(plain, [(before, between), (between, after)], strict=True):
                some.append(1 - float(torch.nn.functional.cosine_similarity(*pair, dim=-1).mean()))
    assert list(scores) == pytest.approx([*plain[0], *plain[1]], abs=1e-5)


def around(model: Any, layer: torch.nn.Module, texts: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs and outputs of a layer, of all tokens."""
    found: list[tuple[torch.Tensor, torch.Tensor]] = []
    hook = layer.register_forward_hook(
        lambda _, positional, output: found.append(
            (positional[0][0], (output[0] if isinstance(output, tuple) else output)[0])
        )
    )
    for ids in texts:
        model(input_ids=ids, use_cache=False)
    hook.remove()
    before, after = zip(*found, strict=True)
    return torch.cat(before), torch.cat(after)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("xlnet", "no part of its layers is known as attention"),
        ("minimax", "layer 0 does not pass its input on if its blocks add zeros"),
        ("deepseek_v4", "layer 0 does not pass its input on if its blocks add zeros"),
    ],
)
def test_blocks_that_cannot_be_left_out_are_not_scored(kind: str, message: str) -> None:
    with twin_of(kind, num_hidden_layers=3) as context, pytest.raises(ArchitectureError, match=message):
        choose(context, "attention", [1], {})


def test_more_blocks_than_there_are_cannot_be_chosen() -> None:
    """Other layers of Qwen3-Next have linear attention, which is no known block."""
    with (
        twin_of("qwen3_next", num_hidden_layers=4) as context,
        pytest.raises(ArgumentError, match="remove=3: only 1 parts of the layers are known as attention"),
    ):
        choose(context, "attention", [3], {})


def test_sleb_keeps_the_first_and_the_last_layer(tiny: PruningContext) -> None:
    assert not {0, LAYERS - 1} & set(choose(tiny, "sleb", [3], {})[3].drop)
    free = choose(tiny, "sleb", [1], {"early_barrier": 0, "latter_barrier": 0})[1]
    assert all(score is not None for score in free.scores)
