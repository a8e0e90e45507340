"""Every method against a plain implementation of its own, written from the paper: one text at a time, whole tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.calibration import Calibration, TokenRow, token_batches
from lm_eval_ext.pruning.context import PruningContext, ScoreCache
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.methods.perplexity import influence
from lm_eval_ext.pruning.methods.removal import lowest
from lm_eval_ext.pruning.methods.similarity import block_influence, distances, last_token_states
from lm_eval_ext.pruning.methods.without_texts import magnitude
from lm_eval_ext.pruning.selection import METHODS, choose
from tests.checkpoints import LAYERS
from tests.contexts import MATRICES, context_of, texts_of, twin_of
from tests.shared import case_table, one_line

OF_LAYERS = [name for name, method in METHODS.items() if not (method.experts or method.weights)]


def states_of(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """What enters each layer that runs, and what leaves the last, before the norm: each (length, width)."""
    before_norm: list[torch.Tensor] = []
    norm = getattr(model.model, "language_model", model.model).norm
    handle = norm.register_forward_pre_hook(lambda _, given: before_norm.append(given[0]))
    with torch.no_grad():
        states = list(model(ids, output_hidden_states=True).hidden_states[:-1])
    handle.remove()
    return [state[0] for state in (*states, before_norm[0])]


def close(one: Sequence[float | None], other: Sequence[float | None]) -> None:
    assert list(one) == [None if value is None else pytest.approx(value, abs=1e-5, rel=1e-5) for value in other]


def test_block_influence(batched: PruningContext) -> None:
    found = [states_of(batched.model, ids) for ids in texts_of(batched)]
    plain = [
        1 - float(torch.cat([cosine_similarity(states[i], states[i + 1], dim=-1) for states in found]).mean())
        for i in range(30)
    ]
    close(block_influence(batched), plain)


@pytest.mark.parametrize("count", [1, 3])
def test_angular_distance(count: int, batched: PruningContext) -> None:
    found = [states_of(batched.model, ids) for ids in texts_of(batched)]
    plain = [
        sum(
            math.acos(min(1.0, float(cosine_similarity(states[i][-1], states[i + count][-1], dim=0)))) / math.pi
            for states in found
        )
        / len(found)
        for i in range(31 - count)
    ]
    close(distances(last_token_states(batched), count), plain)
    block = choose(batched, "angular", [count], {})[count].drop
    assert block == tuple(range(plain.index(min(plain)), plain.index(min(plain)) + count))


@pytest.mark.parametrize(("norm", "plain"), [("l1", lambda w: w.abs().sum()), ("l2", lambda w: (w**2).sum())])
def test_magnitude(norm: str, plain: Callable[[torch.Tensor], torch.Tensor], smollm2: PruningContext) -> None:
    for layer in smollm2.model.model.layers:
        weights = [weight.double() for name, weight in layer.named_parameters() if name.split(".")[-2] in MATRICES]
        assert len(weights) == 7
        total = float(torch.stack([plain(weight) for weight in weights]).sum())
        assert magnitude(layer, norm) == pytest.approx(total if norm == "l1" else math.sqrt(total), rel=1e-5)


def loss_of(model: Callable[[torch.Tensor], Any], texts: list[torch.Tensor]) -> torch.Tensor:
    losses = [cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none") for ids in texts]
    return torch.cat(losses).mean()


@pytest.mark.long
def test_taylor(batched: PruningContext) -> None:
    whole = copy.deepcopy(batched.model).requires_grad_(True)
    torch.autograd.backward(loss_of(whole, texts_of(batched)))
    plain = [
        sum(
            float((weight * weight.grad).abs().sum())
            for name, weight in layer.named_parameters()
            if name.split(".")[-2] in MATRICES
        )
        for layer in whole.model.layers
    ]
    assert influence(batched) == pytest.approx(plain, rel=1e-5)
    assert not any(weight.requires_grad or weight.grad is not None for weight in batched.model.parameters())


def perplexity_of(context: PruningContext, dropped: set[int]) -> float:
    fewer = copy.copy(context.model)
    fewer._modules = {**fewer._modules, "model": copy.copy(context.model.model)}
    layers = [layer for number, layer in enumerate(context.model.model.layers) if number not in dropped]
    fewer.model._modules = {**fewer.model._modules, "layers": torch.nn.ModuleList(layers)}
    with torch.no_grad():
        return math.exp(float(loss_of(lambda ids: fewer(ids, use_cache=False), texts_of(context))))


@pytest.mark.long
def test_perplexity_and_sleb(batched: PruningContext) -> None:
    check_perplexity_and_sleb(batched)


def test_perplexity_and_sleb_on_a_small_model(tiny: PruningContext) -> None:
    check_perplexity_and_sleb(tiny)


def check_perplexity_and_sleb(context: PruningContext) -> None:
    """Each score is the perplexity of a model that really has neither that layer nor those dropped before."""

    def perplexities(*dropped: int) -> list[float | None]:
        layers = range(context.depth)
        return [None if layer in dropped else perplexity_of(context, {*dropped, layer}) for layer in layers]

    one_shot = choose(context, "perplexity", [1, 2], {})
    greedy = choose(context, "sleb", [1, 2], {"early_barrier": 0, "latter_barrier": 0})
    scores = one_shot[2].scores
    close(scores, perplexities())
    order = sorted(range(context.depth), key=lambda layer: scores[layer] or 0.0)
    assert one_shot[1].drop == greedy[1].drop == (order[0],) and set(one_shot[2].drop) == set(order[:2])
    assert greedy[1].scores == scores
    second = greedy[2].scores
    close(second, perplexities(order[0]))
    _, best = min((score, layer) for layer, score in enumerate(second) if score is not None)
    assert greedy[2].drop == tuple(sorted((order[0], best)))


def test_a_model_without_a_layer_is_one_that_never_loaded_it(smollm2: PruningContext) -> None:
    pruned = load_pruned(smollm2.pretrained, smollm2.config, [*range(7), *range(8, 30)], dtype=torch.float32)
    with torch.no_grad():
        assert math.exp(float(loss_of(pruned, texts_of(smollm2)))) == pytest.approx(perplexity_of(smollm2, {7}))


SCORED = ("angular", "laco", "magnitude", "perplexity", "shortgpt", "sleb", "taylor")


@pytest.fixture(scope="module")
def in_float32(smollm2: PruningContext) -> dict[str, tuple[float | None, ...]]:
    few = context_of(SMOLLM2, batch_size=4, samples=4)
    vars(few)["model"] = smollm2.model
    return scores_of(few)


def scores_of(context: PruningContext) -> dict[str, tuple[float | None, ...]]:
    parameters = {"laco": {"threshold": 0.3, "merged": 2}}
    return {method: choose(context, method, [1], parameters.get(method, {}))[1].scores for method in SCORED}


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_no_nan_and_the_same_extremes(
    dtype: str, in_float32: dict[str, tuple[float | None, ...]], smollm2: PruningContext
) -> None:
    for method, low in scores_of(context_of(SMOLLM2, batch_size=4, samples=4, dtype=dtype)).items():
        full = in_float32[method]
        assert [score is None for score in low] == [score is None for score in full], method
        known = [layer for layer, score in enumerate(full) if score is not None]
        assert all(math.isfinite(low[layer] or 0.0) for layer in known), method
        for extreme in (min, max):
            assert extreme(known, key=lambda at: low[at] or 0.0) == extreme(known, key=lambda at: full[at] or 0.0), (
                method
            )


# Small random models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 9])
@pytest.mark.parametrize(
    ("kind", "by_token"),
    [("deepseek_v4", lambda state: state[0].flatten(1)), ("xlnet", lambda state: state[:, 0])],
)
def test_states_of_other_shapes(kind: str, by_token: Callable[[Any], torch.Tensor], batch_size: int) -> None:
    """DeepSeek-V4 has several streams for each token, which are one state; in XLNet, the tokens come first."""
    with twin_of(kind, batch_size, num_hidden_layers=4) as context:
        vars(context)["_rows"] = [TokenRow(list(range(5, 14 - number % 3)), 1) for number in range(9)]
        found: list[list[torch.Tensor]] = [[] for _ in range(5)]
        for ids, _ in token_batches(vars(context)["_rows"], 1):
            with ExitStack() as hooks, torch.no_grad():
                for number, layer in enumerate(context.layers):
                    hooks.callback(layer.register_forward_pre_hook(keeping(found[number], by_token)).remove)
                last = context.layers[-1].register_forward_hook(
                    lambda _, __, output: found[4].append(by_token(output[0] if kind == "xlnet" else output))
                )
                hooks.callback(last.remove)
                context.model(ids, use_cache=False)
        influences, angles = block_influence(context), distances(last_token_states(context), 1)
    pairs = [list(zip(before, after, strict=True)) for before, after in pairwise(found)]
    plain = [1 - float(torch.cat([cosine_similarity(*pair, dim=-1) for pair in some]).mean()) for some in pairs]
    close(influences, plain)
    acos = [[math.acos(float(cosine_similarity(one[-1], other[-1], dim=0))) for one, other in some] for some in pairs]
    close(angles, [sum(some) / len(some) / math.pi for some in acos])


def keeping(found: list[torch.Tensor], by_token: Callable[[Any], torch.Tensor]) -> Callable[..., None]:
    return lambda _, positional: found.append(by_token(positional[0]))


@pytest.mark.parametrize(
    ("kind", "fields"), [("cpmant", {"num_hidden_layers": 3}), ("prophetnet", {"num_encoder_layers": 1})]
)
def test_states_of_tokens_that_are_not_known_are_not_compared(kind: str, fields: dict[str, Any]) -> None:
    """Texts of models that take no padding are given one at a time, so that a batch gives the same scores."""
    scores = []
    for batch_size in (1, 2):
        with twin_of(kind, batch_size, **fields) as context:
            for method in ("shortgpt", "angular"):
                with pytest.raises(ArchitectureError, match="not known which state belongs to which token"):
                    choose(context, method, [1], {})
            scores.append(choose(context, "taylor", [1], {})[1].scores)
    assert scores[0] == scores[1]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_layer_that_is_skipped_changes_nothing(batch_size: int) -> None:
    """As mllama skips its cross-attention layers where there is no image."""
    text = {"num_hidden_layers": 5, "cross_attention_layers": [1, 4]}
    with twin_of("mllama", batch_size, text_config=text) as context:
        found = [states_of(context.model, ids) for ids, _ in token_batches(vars(context)["_rows"], 1)]
        influences, angles = block_influence(context), distances(last_token_states(context), 1)
    run = [0, 2, 3]
    states = [torch.cat([states[i] for states in found]) for i in range(4)]
    last = [torch.stack([states[i][-1] for states in found]) for i in range(4)]
    plain = [1 - float(cosine_similarity(states[i], states[i + 1], dim=-1).mean()) for i in range(3)]
    plain_angles = [float(cosine_similarity(last[i], last[i + 1], dim=-1).acos().mean()) / math.pi for i in range(3)]
    assert influences == pytest.approx([plain[run.index(i)] if i in run else 0 for i in range(5)], abs=1e-6)
    assert angles == pytest.approx([plain_angles[run.index(i)] if i in run else 0 for i in range(5)], abs=1e-6)


def test_methods_that_need_no_texts_look_at_none(tiny_model: Path) -> None:
    def none() -> Calibration:
        raise AssertionError("calibration was loaded")

    for method in (one for one in OF_LAYERS if not METHODS[one].needs_texts):
        context = PruningContext(str(tiny_model), AutoConfig.from_pretrained(tiny_model), none)
        parameters = {"layers": "1-2"} if method == "selection" else {}
        assert len(choose(context, method, [2], parameters)[2].drop) == 2


@pytest.mark.parametrize("method", sorted({*OF_LAYERS} - {"trace"}))  # that one wants replies: tests/test_traces.py
def test_recipes_for_several_depths(method: str, tiny: PruningContext) -> None:
    given: dict[str, dict[str, Any]] = {
        "selection": {"layers": [1, 2, 3]},
        "laco": {"threshold": -1.0, "merged": 2, "interval": 1},
    }
    recipes = choose(tiny, method, [1, 2, 3], given.get(method, {}))
    found = [(*one.drop, *one.drop_attention, *one.drop_mlp) for one in (recipes[count] for count in (1, 2, 3))]
    assert [len(one) for one in found] == [1, 2, 3]
    assert method not in ("attention", "mlp", "joint") or not recipes[2].drop
    assert recipes[2].method == method and recipes[2].versions.keys() == {"lm-eval-tts", "torch", "transformers"}
    assert (recipes[2].calibration is not None) == METHODS[method].needs_texts
    assert bool(recipes[2].scores) == (method not in ("random", "reverse", "selection"))


def test_reverse_random_and_selection(tiny: PruningContext) -> None:
    assert choose(tiny, "reverse", [2], {})[2].drop == (4, 5)
    assert choose(tiny, "selection", [3], {"layers": "0+2-3"})[3].drop == (0, 2, 3)
    first, again = (choose(tiny, "random", [1, 3], {"seed": 4}) for _ in range(2))
    assert first == again and set(first[1].drop) < set(first[3].drop)
    assert len({choose(tiny, "random", [2], {"seed": seed})[2].drop for seed in range(9)}) > 3


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=40))
def test_the_lowest_go_first(scores: list[float]) -> None:
    for count, removal in lowest(scores, range(1, len(scores))).items():
        assert len(removal.drop) == count
        assert max(scores[layer] for layer in removal.drop) <= min(
            score for layer, score in enumerate(scores) if layer not in removal.drop
        )


@pytest.mark.parametrize(("method", "remove", "parameters", "message"), case_table("wrong_arguments.yaml")["methods"])
def test_what_cannot_be_chosen_is_one_line(
    method: str, remove: list[int], parameters: dict[str, Any], message: str, tiny: PruningContext
) -> None:
    with one_line(ArgumentError, message):
        choose(tiny, method, remove, parameters)


def test_a_bypassed_layer_is_as_good_as_none(tiny: PruningContext) -> None:
    ids = texts_of(tiny)[0]
    pruned = load_pruned(tiny.pretrained, tiny.config, [0, 2, 3, 5])
    with torch.no_grad(), bypassed(decoder_layers(tiny.model), [1, 4]):
        without = tiny.model(ids, use_cache=False).logits
    assert torch.equal(without, pruned(ids, use_cache=False).logits)
    assert not tiny.layers[1]._forward_hooks


def test_layers_that_return_more_than_their_output_are_bypassed_too(tmp_path: Path) -> None:
    config = AutoConfig.for_model("falcon", vocab_size=96, hidden_size=32, num_hidden_layers=3, num_attention_heads=4)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(3, 12).repeat(2, 1)
    with torch.no_grad():
        with bypassed(decoder_layers(model), [1]):
            without = model(ids, use_cache=False).logits
        del model.transformer.h[1]
        assert torch.equal(without, model(ids, use_cache=False).logits)


@pytest.mark.parametrize("method", [method for method in OF_LAYERS if method not in ("selection", "trace")])
def test_layers_behind_a_barrier_are_kept(method: str, tiny: PruningContext) -> None:
    loose: dict[str, object] = {"threshold": -1.0, "merged": 2, "interval": 1} if method == "laco" else {}
    barriers: dict[str, object] = {"early_barrier": 2, "latter_barrier": 1}
    for count, recipe in choose(tiny, method, [1, 2], loose | barriers).items():
        gone = [*recipe.drop, *recipe.drop_attention, *recipe.drop_mlp]
        assert len(gone) == count and set(gone) <= {2, 3, 4}
        assert {merge.into for merge in recipe.merge} <= {2, 3}
        assert recipe.parameters.items() >= barriers.items()
    assert "early_barrier" not in choose(tiny, "reverse", [1], {})[1].parameters


@pytest.mark.parametrize(
    ("method", "parameters", "words"),
    [
        ("reverse", {"early_barrier": 4, "latter_barrier": 1}, "leave 2 layers to remove; the model has 6 layers"),
        ("shortgpt", {"early_barrier": -1}, "early_barrier=-1, latter_barrier=0: give numbers of layers"),
        ("random", {"latter_barrier": "two"}, "latter_barrier='two': give numbers of layers"),
        ("selection", {"layers": "0-1", "early_barrier": 1}, "layer 0 is to be removed, which a barrier keeps"),
    ],
)
def test_barriers_that_cannot_be_are_one_line(
    method: str, parameters: dict[str, object], words: str, tiny: PruningContext
) -> None:
    with pytest.raises(ArgumentError, match=words):
        choose(tiny, method, [2], parameters)


# What no method can score is refused in one line ----------------------------------------------------------------------


def test_scores_that_are_no_numbers_choose_nothing() -> None:
    with pytest.raises(ArchitectureError, match="the score of layer 1 is nan"):
        lowest([0.5, float("nan"), 0.1], [1])


def test_a_loss_that_is_no_number_chooses_nothing(tiny_model: Path) -> None:
    broken = context_of(tiny_model, samples=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.lm_head.weight.data = torch.full_like(model.lm_head.weight, float("nan"))
    vars(broken)["model"] = model
    for method in ("perplexity", "taylor"):
        with pytest.raises(ArchitectureError, match=r"the model's loss is nan in torch.float32; try dtype=bfloat16"):
            choose(broken, method, [1], {})


def test_layers_of_an_unknown_name_are_not_scored(tiny_model: Path) -> None:
    renamed = context_of(tiny_model, samples=2)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    model.model.storeys = model.model.layers
    del model.model.layers
    vars(renamed)["model"] = model
    with pytest.raises(ArchitectureError, match=r"no list of 6 decoder layers in LlamaForCausalLM; .*tensor_names"):
        choose(renamed, "magnitude", [1], {})


def test_weights_that_are_elsewhere_are_not_scored(tiny_model: Path) -> None:
    offloaded = context_of(tiny_model, samples=2)
    vars(offloaded)["model"] = cpu_offload(AutoModelForCausalLM.from_pretrained(tiny_model))
    for method in ("magnitude", "taylor", "laco"):
        with pytest.raises(ArchitectureError, match="offloaded"):
            choose(offloaded, method, [1], {})
    assert choose(offloaded, "shortgpt", [1], {}) == choose(context_of(tiny_model, samples=2), "shortgpt", [1], {})


def test_texts_of_a_single_token_are_one_line(tiny_model: Path) -> None:
    short = PruningContext(
        str(tiny_model), AutoConfig.from_pretrained(tiny_model), lambda: Calibration("short", ("",)), max_tokens=8
    )
    with pytest.raises(ArgumentError, match="none of the 1 texts has at least two tokens"):
        choose(short, "shortgpt", [1], {})


def test_what_took_long_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"

    def values() -> Iterator[float]:
        yield 0.5

    assert ScoreCache(path).value("a", values().__next__) == 0.5
    path.write_text(path.read_text("utf-8") + '\n["b", 0.', "utf-8")  # killed while it wrote
    again = ScoreCache(path)
    assert again.value("a", lambda: 1.0) == 0.5 and again.value("b", lambda: 2.0) == 2.0
    assert ScoreCache(path).value("b", lambda: 3.0) == 2.0
    path.write_bytes(path.read_bytes() + b"\n\xd6\xff\n" + b"[" * 100_000)  # damaged
    assert [ScoreCache(path).value(key, lambda: 4.0) for key in "abc"] == [0.5, 2.0, 4.0]


def test_scores_that_cannot_be_kept_are_computed_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ScoreCache(tmp_path / "file" / "scores.jsonl")
    assert [cache.value(key, lambda: 0.5) for key in "ab"] == [0.5, 0.5]


# Methods that drop one layer at a time, and those that choose attention and MLP blocks --------------------------------


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
