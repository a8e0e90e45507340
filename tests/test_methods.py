"""Every method against a plain implementation of its own, written from the paper: one text at a time, whole tensors."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cosine_similarity, cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.pruning.calibration import Calibration, calibration
from lm_eval_ext.pruning.choosing import METHODS, WITHOUT_TEXTS, choose
from lm_eval_ext.pruning.layers import bypassed, decoder_layers
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.methods.angular import distances, last_token_states
from lm_eval_ext.pruning.methods.choice import lowest
from lm_eval_ext.pruning.methods.magnitude import magnitude
from lm_eval_ext.pruning.methods.shortgpt import block_influence
from lm_eval_ext.pruning.methods.taylor import influence
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.subject import Notebook, Subject
from tests.checkpoints import LAYERS, write_checkpoint
from tests.shared import SMOLLM2

TOKENS = 20
MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def subject_of(folder: Path, batch_size: int = 1, samples: int = 16, **options: Any) -> Subject:
    texts = calibration("embedded", samples)
    # Of different lengths, so that batches are padded.
    cut = Calibration("cut", tuple(text[: 60 + 17 * number] for number, text in enumerate(texts.texts)))
    return Subject(
        str(folder),
        AutoConfig.from_pretrained(folder),
        lambda: cut,
        batch_size=batch_size,
        max_tokens=TOKENS,
        **options,
    )


def needs_texts(method: str) -> bool:
    return method not in WITHOUT_TEXTS


@pytest.fixture(scope="module")
def smollm2() -> Subject:
    if not SMOLLM2.is_dir():
        pytest.skip(f"no model at {SMOLLM2} (make .models/smollm2/model.safetensors)")
    return subject_of(SMOLLM2)


@pytest.fixture(scope="module", params=[1, 4])
def batched(request: pytest.FixtureRequest, smollm2: Subject) -> Subject:
    again = subject_of(SMOLLM2, request.param)
    vars(again)["model"] = smollm2.model
    return again


def texts_of(subject: Subject) -> list[torch.Tensor]:
    return [torch.tensor([subject.tokenizer.encode(text)[:TOKENS]]) for text in subject.calibration.texts]


def states_of(model: Any, ids: torch.Tensor) -> list[torch.Tensor]:
    """What enters each layer, and what leaves the last, before the norm: each (length, width)."""
    before_norm: list[torch.Tensor] = []
    handle = model.model.norm.register_forward_pre_hook(lambda _, given: before_norm.append(given[0]))
    with torch.no_grad():
        states = list(model(ids, output_hidden_states=True).hidden_states[:-1])
    handle.remove()
    return [state[0] for state in (*states, before_norm[0])]


def close(one: list[float], other: list[float]) -> None:
    assert one == pytest.approx(other, abs=1e-5, rel=1e-5)


def test_block_influence(batched: Subject) -> None:
    found = [states_of(batched.model, ids) for ids in texts_of(batched)]
    plain = [
        1 - float(torch.cat([cosine_similarity(states[i], states[i + 1], dim=-1) for states in found]).mean())
        for i in range(30)
    ]
    close(block_influence(batched), plain)


@pytest.mark.parametrize("count", [1, 3])
def test_angular_distance(count: int, batched: Subject) -> None:
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
def test_magnitude(norm: str, plain: Callable[[torch.Tensor], torch.Tensor], smollm2: Subject) -> None:
    for layer in smollm2.model.model.layers[::7]:
        weights = [weight.double() for name, weight in layer.named_parameters() if name.split(".")[-2] in MATRICES]
        assert len(weights) == 7
        total = float(torch.stack([plain(weight) for weight in weights]).sum())
        assert magnitude(layer, norm) == pytest.approx(total if norm == "l1" else math.sqrt(total), rel=1e-5)


def loss_of(model: Any, texts: list[torch.Tensor]) -> torch.Tensor:
    losses = [cross_entropy(model(ids).logits[0, :-1], ids[0, 1:], reduction="none") for ids in texts]
    return torch.cat(losses).mean()


def test_taylor(batched: Subject) -> None:
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


def perplexity_of(subject: Subject, dropped: tuple[int, ...]) -> float:
    """By really loading the model without these layers."""
    kept = [layer for layer in range(subject.depth) if layer not in dropped]
    pruned = load_pruned(subject.pretrained, subject.config, kept, dtype=torch.float32)
    with torch.no_grad():
        return math.exp(float(loss_of(pruned, texts_of(subject))))


def test_perplexity_and_sleb(batched: Subject) -> None:
    few = [0, 5, 25, 29]
    recipes = choose(batched, "perplexity", [1, 2], {})
    scores = [score or 0.0 for score in recipes[1].scores]
    close([scores[layer] for layer in few], [perplexity_of(batched, (layer,)) for layer in few])
    best = scores.index(min(scores))
    assert recipes[1].drop == (best,)
    greedy = choose(batched, "sleb", [1, 2], {})
    assert greedy[1].drop == (best,)
    second = greedy[2].scores
    assert second[best] is None
    tried = [layer for layer in few if layer != best]
    close([second[layer] or 0.0 for layer in tried], [perplexity_of(batched, (best, layer)) for layer in tried])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_gives_no_nan_and_the_same_extremes(dtype: str, smollm2: Subject) -> None:
    few = subject_of(SMOLLM2, batch_size=4, samples=4)
    vars(few)["model"] = smollm2.model
    half = subject_of(SMOLLM2, batch_size=4, samples=4, dtype=dtype)
    for scored in (block_influence, influence):
        full, low = scored(few), scored(half)
        assert all(map(math.isfinite, low))
        assert low.index(min(low)) == full.index(min(full)) and low.index(max(low)) == full.index(max(full))


# Small random models ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Subject:
    return subject_of(tiny_model, batch_size=3, samples=4)


def test_methods_that_need_no_texts_look_at_none(tiny_model: Path) -> None:
    def none() -> Calibration:
        raise AssertionError("calibration was loaded")

    for method in WITHOUT_TEXTS:
        subject = Subject(str(tiny_model), AutoConfig.from_pretrained(tiny_model), none)
        parameters = {"layers": "1-2"} if method == "selection" else {}
        assert len(choose(subject, method, [2], parameters)[2].drop) == 2


@pytest.mark.parametrize("method", sorted(METHODS))
def test_recipes_for_several_depths(method: str, tiny: Subject) -> None:
    given: dict[str, dict[str, Any]] = {
        "selection": {"layers": [1, 2, 3]},
        "laco": {"threshold": -1.0, "merged": 2, "interval": 1},
    }
    recipes = choose(tiny, method, [1, 2, 3], given.get(method, {}))
    assert [len(recipes[count].drop) for count in (1, 2, 3)] == [1, 2, 3]
    assert recipes[2].method == method and recipes[2].versions.keys() == {"lm-eval-tts", "torch", "transformers"}
    assert (recipes[2].calibration is not None) == needs_texts(method)
    assert bool(recipes[2].scores) == (method not in ("random", "reverse", "selection"))


def test_reverse_random_and_selection(tiny: Subject) -> None:
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


@pytest.mark.parametrize(
    ("method", "remove", "parameters", "message"),
    [
        ("shortgtp", [1], {}, "not known; known: angular, laco"),
        ("reverse", [0], {}, "1 to 5 can be removed"),
        ("reverse", [LAYERS], {}, "1 to 5 can be removed"),
        ("reverse", [], {}, "1 to 5 can be removed"),
        ("random", [1], {"sed": 1}, "'sed' is not known; known: seed"),
        ("random", [1], {"seed": "x"}, "random: seed='x'"),
        ("magnitude", [1], {"norm": "l3"}, "'l1' or 'l2'"),
        ("selection", [1], {}, "'layers' is missing"),
        ("selection", [3], {"layers": "1-2"}, "names 2"),
        ("selection", [1], {"layers": "9"}, "layer 9 does not exist"),
        ("laco", [2], {"threshold": 2.0}, "only 0 of 2 layers can be merged away"),
        ("laco", [1], {"merged": 1}, "at least 2"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(
    method: str, remove: list[int], parameters: dict[str, Any], message: str, tiny: Subject
) -> None:
    with pytest.raises(ArgumentError) as caught:
        choose(tiny, method, remove, parameters)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_bypassed_layer_is_as_good_as_none(tiny: Subject) -> None:
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


def test_scores_that_are_no_numbers_choose_nothing() -> None:
    with pytest.raises(ArchitectureError, match="the score of layer 1 is nan"):
        lowest([0.5, float("nan"), 0.1], [1])


def test_weights_that_are_elsewhere_are_not_scored(tiny_model: Path) -> None:
    offloaded = subject_of(tiny_model, samples=2)
    vars(offloaded)["model"] = cpu_offload(AutoModelForCausalLM.from_pretrained(tiny_model))
    for method in ("magnitude", "taylor", "laco"):
        with pytest.raises(ArchitectureError, match="offloaded"):
            choose(offloaded, method, [1], {})
    assert choose(offloaded, "shortgpt", [1], {}) == choose(subject_of(tiny_model, samples=2), "shortgpt", [1], {})


def test_texts_of_a_single_token_are_one_line(tiny_model: Path) -> None:
    short = Subject(
        str(tiny_model), AutoConfig.from_pretrained(tiny_model), lambda: Calibration("short", ("",)), max_tokens=8
    )
    with pytest.raises(ArgumentError, match="none of 1 texts has two tokens"):
        choose(short, "shortgpt", [1], {})


def test_what_took_long_is_not_done_again(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"

    def values() -> Iterator[float]:
        yield 0.5

    assert Notebook(path).value("a", values().__next__) == 0.5
    path.write_text(path.read_text("utf-8") + '\n["b", 0.', "utf-8")  # killed while it wrote
    again = Notebook(path)
    assert again.value("a", lambda: 1.0) == 0.5 and again.value("b", lambda: 2.0) == 2.0
    assert Notebook(path).value("b", lambda: 3.0) == 2.0


# LaCo -------------------------------------------------------------------------------------------------------


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
    pruned = load_pruned(str(folder), model.config, [0, 1, 5], merged=recipe.merged).state_dict()
    for new, old in enumerate([0, 1, 5]):
        for name in [name for name in state if f"layers.{old}." in name]:
            found = pruned[name.replace(f"layers.{old}.", f"layers.{new}.")]
            torch.testing.assert_close(found, state[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["rdsc", "reference_code"])
def test_laco_keeps_what_stays_alike(variant: str, tiny: Subject) -> None:
    """The first merge that is kept, and its similarity, computed with copies of the whole model."""
    threshold = 0.2
    found = choose(tiny, "laco", [1], {"threshold": threshold, "merged": 2, "variant": variant})[1]
    similarity = {into: _similarity(tiny, into, variant) for into in range(1, LAYERS - 1)}
    first = max(into for into, alike in similarity.items() if alike > threshold)
    assert [(step.into, step.layers) for step in found.merge] == [(first, (first + 1,))]
    for into in range(first, LAYERS - 1):
        assert found.scores[into] == pytest.approx(similarity[into], abs=1e-5)


def _similarity(tiny: Subject, into: int, variant: str) -> float:
    merged = copy.deepcopy(tiny.model)
    state = dict(merged.state_dict())
    merged_by_hand(state, into, [into + 1], variant)
    merged.load_state_dict(state)
    del merged.model.layers[into + 1]
    with torch.no_grad():
        pairs = [(merged.model(ids, use_cache=False)[0], tiny.model.model(ids)[0]) for ids in texts_of(tiny)]
    return sum(float(cosine_similarity(a.flatten(), b.flatten(), dim=0)) for a, b in pairs) / len(pairs)
