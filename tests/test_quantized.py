"""Dropping layers of quantized checkpoints: what is loaded equals the quantized model with these layers left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError
from lm_eval_ext.pruning.architecture import renamed_tensor
from lm_eval_ext.pruning.checkpoint import weight_bytes
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.loading import load_pruned
from lm_eval_ext.pruning.quantization import REFUSED, check_quantization, for_vllm, sliced_quantization
from lm_eval_ext.pruning.recipe import Recipe
from tests.checkpoints import LAYERS, write_checkpoint
from tests.quantized import FP8, MIXED, W8A8, fp8, int8, write_quantized

KEPT = (0, 2, 3, 5)
IDS = torch.arange(3, 35).reshape(2, 16)


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found.float()


def without(folder: Path, kept: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the whole quantized model, and with layers taken out of it."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    whole = logits(model)
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in kept)
    model.config.num_hidden_layers = len(kept)
    return whole, logits(model)


def pruned(folder: Path, kept: Sequence[int], **options: Any) -> Any:
    return load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, dtype=torch.float32, **options)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("quantized")
    return {
        "w8a8": write_quantized(root / "w8a8", W8A8, int8),
        "mixed": write_quantized(root / "mixed", MIXED, int8),
        "fp8": write_quantized(root / "fp8", FP8, fp8),
    }


@pytest.mark.parametrize("name", ["w8a8", "mixed", "fp8"])
def test_a_packed_checkpoint_without_layers(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    if name != "fp8":
        pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    folder = folders[name]
    whole, expected = without(folder, KEPT)
    assert (whole - expected).abs().max() > 0.1, "the layers matter"
    assert torch.equal(logits(pruned(folder, KEPT)), expected)
    recipe = Recipe(base=str(folder), drop=(1, 4), method="by hand", source="test")
    exported = export(recipe, tmp_path / "exported")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)), expected)


def test_what_the_entries_of_a_layer_say_follows_it(folders: dict[str, Path]) -> None:
    config = json.loads((folders["mixed"] / "config.json").read_text())["quantization_config"]
    names = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in range(LAYERS) for part in ("up", "down")]
    sliced = sliced_quantization(config, [*names, "lm_head.weight"], (1, 4, 5))
    up_and_down = [f"model.layers.{layer}.mlp.{part}_proj" for layer in (0, 1, 2) for part in ("down", "up")]
    assert sliced["config_groups"]["group_0"]["targets"] == up_and_down[:2]
    assert sorted(sliced["config_groups"]["group_1"]["targets"]) == up_and_down[2:]
    assert sliced["ignore"] == ["lm_head", "model.layers.1.mlp.down_proj"]
    assert "group_0" not in sliced_quantization(config, names, (4, 5))["config_groups"]


ENTRIES = strategies.sampled_from(
    ["lm_head", "q_proj", "model.layers.1.mlp", r"model\.layers\.[0-2]\.mlp\.up", "model.layers.*.self_attn",
     "model.layers.5.self_attn.q_proj", "layers.2.mlp.down", r".*layers\.(0|3)\..*", "Linear", "mlp.up"]
)  # fmt: skip
MODULES = [
    *(f"model.layers.{layer}.{part}" for layer in range(6) for part in ("self_attn.q_proj", "mlp.up", "mlp.down")),
    "lm_head", "model.embed_tokens",
]  # fmt: skip


@given(
    strategies.lists(ENTRIES, max_size=4),
    strategies.sets(strategies.integers(0, 5), min_size=1),
    strategies.sampled_from(["fp8", "compressed-tensors", "gptq"]),
)
def test_a_kept_module_is_treated_as_before(entries: list[str], kept: set[int], method: str) -> None:
    from lm_eval_ext.pruning import quantization

    if method == "compressed-tensors":
        entries = [f"re:{entry}" if "\\" in entry or "*" in entry else entry for entry in entries]
    layers = sorted(kept)
    matches = quantization._MATCHERS.get(method, quantization._as_regex_or_suffix)
    names = [f"{module}.weight" for module in MODULES]
    sliced = sliced_quantization({"quant_method": method, "modules_to_not_convert": entries}, names, layers)
    for module in MODULES:
        new = renamed_tensor(f"{module}.weight", layers)
        if new is not None:
            before = any(matches(entry, module) for entry in entries)
            after = any(matches(entry, new.removesuffix(".weight")) for entry in sliced["modules_to_not_convert"])
            assert before == after, (module, entries, sliced)


def test_gptqmodels_settings_by_module_stay_regular_expressions() -> None:
    fields = {"quant_method": "gptq", "dynamic": {r"-:.*layers\.2\..*": {}, r"+:.*q_proj": {"bits": 8}}}
    sliced = sliced_quantization(fields, [f"{module}.qweight" for module in MODULES], (2, 3))
    moved = [rf"-:model\.layers\.0\.{part}$" for part in (r"mlp\.down", r"mlp\.up", r"self_attn\.q_proj")]
    assert sliced["dynamic"] == {key: {} for key in moved} | {r"+:.*q_proj": {"bits": 8}}


def test_vllm_is_told_what_it_would_read_from_the_base() -> None:
    names = [f"{module}.{'weight' if 'embed' in module else 'qweight'}" for module in MODULES[:3]] + ["lm_head.weight"]
    gptq = for_vllm({"quant_method": "gptq"}, names)
    assert gptq["modules_in_block_to_quantize"] == sorted(MODULES[:3])
    assert for_vllm({"quant_method": "awq"}, names)["modules_to_not_convert"] == ["lm_head"]


@pytest.mark.parametrize("method", sorted(REFUSED))
def test_formats_that_cannot_are_refused_with_the_reason(method: str) -> None:
    config = AutoConfig.for_model("llama", quantization_config={"quant_method": method})
    with pytest.raises(ArchitectureError, match=f"quantized by {method} cannot be dropped: "):
        check_quantization(config)


def test_packed_weights_are_not_merged(folders: dict[str, Path]) -> None:
    with pytest.raises(ArchitectureError, match="cannot be merged"):
        pruned(folders["fp8"], KEPT, merged={0: {0: 1.0, 1: 1.0}})


def test_an_unknown_field_that_names_a_layer_is_refused() -> None:
    fields = {"quant_method": "fp8", "odd_places": {"first": "model.layers.0.mlp"}}
    with pytest.raises(ArchitectureError, match="'first' of its quantization_config names a layer"):
        sliced_quantization(fields, ["model.layers.0.mlp.up.weight"], (0,))


def test_bytes_are_those_that_are_stored(folders: dict[str, Path], tmp_path: Path) -> None:
    dense = write_checkpoint("llama", tmp_path / "dense")
    whole = sum(path.stat().st_size for path in dense.glob("*.safetensors"))
    found = weight_bytes(str(dense), range(LAYERS), {})
    assert whole * 0.9 < found < whole
    assert weight_bytes(str(folders["w8a8"]), KEPT, {}) < weight_bytes(str(folders["w8a8"]), range(LAYERS), {})
