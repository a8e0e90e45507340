"""Dropping layers of quantized checkpoints: what is loaded equals the quantized model with these layers left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, strategies
from lm_eval.api.instance import Instance
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.packing import FP8, MIXED, OVERLAPPING, W4A16, W8A8, fp8, int4, int8, pack_checkpoint
from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.architecture import renamed_tensor
from lm_eval_ext.pruning.checkpoint import Changes, weight_bytes
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.quantization import REFUSED, check_quantization, for_vllm, parse_quantize, sliced_quantization
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.selection import choose
from tests.checkpoints import LAYERS, write_checkpoint
from tests.contexts import context_of
from tests.quantized import IDS, KEPT, dense, logits, pruned, without, write_mxfp4, write_quantized
from tests.shared import case_table, one_line
from tests.tokenizers import TEMPLATE, byte_tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("quantized")
    return {
        "w8a8": write_quantized(root / "w8a8", W8A8, int8),
        "mixed": write_quantized(root / "mixed", MIXED, int8),
        "overlapping": write_quantized(root / "overlapping", OVERLAPPING, int8),
        "fp8": write_quantized(root / "fp8", FP8, fp8),
        "mxfp4": write_mxfp4(root / "mxfp4"),
    }


@pytest.mark.parametrize("name", ["w8a8", "mixed", "overlapping", "w4a16", "fp8", "mxfp4"])
def test_a_packed_checkpoint_without_layers(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    if name in ("w8a8", "mixed", "w4a16"):
        pytest.importorskip("compressed_tensors", reason="compressed-tensors is not installed")
    folder = write_quantized(tmp_path / name, W4A16, int4) if name == "w4a16" else folders[name]
    whole, expected = without(folder, KEPT)
    assert (whole - expected).abs().max() > 0.1, "the layers matter"
    assert torch.equal(logits(pruned(folder, KEPT)), expected)
    recipe = Recipe(base=str(folder), drop=(1, 4), method="by hand", source="test")
    exported = export(recipe, tmp_path / "exported")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(exported, dtype=torch.float32)), expected)


def test_what_the_entries_of_a_layer_say_follows_it(folders: dict[str, Path]) -> None:
    config = json.loads((folders["mixed"] / "config.json").read_text())["quantization_config"]
    names = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in range(LAYERS) for part in ("up", "down")]
    sliced: Any = sliced_quantization(config, [*names, "lm_head.weight"], (1, 4, 5))
    up_and_down = [f"model.layers.{layer}.mlp.{part}_proj" for layer in (0, 1, 2) for part in ("down", "up")]
    assert sliced["config_groups"]["group_0"]["targets"] == up_and_down[:2]
    assert sorted(sliced["config_groups"]["group_1"]["targets"]) == up_and_down[2:]
    assert sliced["ignore"] == ["lm_head", "model.layers.1.mlp.down_proj"]
    late: Any = sliced_quantization(config, names, (4, 5))
    assert "group_0" not in late["config_groups"]


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
    sliced: Any = sliced_quantization({"quant_method": method, "modules_to_not_convert": entries}, names, layers)
    for module in MODULES:
        new = renamed_tensor(f"{module}.weight", layers)
        if new is not None:
            before = any(matches(entry, module) for entry in entries)
            after = any(matches(entry, new.removesuffix(".weight")) for entry in sliced["modules_to_not_convert"])
            assert before == after, (module, entries, sliced)


@pytest.mark.parametrize(
    "odd",
    [
        {"quant_method": "mystery", "rules": {"model.layers.3.mlp": {"bits": 8}}},
        {"quant_method": "mystery", "rules": [["model.layers.3.mlp"]]},
        {"quant_method": "compressed-tensors", "ignore": [r"re:.*layers\.[3"]},
    ],
)
def test_what_names_a_layer_in_another_way_is_refused(odd: dict[str, Any]) -> None:
    names = [f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(6)]
    with pytest.raises(ArchitectureError, match=r"layers of this checkpoint cannot be dropped"):
        sliced_quantization(odd, names, KEPT)


def test_names_of_layers_within_a_multimodal_model_are_refused() -> None:
    names = [f"language_model.model.layers.{layer}.mlp.up_proj.weight" for layer in range(6)]
    everywhere: dict[str, Any] = {"quant_method": "fp8", "modules_to_not_convert": ["lm_head", "re:.*up_proj"]}
    assert sliced_quantization(everywhere, names, KEPT, nested=True) == everywhere
    for entry in ("language_model.model.layers.3.mlp.up_proj", "model.language_model.layers.3.mlp.up_proj"):
        by_layer = {"quant_method": "fp8", "modules_to_not_convert": [entry]}
        with pytest.raises(ArchitectureError, match="layers of this multimodal checkpoint cannot be dropped"):
            sliced_quantization(by_layer, names, KEPT, nested=True)


def test_a_setting_of_one_module_is_not_that_of_another_with_a_longer_name() -> None:
    names = [f"model.layers.{layer}.mlp.{part}.weight" for layer in range(3) for part in ("gate", "gate_proj")]
    fields = {"quant_method": "gptq", "dynamic": {r"model\.layers\.2\.mlp\.gate$": {"bits": 8}}}
    found: Any = sliced_quantization(fields, names, (0, 2))["dynamic"]
    (pattern,) = found
    assert re.match(pattern, "model.layers.1.mlp.gate") and not re.match(pattern, "model.layers.1.mlp.gate_proj")


def test_settings_in_modelopts_own_file_are_refused(tmp_path: Path) -> None:
    folder = dense(tmp_path)
    (folder / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "FP8"}}')
    with pytest.raises(ArchitectureError, match=r"its quantization is only described in hf_quant_config.json"):
        pruned(folder, KEPT)


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
    with pytest.raises(ArchitectureError, match="only weights that are not can be merged"):
        pruned(folders["fp8"], KEPT, changes=Changes({0: {0: 1.0, 1: 1.0}}))


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


# Quantized while loading -----------------------------------------------------------------------------------


def test_blocks_that_are_left_out_count_no_bytes(folders: dict[str, Path]) -> None:
    byte_tokenizer(TEMPLATE).save_pretrained(folders["fp8"])
    lms = [PrunedHFLM(str(folders["fp8"]), drop_mlp=drop, journal="off") for drop in (None, "0-3")]
    whole, less = (lm.get_model_info()["pruning"] for lm in lms)
    assert less["quantization"]["bytes"] < whole["quantization"]["bytes"]
    assert less["parameters_after"] < whole["parameters_after"]


def test_a_packed_checkpoint_is_not_quantized_again(folders: dict[str, Path]) -> None:
    byte_tokenizer(TEMPLATE).save_pretrained(folders["fp8"])
    with pytest.raises(ArgumentError, match="is quantized already, by fp8"):
        PrunedHFLM(str(folders["fp8"]), quantize="torchao:int8", journal="off")


# Weights that are quantized while they are loaded, or by other libraries ----------------------------------------------


ON_LOAD = ["bitsandbytes:nf4", "bitsandbytes:fp4", "bitsandbytes:int8", "torchao:int8", "quanto:int8", "quanto:int4"]


@pytest.mark.parametrize("quantize", ON_LOAD)
def test_weights_are_quantized_while_they_are_loaded(quantize: str, tmp_path: Path) -> None:
    package = {"quanto": "optimum.quanto"}.get(quantize.partition(":")[0], quantize.partition(":")[0])
    pytest.importorskip(package, reason=f"{package} is not installed")
    folder = dense(tmp_path)
    config = parse_quantize(quantize)
    assert config is not None
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=config.config(torch.float32)
    )
    whole = logits(model)
    lm = PrunedHFLM(str(folder), quantize=quantize, dtype="float32", journal="off")
    assert torch.equal(logits(lm.model), whole)
    info = lm.get_model_info()["pruning"]["quantization"]
    packed = {"4": 8, "8": 12}["4" if "4" in quantize else "8"]
    assert info["on_load"] == quantize and packed - 4 < info["bits"] < packed + 4, "embeddings are dense"
    model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in KEPT)
    model.config.num_hidden_layers = len(KEPT)
    short = PrunedHFLM(str(folder), quantize=quantize, drop_layers=[1, 4], dtype="float32", journal="off")
    assert torch.equal(logits(short.model), logits(model))
    request = Instance(
        "generate_until", {}, ("1+2=", {"thinking_token_budget": 4, "max_gen_toks": 8}), 0, metadata=("t", 0, 1)
    )
    assert short.generate_until([request], disable_tqdm=True)
    assert len({lm.fingerprint, short.fingerprint}) == 2


@pytest.mark.parametrize("skipped", [None, ["lm_head", "model.layers.4.mlp.down_proj"]])
def test_a_checkpoint_that_bitsandbytes_saved(skipped: list[str] | None, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.float32,
        llm_int8_skip_modules=skipped,
    )
    saved = tmp_path / "saved"
    base = dense(tmp_path / "dense")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, quantization_config=config).save_pretrained(saved)
    byte_tokenizer(TEMPLATE).save_pretrained(saved)
    _, expected = without(saved, KEPT)
    lm = PrunedHFLM(str(saved), drop_layers=[1, 4], base="org/dense", dtype="float32", journal="off")
    assert torch.equal(logits(lm.model), expected)
    before = lm.fingerprint
    lm.model(IDS)
    assert lm.fingerprint == before, "also after tensors were changed by a forward pass"
    info = lm.get_model_info()["pruning"]
    assert info["base"] == "org/dense" and info["checkpoint"] == str(saved) and info["dropped_layers"] == [1, 4]
    assert info["quantization"]["method"] == "bitsandbytes"


def test_load_in_4bit_works_as_it_did_before_transformers_5(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    folder = dense(tmp_path)
    lm = PrunedHFLM(str(folder), load_in_4bit=True, bnb_4bit_quant_type="nf4", dtype="float32", journal="off")
    assert lm.model.is_loaded_in_4bit and lm.get_model_info()["pruning"]["quantization"]["bits"] < 20


@pytest.mark.parametrize(("arguments", "words"), case_table("wrong_arguments.yaml")["quantize"])
def test_what_cannot_be_quantized_is_one_line(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with one_line(ArgumentError, words):
        PrunedHFLM(**{"pretrained": str(dense(tmp_path)), "journal": "off", **arguments})


@pytest.mark.parametrize(("arguments", "words"), case_table("wrong_arguments.yaml")["quantized"])
def test_what_would_be_quantized_otherwise_than_said_is_refused(
    arguments: dict[str, Any], words: str, tmp_path: Path
) -> None:
    pytest.importorskip("torchao")
    with pytest.raises(ArgumentError, match=words):
        _ = PrunedHFLM(str(dense(tmp_path)), journal="off", **arguments).model


@pytest.mark.parametrize("method", ["magnitude", "shortgpt", "attention"])
def test_methods_read_packed_weights_as_what_they_stand_for(method: str, tmp_path: Path) -> None:
    paths = dense(tmp_path / "dense"), pack_checkpoint(dense(tmp_path / "packed"), W8A8, int8)
    scores = [choose(context_of(path, samples=4), method, [1], {})[1].scores for path in paths]
    for plain, packed in zip(*scores, strict=True):
        assert packed is not None and plain is not None and packed == pytest.approx(plain, rel=0.1)


@pytest.mark.parametrize("method", ["magnitude", "taylor"])
def test_methods_that_read_weights_refuse_those_that_stay_packed(method: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    options = BitsAndBytesConfig(load_in_4bit=True)
    folder = tmp_path / "packed"
    whole = dense(tmp_path / "dense")
    AutoModelForCausalLM.from_pretrained(whole, quantization_config=options).save_pretrained(folder)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    with pytest.raises(ArchitectureError, match="unquantized model"):
        choose(context_of(folder, samples=2), method, [1], {})


def test_a_recipe_and_an_argument_do_not_quantize_both(tmp_path: Path) -> None:
    quantization = {"method": "quanto", "weights": "int4"}
    recipe = Recipe.model_validate({"base": str(dense(tmp_path)), "source": "s", "quantization": quantization})
    with pytest.raises(ArgumentError, match="contradict each other"):
        PrunedHFLM(recipe=str(recipe.save(tmp_path / "r.yaml")), quantize="quanto:int8", journal="off")
