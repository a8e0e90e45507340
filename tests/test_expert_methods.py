"""The scores by which experts are chosen equal those of plain implementations, token by token."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from transformers import AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.calibration import Calibration, Exchange
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.layers import loss_sum
from lm_eval_ext.pruning.methods import expert_scores
from lm_eval_ext.pruning.methods.expert_scores import lowest_experts
from lm_eval_ext.pruning.selection import METHODS, choose
from tests.checkpoints import LAYERS
from tests.contexts import context_of
from tests.shared import case_table
from tests.test_experts import checkpoint
from tests.tokenizers import TEMPLATE, byte_tokenizer

Chosen = list[tuple[int, float, torch.Tensor]]  # expert, its gate and its output, of each choice of each token


def of_kind(kind: str, folder: Path, **extra: Any) -> PruningContext:
    path = checkpoint(kind, folder, vocab_size=300, **extra)
    byte_tokenizer(TEMPLATE).save_pretrained(path)
    return context_of(path, batch_size=3, samples=4, dtype="float32")


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> PruningContext:
    return of_kind("qwen3_moe", tmp_path_factory.mktemp("moe"))


def scores(context: PruningContext, method: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Any:
    """What a method scores, by layer."""
    found: list[Any] = []

    def kept(context: PruningContext, remove: Any, scores: Any, *, uneven: bool) -> Any:
        found.append(scores)
        return lowest_experts(context, remove, scores, uneven=uneven)

    monkeypatch.setattr(expert_scores, "lowest_experts", kept)
    choose(context, method, [1], given)
    return found[0]


def plainly(context: PruningContext) -> dict[int, Chosen]:
    """What every expert does for every token, one text and one token at a time, from the weights alone."""
    layers: Any = context.layers
    model, found = context.model, dict[int, Chosen]()
    inputs: dict[int, torch.Tensor] = {}
    hooks = [
        layer.mlp.register_forward_pre_hook(lambda _, given, number=number: inputs.__setitem__(number, given[0]))
        for number, layer in enumerate(layers)
    ]
    for row in context._rows:
        with torch.no_grad():
            model(input_ids=torch.tensor([row.ids]))
        for number, layer in enumerate(layers):
            for token in inputs[number][0]:
                probabilities = torch.softmax(layer.mlp.gate.weight.double() @ token.double(), 0)
                best = probabilities.topk(model.config.num_experts_per_tok)
                gates = best.values / best.values.sum() if model.config.norm_topk_prob else best.values
                for gate, expert in zip(gates.tolist(), best.indices.tolist(), strict=True):
                    both = layer.mlp.experts.gate_up_proj[expert].double() @ token.double()
                    half = len(both) // 2
                    inner = torch.nn.functional.silu(both[:half]) * both[half:]
                    output = layer.mlp.experts.down_proj[expert].double() @ inner
                    found.setdefault(number, []).append((expert, gate, output))
    for hook in hooks:
        hook.remove()
    return found


PLAIN: dict[str, Callable[[Chosen, int], float]] = {
    "reap": lambda some, tokens: sum(gate * float(out.norm()) for _, gate, out in some) / max(1, len(some)),
    "ean": lambda some, tokens: sum(float(out.norm()) for _, _, out in some),
    "man": lambda some, tokens: sum(float(out.norm()) for _, _, out in some) / max(1, len(some)),
    "frequency": lambda some, tokens: len(some),
    "weighted-ean": lambda some, tokens: sum(gate * float(out.norm()) for _, gate, out in some),
    "expert-drop": lambda some, tokens: sum(gate for _, gate, _ in some),
}  # fmt: skip


@pytest.mark.parametrize("method", PLAIN)
def test_scores_are_those_of_a_plain_implementation(
    context: PruningContext, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = scores(context, method, monkeypatch)
    chosen = plainly(context)
    for layer in range(LAYERS):
        for expert in range(8):
            some = [one for one in chosen[layer] if one[0] == expert]
            expected = PLAIN[method](some, len(chosen[layer]))
            assert found[layer][expert] == pytest.approx(expected, rel=1e-4, abs=1e-5), (layer, expert)


@pytest.mark.parametrize("method", [*PLAIN, "aimer", "fisher-experts"])
def test_offloaded_layers_are_scored_as_those_in_memory(
    with_replies: PruningContext, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a model is larger than its GPU: accelerate brings layers one by one."""
    expected = scores(with_replies, method, monkeypatch)
    elsewhere = offloaded(with_replies)
    for layer, found in scores(elsewhere, method, monkeypatch).items():
        assert found == pytest.approx(expected[layer], rel=1e-5)
    assert all(weight.device.type == "meta" for weight in elsewhere.model.parameters()), "they are gone again"


def test_offloaded_routers_are_not_masked(with_replies: PruningContext) -> None:
    with pytest.raises(ArchitectureError, match="some are offloaded"):
        choose(offloaded(with_replies), "trace-experts", [1], {})


def offloaded(context: PruningContext) -> PruningContext:
    path = Path(context.pretrained)
    elsewhere = context_of(path, batch_size=3, samples=4, dtype="float32")
    elsewhere.calibration_texts = context.calibration_texts
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval().requires_grad_(False)
    vars(elsewhere)["model"] = cpu_offload(model)
    return elsewhere


@pytest.fixture(scope="module")
def with_replies(tmp_path_factory: pytest.TempPathFactory) -> PruningContext:
    context = of_kind("qwen3_moe", tmp_path_factory.mktemp("moe"))
    texts = tuple(Exchange(f"what is {n}+{n * 3}", f"it is {n * 4} of course", "") for n in range(5))
    context.calibration_texts = lambda: Calibration("run", texts)
    return context


def test_traces_without_an_expert(with_replies: PruningContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the whole model, in which a router's row of the expert gives a logit that never wins."""
    found = scores(with_replies, "trace-experts", monkeypatch)
    layers: Any = with_replies.layers
    model = with_replies.model
    for layer, expert in ((0, 3), (5, 0)):
        gate = layers[layer].mlp.gate
        calls = gate.forward

        def without(hidden: Any, gate: Any = gate, expert: int = expert) -> Any:
            logits = torch.nn.functional.linear(hidden.reshape(-1, gate.weight.shape[1]), gate.weight)
            logits[:, expert] = -torch.inf
            best = torch.softmax(logits.float(), -1).topk(model.config.num_experts_per_tok)
            weights = best.values / best.values.sum(-1, keepdim=True) if model.config.norm_topk_prob else best.values
            return logits, weights, best.indices

        gate.forward = without
        sums = [loss_sum(model, *batch) for batch in with_replies.replies()]
        gate.forward = calls
        expected = float(sum(loss for loss, _ in sums)) / sum(count for _, count in sums)
        assert found[layer][expert] == pytest.approx(expected, rel=1e-5)


def test_fisher_is_the_squared_derivative_by_pieces(
    with_replies: PruningContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By finite differences of a factor on the gates of one expert within a piece of 8 tokens, one text at a time."""
    found = scores(with_replies, "fisher-experts", monkeypatch)
    layer, expert, step, expected = 2, 5, 2e-2, 0.0
    layers: Any = with_replies.layers
    model = with_replies.model
    for batch in with_replies.replies():
        for text in range(len(batch[0])):
            ids, mask, counted = (part[text : text + 1] for part in batch)
            for start in range(0, ids.shape[1], 8):
                losses = []
                for sign in (1, -1):

                    def scaled(module: Any, given: Any, start: int = start, sign: int = sign) -> Any:
                        hidden, index, gates = given
                        here = torch.zeros_like(gates)
                        here[start : start + 8] = 1.0
                        return hidden, index, gates * (1 + sign * step * here * (index == expert))

                    hook = layers[layer].mlp.experts.register_forward_pre_hook(scaled)
                    with torch.no_grad():
                        losses.append(float(loss_sum(model, ids, mask, counted)[0]))
                    hook.remove()
                expected += ((losses[0] - losses[1]) / (2 * step)) ** 2
    assert found[layer][expert] == pytest.approx(expected, rel=2e-2)


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
def test_aimer_is_the_mean_over_the_root_mean_square(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = of_kind(kind, tmp_path)
    found = scores(context, "aimer", monkeypatch)
    layers: Any = context.layers
    experts = layers[4].mlp.experts
    every = torch.cat([experts.gate_up_proj[6].flatten(), experts.down_proj[6].flatten()]).double()
    assert found[4][6] == pytest.approx(-float(every.abs().mean() / every.square().mean().sqrt()), rel=1e-5)


@pytest.mark.parametrize("kind", ["gpt_oss", "mixtral", "deepseek_v3"])
@pytest.mark.parametrize("method", ["reap", "random-experts"])
def test_of_other_models(kind: str, method: str, tmp_path: Path) -> None:
    """Each layer loses as many, and of groups each as many."""
    context = of_kind(kind, tmp_path)
    recipe = choose(context, method, [2], {})[2]
    dense = 2 if kind == "deepseek_v3" else 0
    assert list(recipe.drop_experts) == list(range(dense, LAYERS))
    assert all(len(some) == 2 for some in recipe.drop_experts.values())
    if kind == "deepseek_v3":
        assert all(sum(expert < 4 for expert in some) == 1 for some in recipe.drop_experts.values())
    assert recipe.method == method and "2 of 8 experts of each layer" in recipe.source


def test_uneven_takes_the_lowest_of_all_layers(context: PruningContext, monkeypatch: pytest.MonkeyPatch) -> None:
    found = scores(context, "frequency", monkeypatch)
    recipe = choose(context, "frequency", [2], {"uneven": True})[2]
    dropped = [found[layer][expert] for layer, some in recipe.drop_experts.items() for expert in some]
    assert len(dropped) == 2 * LAYERS
    every = ((layer, expert) for layer in found for expert in range(8))
    left = [found[layer][expert] for layer, expert in every if expert not in recipe.drop_experts.get(layer, ())]
    full = [layer for layer, some in recipe.drop_experts.items() if len(some) == 6]
    assert max(dropped) <= min(left) or full
    assert all(len(some) <= 6 for some in recipe.drop_experts.values())


@pytest.mark.parametrize(("method", "amount", "said"), case_table("wrong_arguments.yaml")["numbers"])
def test_wrong_numbers_are_one_line(context: PruningContext, method: str, amount: str, said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        choose(context, method, [amount], {})


def test_shares_are_rounded_down_to_groups(context: PruningContext, tmp_path: Path) -> None:
    chosen = choose(context, "random-experts", ("25%", "50%", "40%", "3"), {})
    assert [len(recipe.drop_experts[2]) for recipe in chosen.values()] == [2, 4, 3, 3]
    grouped = of_kind("deepseek_v3", tmp_path)
    assert len(choose(grouped, "random-experts", ["40%"], {})["40%"].drop_experts[2]) == 2
    with pytest.raises(ArgumentError, match="compares 2 groups of experts, so give multiples of 2"):
        choose(grouped, "random-experts", [3], {})
    with pytest.raises(ArgumentError, match="uneven=true: the router"):
        choose(grouped, "random-experts", [2], {"uneven": True})


def test_what_could_not_be_loaded_is_not_chosen(tmp_path: Path) -> None:
    grouped = of_kind("deepseek_v3", tmp_path)
    with pytest.raises(ArgumentError, match="from 1 to 4 of the 8 experts of each layer"):
        choose(grouped, "random-experts", [6], {})
    with pytest.raises(ArgumentError, match="no layer with experts is left between them; those with experts: 2-5"):
        choose(grouped, "random-experts", [2], {"latter_barrier": 4})


def test_an_expert_of_zeros_is_dropped_first(tmp_path: Path) -> None:
    context = of_kind("qwen3_moe", tmp_path)
    layers: Any = context.layers
    layers[2].mlp.experts.gate_up_proj.data[3] = 0.0
    layers[2].mlp.experts.down_proj.data[3] = 0.0
    assert choose(context, "aimer", [1], {})[1].drop_experts[2] == (3,)
    layers[1].mlp.experts.down_proj.data[5] = float("nan")
    with pytest.raises(ArchitectureError, match="the score of expert 5 of layer 1 is nan"):
        choose(context, "aimer", [1], {})


def test_a_recipe_is_only_for_as_many_experts(context: PruningContext, tmp_path: Path) -> None:
    path = choose(context, "frequency", [2], {})[2].save(tmp_path / "r.yaml")
    other = checkpoint("qwen3_moe", tmp_path / "other", num_experts=16, vocab_size=300)
    with pytest.raises(ArgumentError, match=r"16 experts.* is not what the recipe is for.*8 experts"):
        PrunedHFLM(str(other), recipe=str(path), journal="off")


def test_without_experts_or_replies(tiny: PruningContext, context: PruningContext) -> None:
    with pytest.raises(ArgumentError, match="a llama model has no experts; use a method that drops layers"):
        choose(tiny, "reap", [1], {})
    with pytest.raises(ArgumentError, match="contains no replies"):
        choose(context, "trace-experts", [1], {})


def test_where_tokens_go_is_not_known(context: PruningContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(context.layers[3].mlp, "experts")
    with pytest.raises(ArchitectureError, match="is not known, so they can't be scored one by one"):
        choose(context, "reap", [1], {})


def test_every_method_of_experts_is_tested() -> None:
    tested = {*PLAIN, "trace-experts", "fisher-experts", "aimer", "random-experts"}
    assert tested == {name for name, method in METHODS.items() if method.experts}
