"""ReplaceMe against a plain implementation, and its map in recipes, results, exports and other models."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import save_file
from torch.nn.functional import cosine_similarity
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError, RecipeError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.adapters import MARK, _check_trained_for, fitted_adapter, layers_left_out
from lm_eval_ext.pruning.block_verification import ensure_map_exact
from lm_eval_ext.pruning.calibration import Calibration, calibration
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, InMemory
from lm_eval_ext.pruning.context import PruningContext
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.layers import mean_loss
from lm_eval_ext.pruning.loading import checkpoint_fingerprint, load_pruned
from lm_eval_ext.pruning.merging import MappedTensor, save_map
from lm_eval_ext.pruning.recipe import Recipe, load_recipe
from lm_eval_ext.pruning.selection import choose
from tests.checkpoints import LAYERS, write_checkpoint
from tests.commands import LM_EVAL, run
from tests.contexts import context_of, texts_of


def states(context: PruningContext) -> list[torch.Tensor]:
    """The input of every layer and the output of the last, before the final norm, for all tokens, without batches."""
    seen: list[list[torch.Tensor]] = [[] for _ in range(context.depth + 1)]
    last = context.layers[-1].register_forward_hook(lambda _, __, output: seen[-1].append(output[0].double()))
    for text in texts_of(context):
        with torch.no_grad():
            hidden = context.model(input_ids=text, output_hidden_states=True).hidden_states
        for number, state in enumerate(hidden[:-1]):
            seen[number].append(state[0].double())
    last.remove()
    return [torch.cat(parts) for parts in seen]


def added_by_mlp(context: PruningContext, layer: int) -> torch.Tensor:
    """What a layer's feed-forward network adds to the residual stream, for all tokens."""
    found: list[torch.Tensor] = []
    hook = context.model.model.layers[layer].mlp.register_forward_hook(lambda _, __, output: found.append(output[0]))
    for text in texts_of(context):
        with torch.no_grad():
            context.model(input_ids=text)
    hook.remove()
    return torch.cat(found).double()


def by_hand(context: PruningContext, count: int) -> tuple[int, list[float], torch.Tensor]:
    """The first layer of the run, the distances, and the map, by least squares on all tokens at once."""
    residual = states(context)
    pairs = zip(residual, residual[count:], strict=False)
    distances = [1 - float(cosine_similarity(one, other, dim=-1).mean()) for one, other in pairs]
    start = min(range(1, context.depth - count + 1), key=distances.__getitem__)
    added = added_by_mlp(context, start - 1)
    target = residual[start + count] - (residual[start] - added)
    return start, distances, torch.linalg.lstsq(added, target).solution


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_run_and_the_map_are_those_computed_by_hand(count: int, tiny: PruningContext) -> None:
    recipe = choose(tiny, "replaceme", [count], {"alpha": 0.0})[count]
    start, distances, matrix = by_hand(tiny, count)
    assert recipe.drop == tuple(range(start, start + count)) and recipe.linear_map is not None
    assert recipe.linear_map.after == start - 1
    assert recipe.scores[: len(distances)] == pytest.approx(distances, abs=1e-5)
    torch.testing.assert_close(recipe.linear_map.matrix.double(), matrix, rtol=1e-3, atol=1e-3)


def test_the_loaded_model_computes_what_the_map_says(tiny: PruningContext) -> None:
    recipe = choose(tiny, "replaceme", [2], {})[2]
    linear_map, kept = recipe.linear_map, [layer for layer in range(LAYERS) if layer not in recipe.drop]
    assert linear_map is not None
    pruned = load_pruned(tiny.pretrained, tiny.config, kept, changes=recipe.changes, dtype="float32").eval()
    whole = AutoModelForCausalLM.from_pretrained(tiny.pretrained, dtype="float32").eval()
    whole.model.layers[linear_map.after].mlp.register_forward_hook(lambda _, __, out: out @ linear_map.matrix)
    whole.model.layers = torch.nn.ModuleList(whole.model.layers[layer] for layer in kept)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(pruned(ids, use_cache=False).logits, whole(ids, use_cache=False).logits)


def test_the_map_brings_the_residual_stream_nearer(tiny: PruningContext) -> None:
    """Nearer to what the dropped layers made of it, on the calibration texts, than if they were only dropped."""
    recipe = choose(tiny, "replaceme", [2], {})[2]
    assert recipe.linear_map is not None
    residual, added = states(tiny), added_by_mlp(tiny, recipe.linear_map.after)
    before, after = residual[recipe.drop[0]], residual[recipe.drop[-1] + 1]
    with_map = before + added @ (recipe.linear_map.matrix.double() - torch.eye(added.shape[1], dtype=torch.double))
    assert (with_map - after).square().sum() < 0.9 * (before - after).square().sum()


def test_biases_are_multiplied_too(tmp_path: Path) -> None:
    folder = write_checkpoint("phi", tmp_path, partial_rotary_factor=0.5)
    matrix = torch.randn(AutoConfig.from_pretrained(folder).hidden_size, AutoConfig.from_pretrained(folder).hidden_size)
    linear_map = save_map(1, matrix, tmp_path / "maps")
    fields = {"base": str(folder), "drop": [2], "method": "replaceme", "source": "-", "linear_map": linear_map}
    recipe = Recipe.model_validate(fields)
    whole = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    pruned = load_pruned(
        str(folder), AutoConfig.from_pretrained(folder), [0, 1, 3, 4, 5], changes=recipe.changes
    ).state_dict()
    for part in ("weight", "bias"):
        name = f"model.layers.1.mlp.fc2.{part}"
        torch.testing.assert_close(pruned[name], matrix.T @ whole[name], rtol=1e-4, atol=1e-5)


def test_lm_eval_runs_it_and_says_so(tmp_path: Path) -> None:
    arguments = "prune=replaceme:2,calibration=task:tts_chain_short"
    done = run(
        LM_EVAL, "--model", "pruned-hf", "--model_args", arguments, "--tasks", "tts_chain_short", "--limit", "4",
        "--output_path", tmp_path / "out", "--log_samples",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = (tmp_path / "out").rglob("results_*.json")
    assert "replaceme-2" in path.parent.name
    info = json.loads(path.read_text("utf-8"))["config"]["pruning"]
    assert info["linear_map"].keys() == {"after", "sha256"} and info["method"] == "replaceme"
    assert info["linear_map"]["after"] + 1 == info["dropped_layers"][0] and len(info["dropped_layers"]) == 2


@pytest.fixture(scope="module")
def recipe_path(tiny: PruningContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return choose(tiny, "replaceme", [2], {})[2].save(tmp_path_factory.mktemp("recipes") / "small.yaml")


def test_a_recipes_file_has_the_map_beside_it(recipe_path: Path, tmp_path: Path) -> None:
    assert sorted(path.name for path in recipe_path.parent.iterdir()) == ["small.npy", "small.yaml"]
    assert "file: small.npy" in recipe_path.read_text("utf-8")
    for path in recipe_path.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    read, moved = load_recipe(str(recipe_path)), load_recipe(str(tmp_path / "small.yaml"))
    assert read.linear_map and moved.linear_map and read.digest == moved.digest
    assert torch.equal(read.linear_map.matrix, moved.linear_map.matrix)
    other = read.model_copy(update={"linear_map": read.linear_map.model_copy(update={"sha256": "0" * 64})})
    assert other.digest != read.digest != read.model_copy(update={"linear_map": None}).digest


def test_an_export_is_read_by_transformers_alone(recipe_path: Path, tiny: PruningContext, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_path))
    out = export(recipe, tmp_path / "out")
    kept = [layer for layer in range(LAYERS) if layer not in recipe.drop]
    ours = load_pruned(tiny.pretrained, tiny.config, kept, changes=recipe.changes).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(out).state_dict()
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    assert str(tmp_path.parent) not in (out / "recipe.yaml").read_text("utf-8") + (out / "README.md").read_text("utf-8")
    assert "a linear map" in (out / "README.md").read_text("utf-8") and (out / "recipe.npy").is_file()
    again = load_recipe(str(out / "recipe.yaml"))
    assert again.linear_map and torch.equal(again.linear_map.matrix, recipe.linear_map.matrix)  # type: ignore[union-attr]  # the recipe has one


def test_the_fingerprint_of_a_model_is_that_of_its_map(recipe_path: Path, tiny: PruningContext, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_path))
    kept = [layer for layer in range(LAYERS) if layer not in recipe.drop]
    other = save_map(recipe.drop[0] - 1, torch.eye(tiny.config.hidden_size) * 2, tmp_path)
    found = {
        checkpoint_fingerprint(tiny.pretrained, tiny.config, kept, "main", changes)
        for changes in (recipe.changes, recipe.model_copy(update={"linear_map": other}).changes)
    }
    assert len(found | {checkpoint_fingerprint(tiny.pretrained, tiny.config, kept, "main")}) == 3


def test_a_model_and_its_run_are_named_after_the_map(recipe_path: Path, tiny: PruningContext) -> None:
    recipe = load_recipe(str(recipe_path))
    lm = PrunedHFLM(tiny.pretrained, recipe=str(recipe_path), dtype="float32", device="cpu", journal="off")
    dropped = PrunedHFLM(tiny.pretrained, drop_layers=list(recipe.drop), dtype="float32", device="cpu", journal="off")
    assert lm.fingerprint != dropped.fingerprint
    assert recipe.changes_name == f"-linear-{recipe.digest[:6]}"


@pytest.mark.parametrize("wrong", ["missing", "changed", "text", "shape"])
def test_a_map_that_is_not_the_recipes_is_refused(
    wrong: str, recipe_path: Path, tiny: PruningContext, tmp_path: Path
) -> None:
    text, path = recipe_path.read_text("utf-8"), tmp_path / "small.yaml"
    messages = {
        "missing": "small.npy cannot be read .No such file or directory.; the recipe needs it beside its own file",
        "changed": "small.npy is not the recipe's: its SHA-256 is .*, expected ",
        "text": "small.npy is no NumPy file",
        "shape": r"small.npy holds float64 of shape \(2, 3\); expected a float32 square",
    }
    if wrong != "missing":
        numpy.save(tmp_path / "small.npy", numpy.zeros((2, 3)))
    if wrong == "text":
        (tmp_path / "small.npy").write_text("no matrix", "utf-8")
    if wrong in ("text", "shape"):
        digest = hashlib.sha256((tmp_path / "small.npy").read_bytes()).hexdigest()
        linear_map = load_recipe(str(recipe_path)).linear_map
        assert linear_map is not None
        text = text.replace(linear_map.sha256, digest)
    path.write_text(text, "utf-8")
    with pytest.raises(RecipeError, match=messages[wrong]):
        PrunedHFLM(tiny.pretrained, recipe=str(path), dtype="float32", device="cpu", journal="off").model  # noqa: B018


@pytest.mark.parametrize(
    ("kind", "fields", "exact"),
    [
        ("qwen3", {}, True),
        ("granite", {"residual_multiplier": 0.3}, True),  # what the network adds is scaled
        ("mixtral", {}, True),  # experts
        ("gemma2", {}, False),  # a norm follows the network
        ("gpt2", {}, False),  # its last projection is stored the other way round
    ],
)
def test_a_map_is_folded_exactly_or_refused(kind: str, fields: dict[str, Any], exact: bool, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(write_checkpoint(kind, tmp_path, **fields))
    if exact:
        ensure_map_exact(config, 2)
        return
    with pytest.raises(ArchitectureError, match="cannot be multiplied into the feed-forward network of layer 2"):
        ensure_map_exact(config, 2)


def test_experts_in_one_tensor_are_refused(tmp_path: Path) -> None:
    linear_map = save_map(0, torch.eye(4), tmp_path)
    with pytest.raises(ArchitectureError, match=r"experts.down_proj has the shape \(2, 4, 3\), so a linear map"):
        MappedTensor(InMemory(torch.zeros(2, 4, 3)), "model.layers.0.mlp.experts.down_proj", linear_map)[...]


@pytest.mark.parametrize(
    ("remove", "parameters", "message"),
    [
        (6, {}, "from 1 to 5 of the model's 6 layers"),
        (5, {"latter_barrier": 1}, "keeps the first layer, because the map follows one"),
        (1, {"alpha": -1.0}, "alpha=-1.0: must not be negative"),
    ],
)
def test_impossible_requests_are_refused(
    remove: int, parameters: dict[str, object], message: str, tiny: PruningContext
) -> None:
    with pytest.raises(ArgumentError, match=message):
        choose(tiny, "replaceme", [remove], parameters)


def test_too_few_tokens_are_refused(tiny_model: Path) -> None:
    context = context_of(tiny_model, samples=1)
    context.max_tokens = 5
    with pytest.raises(ArgumentError, match=r"alpha=0\.0: 5 tokens don't determine a map of width"):
        choose(context, "replaceme", [1], {"alpha": 0.0})
    assert choose(context, "replaceme", [1], {})[1].linear_map, "the identity is what it is pulled to"


def test_the_first_layer_stays(tiny: PruningContext) -> None:
    assert choose(tiny, "replaceme", [5], {})[5].drop == (1, 2, 3, 4, 5)
    assert choose(tiny, "replaceme", [1], {"early_barrier": 3})[1].drop[0] >= 3


def test_an_adapter_of_the_base_is_refused(recipe_path: Path, tiny: PruningContext, tmp_path: Path) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": tiny.pretrained, "target_modules": ["q_proj"]}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), "utf-8")
    names = [f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_A.weight" for layer in range(LAYERS)]
    save_file({name: torch.zeros(1) for name in names}, tmp_path / "adapter_model.safetensors")
    recipe = load_recipe(str(recipe_path))
    with pytest.raises(ArgumentError, match="a linear map stands in for layers"):
        fitted_adapter(str(tmp_path), "main", tiny.pretrained, recipe, LAYERS, tmp_path / "scratch")


def test_an_adapter_that_was_trained_for_another_map_is_refused(recipe_path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(recipe_path))
    other = recipe.model_copy(update={"linear_map": save_map(recipe.drop[0] - 1, torch.eye(8), tmp_path)})
    for trained, right in ((recipe, True), (other, False)):
        (tmp_path / MARK).write_text(json.dumps({"left_out": layers_left_out(trained)}), "utf-8")
        with (
            nullcontext()
            if right
            else pytest.raises(ArgumentError, match=r"was trained for a model with .*linear_map=")
        ):
            _check_trained_for(str(tmp_path), recipe)


def test_vllm_gets_the_map(recipe_path: Path) -> None:
    """As JSON, which is what vLLM sends to its workers."""
    recipe = load_recipe(str(recipe_path))
    changes = TypeAdapter(Changes)
    assert changes.validate_python(json.loads(changes.dump_json(recipe.changes))) == recipe.changes


@pytest.mark.long
def test_on_a_real_model_the_map_keeps_more_than_dropping_does(smollm2: PruningContext) -> None:
    """The mean loss on texts that the map was not fitted to."""
    texts = calibration("embedded").texts
    fit, held_out = (context_with(smollm2, Calibration("half", some)) for some in (texts[::2], texts[1::2]))
    recipe = choose(fit, "replaceme", [3], {})[3]
    kept = [layer for layer in range(fit.depth) if layer not in recipe.drop]
    losses = [
        mean_loss(load_pruned(fit.pretrained, fit.config, kept, changes=changes).eval(), held_out.batches())
        for changes in (NO_CHANGES, recipe.changes)
    ]
    assert losses[1] < losses[0]


def context_with(context: PruningContext, texts: Calibration) -> PruningContext:
    """A context of the same model with other texts."""
    other = PruningContext(context.pretrained, context.config, lambda: texts, max_tokens=512)
    vars(other)["model"] = context.model
    return other
