"""Weights that become zero while a model is loaded: masks equal those of plain implementations, in every engine."""

from __future__ import annotations

import json
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext import choose_layers
from lm_eval_ext.errors import ArchitectureError, ArgumentError, RecipeError, TTSError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.calibration import Calibration
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, kept_tensors
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.methods.weights import owl_shares
from lm_eval_ext.pruning.recipe import Recipe, load_recipe
from lm_eval_ext.pruning.selection import choose
from lm_eval_ext.pruning.sparsity import Amount, lowest_scores, zeros_of
from tests.checkpoints import LAYERS, write_checkpoint
from tests.commands import cli, run
from tests.contexts import context_of
from tests.shared import case_table, one_line
from tests.test_experts import checkpoint
from tests.tokenizers import TEMPLATE, byte_tokenizer

IDS = torch.arange(3, 35).reshape(2, 16)
TEXTS = [f"What is {number} times {number * 7 % 11} plus {number * number}?" * 2 for number in range(12)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(write_checkpoint("llama", tmp_path_factory.mktemp("llama"), **SIZES))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_tokenizer(checkpoint("qwen3_moe", tmp_path_factory.mktemp("moe"), **SIZES))


SIZES: dict[str, Any] = {"vocab_size": 300, "max_position_embeddings": 512}


def with_tokenizer(folder: Path) -> Path:
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    return folder


def context(folder: Path) -> PruningContext:
    return context_of(folder, samples=6, batch_size=2)


def texts_file(folder: Path) -> str:
    path = folder / "texts.txt"
    path.write_text("\n\n".join(TEXTS))
    return str(path)


def loaded(recipe: Recipe, **options: Any) -> Any:
    return PrunedHFLM(recipe=recipe, journal="off", **options).model.eval()


# Plain implementations ---------------------------------------------------------------------------------------


def inputs_of_layer(model: Any, rows: list[list[int]], layer: int) -> dict[str, torch.Tensor]:
    """X of each matrix of a layer, by the name it has in a checkpoint of single experts; whole forward passes."""
    block = model.model.layers[layer]
    seen: dict[str, list[torch.Tensor]] = {}

    def keep(name: str, states: torch.Tensor) -> None:
        seen.setdefault(name, []).append(states.detach().reshape(-1, states.shape[-1]))

    hooks = [
        module.register_forward_pre_hook(lambda _, given, name=name: keep(f"{name}.weight", given[0]))
        for name, module in block.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    if hasattr(block.mlp, "experts"):
        experts = block.mlp.experts

        def of_experts(_: Any, given: Any) -> None:
            hidden, chosen = given[0], given[1]
            for expert in range(len(experts.gate_up_proj)):
                states = hidden[(chosen == expert).any(-1)]
                gate, up = (states @ experts.gate_up_proj[expert].T).chunk(2, -1)
                keep(f"mlp.experts.{expert}.gate_proj.weight", states)
                keep(f"mlp.experts.{expert}.up_proj.weight", states)
                keep(f"mlp.experts.{expert}.down_proj.weight", torch.nn.functional.silu(gate) * up)

        hooks.append(experts.register_forward_pre_hook(of_experts))
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([row]))
    for hook in hooks:
        hook.remove()
    found = {name: torch.cat(parts).double() for name, parts in seen.items()}
    # An expert that no token is given to: all inputs count as equal.
    return {name: states if len(states) else torch.eye(states.shape[1]).double() for name, states in found.items()}


def plain_wanda(weight: torch.Tensor, states: torch.Tensor, share: float) -> torch.Tensor:
    metric = weight.abs() * states.square().sum(0).sqrt().float()
    order = torch.sort(metric, dim=-1, stable=True)[1][:, : int(weight.shape[1] * share)]
    return weight.scatter(1, order, 0.0)


def plain_pattern(weight: torch.Tensor, states: torch.Tensor, zeros: int, group: int) -> torch.Tensor:
    metric, pruned = weight.abs() * states.square().sum(0).sqrt().float(), weight.clone()
    for start in range(0, weight.shape[1], group):
        order = torch.sort(metric[:, start : start + group], dim=-1, stable=True)[1][:, :zeros]
        pruned.scatter_(1, start + order, 0.0)
    return pruned


def plain_by_matrix(weight: torch.Tensor, metric: torch.Tensor, share: float) -> torch.Tensor:
    order = torch.sort(metric.flatten(), stable=True)[1][: int(weight.numel() * share)]
    return weight.flatten().scatter(0, order, 0.0).reshape(weight.shape)


def plain_ria(weight: torch.Tensor, states: torch.Tensor, share: float) -> torch.Tensor:
    size = weight.abs().double()
    relative = size / size.sum(0) + size / size.sum(1)[:, None]
    return plain_by_matrix(weight, (relative * states.square().sum(0) ** 0.25).float(), share)


def plain_sparsegpt(weight: torch.Tensor, states: torch.Tensor, share: float) -> torch.Tensor:
    """One block of columns, in float64, by inverting what is left of H after each column."""
    hessian = 2 * states.T @ states / len(states)
    hessian += torch.eye(len(hessian)) * 0.01 * hessian.diagonal().mean()
    left = weight.double().clone()
    inverses, rest = [], hessian.inverse()
    for _ in range(len(hessian)):
        inverses.append(rest.clone())
        rest = (rest - rest[:, :1] @ rest[:1] / rest[0, 0])[1:, 1:]
    scale = torch.stack([inverse[0, 0] for inverse in inverses])
    losses = (left.square() / scale).flatten()
    zeros = torch.zeros(losses.shape, dtype=torch.bool)
    zeros[torch.sort(losses, stable=True)[1][: int(losses.numel() * share)]] = True
    zeros = zeros.reshape(left.shape)
    for column, inverse in enumerate(inverses):
        error = torch.where(zeros[:, column], left[:, column], 0.0) / inverse[0, 0]
        left[:, column:] -= error[:, None] * inverse[0]
        left[:, column] = left[:, column].masked_fill(zeros[:, column], 0.0)
    return left.float()


PLAIN = {
    ("wanda", "20%"): lambda weight, states: plain_wanda(weight, states, 0.2),
    ("wanda", "50%"): lambda weight, states: plain_wanda(weight, states, 0.5),
    ("wanda", "2of4"): lambda weight, states: plain_pattern(weight, states, 2, 4),
    ("magnitude-weights", "20%"): lambda weight, states: plain_by_matrix(weight, weight.abs(), 0.2),
    ("magnitude-weights", "1of4"): lambda weight, states: plain_pattern(weight, states**0, 1, 4),
    ("ria", "50%"): lambda weight, states: plain_ria(weight, states, 0.5),
    ("sparsegpt", "50%"): lambda weight, states: plain_sparsegpt(weight, states, 0.5),
}


def plainly(folder: Path, rows: list[list[int]], prune: Any) -> dict[str, torch.Tensor]:
    """All pruned matrices of a model, by their names in the checkpoint, one layer after the other."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, experts_implementation="eager").eval()
    pruned: dict[str, torch.Tensor] = {}
    for layer in range(LAYERS):
        states = inputs_of_layer(model, rows, layer)
        block = model.model.layers[layer]
        weights = {name: weight for name, weight in block.named_parameters() if name in states}
        if hasattr(block.mlp, "experts"):
            for expert, (both, down) in enumerate(
                zip(block.mlp.experts.gate_up_proj, block.mlp.experts.down_proj, strict=True)
            ):
                gate, up = both.chunk(2)
                names = {"gate_proj": gate, "up_proj": up, "down_proj": down}
                weights |= {f"mlp.experts.{expert}.{name}.weight": one for name, one in names.items()}
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(prune(weight, states[name]))
                pruned[f"model.layers.{layer}.{name}"] = weight.clone()
    return pruned


@pytest.mark.parametrize(("method", "amount"), PLAIN)
@pytest.mark.parametrize("kind", ["dense", "mixture"])
def test_weights_equal_those_of_a_plain_implementation(
    kind: str, method: str, amount: str, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(kind)
    of = context(folder)
    count = Amount.parse(amount)
    recipe = choose(of, method, [count], {})[count]
    expected = plainly(folder, [row.ids for row in of._rows], PLAIN[method, amount])
    forked = 0  # where rounding has chosen another of two near-equal weights, after which more differ
    with ExitStack() as files:
        tensors = kept_tensors(str(folder), range(LAYERS), recipe.changes, {}, files)
        whole = kept_tensors(str(folder), range(LAYERS), NO_CHANGES, {}, files)
        assert sum(int((one == 0).sum()) for one in expected.values()) == recipe.sparsity.zeros  # type: ignore[union-attr]
        for name, tensor in tensors.items():
            if name not in expected:
                assert torch.equal(tensor[...], whole[name][...]), name
            elif method == "sparsegpt":
                forked += not torch.allclose(tensor[...], expected[name], atol=2e-3)
            else:
                assert torch.equal(tensor[...], expected[name]), name
    assert forked <= (0 if kind == "dense" else len(expected) // 50)
    assert len(expected) == (7 if kind == "dense" else 4 + 3 * 8) * LAYERS


def test_owl_gives_layers_with_outliers_fewer_zeros(dense: Path) -> None:
    of, half = context(dense), Amount.parse("50%")
    recipe = choose(of, "wanda", [half], {"allocation": "owl"})[half]
    model = AutoModelForCausalLM.from_pretrained(dense).eval()
    outliers = []
    for layer in range(LAYERS):  # of the whole model
        states = inputs_of_layer(model, [row.ids for row in of._rows], layer)
        block: Any = model.model.layers[layer]
        weights = dict(block.named_parameters())
        metric = torch.cat([(weights[name].abs() * x.norm(dim=0).float()).flatten() for name, x in states.items()])
        outliers.append(float((metric > 5 * metric.mean()).double().mean()))
    low, high = min(outliers), max(outliers)
    kept = [(one - low) / (high - low) * 0.16 for one in outliers]
    kept = [one - sum(kept) / LAYERS + 0.5 for one in kept]
    assert recipe.sparsity is not None
    assert recipe.sparsity.shares == pytest.approx([1 - one for one in kept], abs=1e-6)
    assert sum(recipe.sparsity.shares) / LAYERS == pytest.approx(0.5)
    model_zeros = [zeros_in(layer) for layer in loaded(recipe).model.layers]
    assert model_zeros.index(min(model_zeros)) == kept.index(max(kept)) == outliers.index(high)
    assert model_zeros.index(max(model_zeros)) == kept.index(min(kept)) == outliers.index(low)


def zeros_in(module: Any) -> int:
    return sum(int((weight == 0).sum()) for weight in module.parameters())


# A recipe gives the same weights again -----------------------------------------------------------------------


def test_through_lm_eval_as_an_export_and_with_dropped_layers(dense: Path, tmp_path: Path) -> None:
    texts = texts_file(tmp_path)
    lm = PrunedHFLM(str(dense), prune="wanda:25%", calibration=texts, journal="off", batch_size=2)
    whole = PrunedHFLM(str(dense), journal="off")
    info = lm.get_model_info()["pruning"]
    assert info["sparsity"]["criterion"] == "wanda" and info["sparsity"]["amount"] == "25%"
    assert info["sparsity"]["zeros"] == zeros_in(lm.model) and info["method"] == "wanda"
    assert info["parameters_after"] == info["parameters_before"] and info["dropped_layers"] == []
    costs, before = lm.get_model_info()["costs"], whole.get_model_info()["costs"]
    assert {name: costs[name] for name in costs if name != "peak_memory"} == {
        name: before[name] for name in before if name != "peak_memory"
    }, "zeros save no memory and no arithmetic"
    recipe = choose_layers(str(dense), "wanda", remove="25%", calibration=texts)
    path = recipe.save(tmp_path / "recipe.yaml")
    again = load_recipe(str(path))
    assert again.digest == recipe.digest and (tmp_path / "recipe.sparsity").is_file()
    out = export(again, tmp_path / "out")
    assert [path.name for path in out.glob("*.safetensors")] == ["model.safetensors"], "what vLLM reads"
    read = AutoModelForCausalLM.from_pretrained(out)
    for name, tensor in read.state_dict().items():
        assert torch.equal(tensor, lm.model.state_dict()[name]), name
    assert load_recipe(str(out / "recipe.yaml")).sparsity.sha256 == recipe.sparsity.sha256  # type: ignore[union-attr]
    assert "25%" in (out / "README.md").read_text()
    both = loaded(again.model_copy(update={"drop": (2, 3)}))
    assert len(both.model.layers) == LAYERS - 2
    assert torch.equal(both.model.layers[2].mlp.up_proj.weight, lm.model.model.layers[4].mlp.up_proj.weight)


def test_with_dropped_experts(mixture: Path, tmp_path: Path) -> None:
    recipe = choose_layers(str(mixture), "wanda", remove="50%", calibration=texts_file(tmp_path))
    fewer = recipe.model_copy(update={"drop_experts": dict.fromkeys(range(LAYERS), (0, 5))})
    whole, short = loaded(recipe).model.layers[1].mlp.experts, loaded(fewer).model.layers[1].mlp.experts
    kept = [expert for expert in range(8) if expert not in (0, 5)]
    assert torch.equal(short.gate_up_proj, whole.gate_up_proj[kept]) and torch.equal(
        short.down_proj, whole.down_proj[kept]
    )


def test_fused_experts_on_disk(mixture: Path, tmp_path: Path) -> None:
    """A checkpoint that has the experts of a layer in one tensor loses the same weights by row."""
    folder = tmp_path / "fused"
    model = AutoModelForCausalLM.from_pretrained(mixture)
    model.save_pretrained(folder)
    for path in folder.glob("model*"):
        path.unlink()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with_tokenizer(folder)
    texts = texts_file(tmp_path)
    one, other = (
        loaded(choose_layers(str(place), "wanda", remove="50%", calibration=texts)) for place in (mixture, folder)
    )
    assert all(torch.equal(weight, other.state_dict()[name]) for name, weight in one.state_dict().items())


@pytest.mark.parametrize("options", [{"tie_word_embeddings": True}, {"shard_size": "10KB"}, {"shard_size": "5GB"}])
def test_tied_and_sharded_checkpoints(options: dict[str, Any], tmp_path: Path) -> None:
    folder = with_tokenizer(write_checkpoint("llama", tmp_path, **SIZES, **options))
    recipe = choose_layers(str(folder), "wanda", remove="50%", calibration=texts_file(tmp_path))
    model = loaded(recipe)
    assert zeros_in(model.model.layers) == recipe.sparsity.zeros  # type: ignore[union-attr]
    assert zeros_in(model.model.embed_tokens) == 0


def test_in_bfloat16_the_mask_is_that_of_the_stored_weights(dense: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bf16"
    AutoModelForCausalLM.from_pretrained(dense, dtype=torch.bfloat16).save_pretrained(folder)
    recipe = choose_layers(str(with_tokenizer(folder)), "wanda", remove="50%", calibration=texts_file(tmp_path))
    half, single = loaded(recipe), loaded(recipe, dtype="float32")
    assert half.dtype == torch.bfloat16 and single.dtype == torch.float32
    assert all(
        torch.equal(one.float(), other) for one, other in zip(half.parameters(), single.parameters(), strict=True)
    )


@pytest.mark.parametrize("method", ["magnitude-weights", "sparsegpt"])
def test_another_base_of_the_same_shape_is_refused(method: str, dense: Path, tmp_path: Path) -> None:
    recipe = choose_layers(str(dense), method, remove="50%", calibration=texts_file(tmp_path))
    other = tmp_path / "other"
    model = AutoModelForCausalLM.from_pretrained(dense)
    with torch.no_grad():
        model.model.layers[3].mlp.up_proj.weight[0, :8] *= torch.linspace(0.01, 9.0, 8)
    model.save_pretrained(other)
    with one_line(RecipeError, match=r"another base, because the weights in model.layers.3.mlp.up_proj.weight"):
        PrunedHFLM(str(with_tokenizer(other)), recipe=recipe, journal="off")


@pytest.mark.parametrize(("method", "amount"), [("wanda", "30%"), ("wanda", "2of4"), ("magnitude-weights", "1of3")])
def test_rows_are_scored_in_pieces_as_they_are_at_once(
    method: Any, amount: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    weight, norms = torch.randn(50, 12).round(decimals=1), torch.rand(12)
    at_once = zeros_of(method, Amount.parse(amount), 0.3, weight, norms)
    monkeypatch.setattr("lm_eval_ext.pruning.sparsity._PIECE", 40)
    assert torch.equal(zeros_of(method, Amount.parse(amount), 0.3, weight, norms), at_once)


def test_recipes_are_written_to_a_new_folder_or_it_fails_before_the_calibration(dense: Path, tmp_path: Path) -> None:
    options = ["prune", "--base", str(dense), "--method", "wanda", "--remove", "20%"]
    texts = ["--calibration", texts_file(tmp_path), "--samples", "4"]
    new = tmp_path / "new" / "folder"
    assert cli(*options, *texts, "--out", new).exit_code == 0
    assert zeros_in(loaded(load_recipe(str(next(new.glob("*.yaml"))))))
    (tmp_path / "file").write_text("")
    failed = cli(*options, *texts, "--out", tmp_path / "file")
    assert failed.exit_code == 1 and "Weights of layers" not in failed.output and "exists" in failed.output


PEAK = """
import re, sys, threading, time
from pathlib import Path
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM

def held(): return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
def watch():
    while True: peaks.append(held()); time.sleep(0.002)

PrunedHFLM(pretrained=sys.argv[1], journal="off")  # what loading itself imports
before, peaks = held(), []
threading.Thread(target=watch, daemon=True).start()
kept = PrunedHFLM(pretrained=sys.argv[2], recipe=sys.argv[3] if sys.argv[3:] else None, journal="off")
print(max(peaks) - before)
"""


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
@pytest.mark.parametrize("method", ["wanda", "magnitude-weights", "ria"])
def test_memory_while_loading_is_what_is_kept_and_one_layer(method: Any, dense: Path, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_hidden_layers": 4,
        "num_attention_heads": 12,
    }
    written = write_checkpoint("llama", tmp_path / "float32", **SIZES, **sizes)
    large = with_tokenizer(tmp_path / "large")
    AutoModelForCausalLM.from_pretrained(written, dtype=torch.bfloat16).save_pretrained(large)
    kept = sum(file.stat().st_size for file in large.glob("*.safetensors"))
    recipe = choose(context(large), method, [half := Amount.parse("50%")], {})[half].save(tmp_path / "recipe.yaml")
    done = run(sys.executable, "-c", PEAK, str(dense), str(large), str(recipe))
    assert kept / 2 < int(done.stdout.split()[-1]) < kept + kept / sizes["num_hidden_layers"]


def test_calibration_must_be_named(dense: Path, mixture: Path) -> None:
    for prune in ("wanda:20%", "ria:20%", "sparsegpt:20%", "magnitude-weights:20%:allocation=owl"):
        with pytest.raises(ArgumentError, match="calibration is missing"):
            PrunedHFLM(str(dense), prune=prune, journal="off")
    assert zeros_in(PrunedHFLM(str(mixture), prune="magnitude-weights:20%", journal="off").model) > 0


@pytest.mark.parametrize(("prune", "said"), case_table("wrong_arguments.yaml")["weights"])
def test_a_wrong_argument_is_one_line(prune: str, said: str, dense: Path, tmp_path: Path) -> None:
    with one_line(TTSError, match=said):
        PrunedHFLM(str(dense), prune=prune, calibration=texts_file(tmp_path), journal="off")


@pytest.mark.parametrize("broken", ["missing", "other", "text", "empty list", "no tensors", "another shape"])
def test_a_broken_file_is_one_line(broken: str, dense: Path, tmp_path: Path) -> None:
    path = choose_layers(str(dense), "wanda", remove="50%", calibration=texts_file(tmp_path)).save(tmp_path / "r.yaml")
    file = tmp_path / "r.sparsity"
    tensors, listed = load_file(file), masks_in(file)
    metadata = {"masks": json.dumps(listed)}
    if broken == "missing":
        file.unlink()
    elif broken == "other":
        save_file({name: tensor + 1 for name, tensor in tensors.items()}, file, metadata)
    elif broken == "text":
        file.write_text("hello")
    elif broken == "empty list":
        save_file(tensors, file, {"masks": json.dumps({name: [] for name in listed})})
    elif broken == "no tensors":
        save_file({"x": torch.zeros(1)}, file, metadata)
    else:
        save_file({name: tensor[:-1].clone() for name, tensor in tensors.items()}, file, metadata)
    if broken not in ("missing", "other"):
        import hashlib

        old = load_recipe(str(path)).sparsity.sha256  # type: ignore[union-attr]
        path.write_text(path.read_text().replace(old, hashlib.sha256(file.read_bytes()).hexdigest()))
    with one_line(RecipeError, match="sparsity: "):
        PrunedHFLM(recipe=str(path), journal="off")


def masks_in(file: Path) -> dict[str, Any]:
    content = file.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    listed: dict[str, Any] = json.loads(header["__metadata__"]["masks"])
    return listed


def test_what_cannot_be_pruned_is_refused(tmp_path: Path) -> None:
    gpt2 = AutoModelForCausalLM.from_config(
        AutoConfig.for_model("gpt2", n_layer=2, n_embd=16, n_head=2, vocab_size=300)
    )
    gpt2.save_pretrained(tmp_path / "gpt2")
    fused = checkpoint("gpt_oss", tmp_path / "gpt_oss", **SIZES)  # its experts are transposed
    for folder in (tmp_path / "gpt2", fused):
        with one_line(ArchitectureError, match=r"only [\d,]+ of the|is multiplied with"):
            choose_layers(str(with_tokenizer(folder)), "wanda", remove="50%", calibration=texts_file(tmp_path))


def test_the_name_of_a_run_says_it(dense: Path, tmp_path: Path) -> None:
    path = choose_layers(str(dense), "magnitude-weights", remove="50%").save(tmp_path / "r.yaml")
    name = run_name("m", {"recipe": str(path)})
    assert "-zeros50-" in name and "%" not in name


# Pure parts --------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, math.pi]), min_size=1, max_size=12), st.data())
def test_the_lowest_are_those_of_a_stable_sort(found: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(found)))
    mask = lowest_scores(torch.tensor([found, found[::-1]]), count)
    for row, scored in zip(mask, (found, found[::-1]), strict=True):
        order = sorted(range(len(scored)), key=scored.__getitem__)[:count]
        assert row.nonzero().flatten().tolist() == sorted(order)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.floats(0.2, 0.8))
def test_owl_keeps_the_mean(outliers: list[float], share: float) -> None:
    shares = owl_shares(outliers, Amount(share), 0.08)
    assert sum(shares) / len(shares) == pytest.approx(share)
    assert max(shares) - min(shares) <= 0.16 + 1e-8
    assert all(
        shares[one] >= shares[other] - 1e-8
        for one in range(len(shares))
        for other in range(len(shares))
        if outliers[one] <= outliers[other]
    )


@given(st.integers(1, 999_999), st.integers(1, 7))
def test_amounts_are_read_as_they_are_written(share: int, zeros: int) -> None:
    percent = f"{share // 10_000}.{share % 10_000:04}".rstrip("0").rstrip(".")
    for text in (f"{percent}%", f"{zeros}of8"):
        assert str(Amount.parse(text)) == text and Amount.parse(str(Amount.parse(text))) == Amount.parse(text)


def test_what_is_in_the_cache_is_shared_by_methods_and_texts(dense: Path) -> None:
    of = context(dense)
    two = [Amount.parse("20%"), Amount.parse("50%")]
    first, second = choose(of, "wanda", two, {}).values()
    assert isinstance(of.calibration, Calibration) and first.digest != second.digest
    assert choose(of, "wanda", two[1:], {})[two[1]].digest == second.digest, "each amount is taken of the whole model"
