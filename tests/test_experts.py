"""Experts that are dropped while loading: the rest computes what the whole model does when it never chooses them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from examples.tiny_chain import _accuracy
from lm_eval_ext.errors import ArchitectureError, ArgumentError, RecipeError, TTSError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.paths import TINY_MOE_CHAIN
from lm_eval_ext.pruning import experts as experts_module
from lm_eval_ext.pruning.blocks import Blocks
from lm_eval_ext.pruning.checkpoint import NO_CHANGES, Changes, InMemory, KeptRows, kept_tensors
from lm_eval_ext.pruning.expert_verification import find_experts, never_chosen
from lm_eval_ext.pruning.experts import Dropped, KeptExperts, Rows, kept_experts
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.lineage import lineage
from lm_eval_ext.pruning.loading import (
    checkpoint_fingerprint,
    fingerprint,
    load_pruned,
    sliced_by,
    with_experts,
)
from lm_eval_ext.pruning.quantization import sliced_quantization
from lm_eval_ext.pruning.recipe import Recipe, load_recipe, parse_experts
from tests.checkpoints import LAYERS, write_checkpoint
from tests.quantized import write_mxfp4
from tests.shared import case_table, one_line
from tests.tokenizers import TEMPLATE, byte_tokenizer

IDS = torch.arange(3, 35).reshape(2, 16)
KINDS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 8, "decoder_sparse_step": 1, "mlp_only_layers": []},
    "gpt_oss": {"num_local_experts": 8},
    "mixtral": {"num_local_experts": 8},
    "deepseek_v3": {
        "n_routed_experts": 8, "n_group": 2, "topk_group": 1,
        "first_k_dense_replace": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 8,
        "qk_nope_head_dim": 8, "moe_intermediate_size": 24, "num_key_value_heads": 4,
    },
}  # fmt: skip
EVEN: dict[int, tuple[int, ...]] = {
    layer: ((layer) % 4, 4 + (layer + 1) % 4) for layer in range(LAYERS)
}  # one of each group of four
UNEVEN: dict[int, tuple[int, ...]] = {0: (1, 2, 5), 2: (7,), 5: (0, 1, 2, 3)}


def checkpoint(kind: str, folder: Path, **extra: Any) -> Path:
    return write_checkpoint(kind, folder, **{"num_experts_per_tok": 2, **KINDS[kind], **extra})


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found.float()


def of_layers(kind: str, dropped: Dropped) -> Dropped:
    dense = KINDS[kind].get("first_k_dense_replace", 0)
    return {layer: experts for layer, experts in dropped.items() if layer >= dense}


def loaded(folder: Path, dropped: Dropped, kept: tuple[int, ...] = tuple(range(LAYERS)), **options: Any) -> Any:
    given = {"dtype": torch.float32, **options}
    return load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, experts=dropped, **given)


def expected_of(folder: Path, dropped: Dropped, **options: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the whole model, and of the whole model that never chooses the dropped experts."""
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, **{"dtype": torch.float32, **options}).eval()
    before = logits(model)
    with never_chosen(model, kept_experts(config, find_experts(config), dropped)):
        return before, logits(model)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_a_router_that_never_chooses_them(kind: str, tmp_path: Path) -> None:
    folder, dropped = checkpoint(kind, tmp_path), of_layers(kind, EVEN)
    whole, expected = expected_of(folder, dropped)
    assert (whole - expected).abs().max() > 0.01
    short = loaded(folder, dropped)
    assert torch.allclose(logits(short), expected, atol=1e-4)
    ids = short.generate(IDS, max_new_tokens=8, do_sample=False, use_cache=True)
    assert torch.equal(ids, short.generate(IDS, max_new_tokens=8, do_sample=False, use_cache=False))


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
def test_layers_may_lose_different_numbers(kind: str, tmp_path: Path) -> None:
    folder = checkpoint(kind, tmp_path)
    _, expected = expected_of(folder, UNEVEN)
    short = loaded(folder, UNEVEN)
    assert torch.allclose(logits(short), expected, atol=1e-4)


def test_together_with_layers_and_blocks(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path / "whole")
    dropped = {layer: (layer, 7) for layer in range(LAYERS) if layer != 3}
    short = loaded(folder, dropped, (0, 1, 2, 4, 5), blocks=Blocks(attention=(1,)))
    steps = loaded(folder, {}, (0, 1, 2, 4, 5), blocks=Blocks(attention=(1,)))
    config = AutoConfig.from_pretrained(folder)
    kept = kept_experts(config, find_experts(config), dropped).within((0, 1, 2, 4, 5))
    with never_chosen(steps, KeptExperts(find_experts(config), kept)):
        expected = logits(steps)
    assert torch.allclose(logits(short), expected, atol=1e-4)
    assert short.num_parameters() < steps.num_parameters()


@pytest.mark.parametrize("options", [{"tie_word_embeddings": True}, {"shard_size": "10KB"}, {"shard_size": "5GB"}])
def test_tied_and_sharded_checkpoints(options: dict[str, Any], tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path, **options)
    assert torch.allclose(logits(loaded(folder, EVEN)), expected_of(folder, EVEN)[1], atol=1e-4)


def test_in_bfloat16(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path)
    _, expected = expected_of(folder, EVEN, dtype=torch.bfloat16)
    assert torch.equal(logits(loaded(folder, EVEN, dtype=torch.bfloat16)), expected)


def test_a_checkpoint_with_fused_experts_under_the_names_in_memory(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path)
    _, expected = expected_of(folder, EVEN)
    tensors = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for path in folder.glob("model*"):
        path.unlink()
    save_file(
        {name: tensor.clone() for name, tensor in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    assert any(name.endswith("experts.gate_up_proj") for name in tensors)
    assert torch.allclose(logits(loaded(folder, EVEN)), expected, atol=1e-4)


def test_dropped_experts_are_not_read(tmp_path: Path) -> None:
    """Of tensors of their own nothing, and of a fused one only the rows that are kept."""
    single, fused = (checkpoint(kind, tmp_path / kind, shard_size="5GB") for kind in ("qwen3_moe", "gpt_oss"))
    for folder, name in ((single, "model.layers.0.mlp.experts.4.up_proj.weight"), (fused, None)):
        config = AutoConfig.from_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        for key, tensor in tensors.items():
            if name is None and key.startswith("model.layers.0.mlp.experts."):
                tensor[0] = float("nan")
        if name is not None:
            index = sorted(int(key.split(".")[5]) for key in tensors if key.startswith("model.layers.0.mlp.experts."))
            assert max(index) == 7
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        from contextlib import ExitStack

        with ExitStack() as files:
            changes = with_experts(NO_CHANGES, config, dict.fromkeys(range(LAYERS), (0,)))
            kept = kept_tensors(str(folder), range(LAYERS), changes, {}, files)
            assert not any(torch.isnan(tensor[...].float()).any() for tensor in kept.values())
            assert sum(tensor[...].numel() for tensor in kept.values()) < sum(map(torch.numel, tensors.values()))


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss", "deepseek_v3"])
@pytest.mark.parametrize("broken", ["rows", "order"])
def test_the_check_sees_experts_that_are_mixed_up(
    kind: str, broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(kind, tmp_path, rope_theta=12345.0 if broken == "rows" else 23456.0)  # not checked before
    right = KeptExperts.rows_of

    def rows_of(self: KeptExperts, name: str, shape: Any) -> Rows | None:
        rows = right(self, name, shape)
        if rows is None or not name.endswith(("weight", "router.weight", "bias")):
            return rows
        first = tuple(range(len(rows.parts))) if broken == "rows" else rows.parts[::-1]
        return rows._replace(parts=first)

    monkeypatch.setattr(KeptExperts, "rows_of", rows_of)
    with pytest.raises(ArchitectureError, match="could not show that this is exact"):
        loaded(folder, of_layers(kind, EVEN))


def test_the_check_sees_wrong_correction_biases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = checkpoint("deepseek_v3", tmp_path, rope_theta=34567.0)
    right = KeptExperts.rows_of

    def rows_of(self: KeptExperts, name: str, shape: Any) -> Rows | None:
        rows = right(self, name, shape)
        wrong = rows is not None and name.endswith("e_score_correction_bias")
        return rows._replace(parts=tuple(range(len(rows.parts)))) if rows and wrong else rows

    monkeypatch.setattr(KeptExperts, "rows_of", rows_of)
    with pytest.raises(ArchitectureError, match="could not show that this is exact"):
        loaded(folder, of_layers("deepseek_v3", EVEN))


@pytest.mark.parametrize(("kind", "dropped", "said"), case_table("wrong_arguments.yaml")["experts"])
def test_what_cannot_be_dropped_is_one_line(kind: str, dropped: Dropped, said: str, tmp_path: Path) -> None:
    with one_line(ArgumentError, match=said.replace("+", r"\+")):
        loaded(checkpoint(kind, tmp_path), dropped)


def test_a_model_without_experts_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ArchitectureError, match="a llama model has no experts"):
        loaded(tiny_model, {0: (1,)})


def test_through_lm_eval_and_as_an_export(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path / "base", vocab_size=300, max_position_embeddings=512)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    lm = PrunedHFLM(str(folder), drop_experts="{0-4: 3+7, 5: [0, 1]}", journal="off", batch_size=2)
    kept = {**dict.fromkeys(range(5), (3, 7)), 5: (0, 1)}
    assert torch.allclose(logits(lm.model), expected_of(folder, kept)[1], atol=1e-4)
    info = lm.get_model_info()["pruning"]
    assert info["dropped_experts"] == {**{str(layer): "3+7" for layer in range(5)}, "5": "0-1"}
    assert info["experts"] == 48 and info["dropped_layers"] == [] and info["method"] == "selection"
    costs = lm.get_model_info()["costs"]
    assert costs["parameters"] < info["parameters_before"] and costs["parameters"] == info["parameters_after"]
    whole = PrunedHFLM(str(folder), journal="off").get_model_info()
    router = 2 * LAYERS * 32  # rows of the router; the experts that a token is given to are as many
    assert whole["costs"]["active_parameters"] - costs["active_parameters"] == router
    assert whole["pruning"]["model_fingerprint"] != info["model_fingerprint"]
    recipe = Recipe(base=str(folder), drop_experts=kept, method="by hand", source="test")
    out = export(recipe, tmp_path / "out")
    read = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert torch.equal(logits(read), logits(lm.model)) and read.config.num_experts == 6
    assert "12 experts of 6 layers" in (out / "README.md").read_text()
    assert load_recipe(str(out / "recipe.yaml")).drop_experts == kept


def test_different_numbers_are_not_exported_nor_loaded_by_vllm(tmp_path: Path) -> None:
    from lm_eval_ext.pruning.vllm_loader import engine_arguments

    folder = checkpoint("qwen3_moe", tmp_path / "base")
    recipe = Recipe(base=str(folder), drop_experts=UNEVEN, method="by hand", source="test")
    with pytest.raises(ArchitectureError, match="one number of experts for all layers, but 4 to 8 are kept"):
        export(recipe, tmp_path / "out")
    config = AutoConfig.from_pretrained(folder)
    with pytest.raises(ArchitectureError, match="vLLM takes one number of experts"):
        engine_arguments(str(folder), config, sliced_by(recipe, str(folder), config, {}), {})


def test_forms_of_the_argument_and_the_name_of_a_run(tmp_path: Path) -> None:
    expected = {0: (3, 7, 8, 9), 1: (2, 5)}
    for value in (
        "{0: 3+7-9, 1: 2+5}",
        {0: "3+7-9", 1: [2, 5]},
        {"1": "2+5", "0": [3, 7, 8, 9]},
        "0:3+7-9,1:[2,5]",
        "[0: 3+7-9, 1: 2+5]",
    ):
        assert parse_experts(value) == expected
    name = run_name("m", "pretrained=m,drop_experts=[0: 3+7-9, 1: 2+5]")
    recipe = Recipe(base="m", drop_experts=expected, method="by hand", source="s")
    path = recipe.save(tmp_path / "r.yaml")
    assert name.startswith("m-experts6-") and name == run_name("m", {"pretrained": "m", "recipe": str(path)})
    assert load_recipe(str(path)).digest == recipe.digest and "0: 3+7-9" in path.read_text().replace("'", "")
    other = recipe.model_copy(update={"drop_experts": {0: (1,)}})
    assert other.digest != recipe.digest


def test_with_another_choice_in_model_args(tiny_model: Path) -> None:
    with pytest.raises(TTSError, match="contradict each other"):
        PrunedHFLM(str(tiny_model), drop_experts={0: 1}, prune="reverse:1", journal="off")


def test_what_another_process_gets_is_the_same() -> None:
    axes = {"mlp.gate.weight": experts_module.Axis(0), "ffn.w1": experts_module.Axis(0, blocks=True)}
    kept = KeptExperts(experts_module.ExpertTensors(4, (0, 2), axes, single=True), {0: (1, 2), 2: (0, 3)})
    changes = TypeAdapter(Changes)
    sent = json.dumps(changes.dump_python(Changes({1: {1: 0.5, 2: 0.5}}, experts=kept), mode="json"))
    assert changes.validate_python(json.loads(sent)) == Changes({1: {1: 0.5, 2: 0.5}}, experts=kept)
    tensor = torch.arange(12.0).reshape(6, 2)
    rows = kept.rows_of("model.layers.2.mlp.gate.weight", (6, 2))
    assert rows is not None
    assert KeptRows(InMemory(tensor), rows)[...].equal(tensor[[0, 3, 4, 5]]), "the last rows belong to none"
    rows = kept.rows_of("model.layers.0.ffn.w1", (8, 3))
    assert rows is not None
    assert KeptRows(InMemory(torch.arange(8.0)[:, None]), rows)[...].flatten().tolist() == [2, 3, 4, 5]
    assert kept.renamed("model.layers.0.mlp.experts.2.up_proj.weight") == "model.layers.0.mlp.experts.1.up_proj.weight"
    assert kept.renamed("model.layers.0.mlp.experts.3.up_proj.weight") is None


def test_packed_experts_follow(tmp_path: Path) -> None:
    """MXFP4, whose blocks and scales stand under longer names than the experts' own tensors."""
    folder, dropped = write_mxfp4(tmp_path), {layer: (layer % 4,) for layer in range(LAYERS)}
    _, expected = expected_of(folder, dropped)
    assert torch.allclose(logits(loaded(folder, dropped)), expected, atol=1e-4)


def test_settings_of_single_experts_follow() -> None:
    names = [f"model.layers.{layer}.mlp.experts.{e}.down_proj.weight" for layer in range(3) for e in range(4)]
    tensors = experts_module.ExpertTensors(4, (0, 1, 2), {}, single=True)
    kept = KeptExperts(tensors, {0: (1, 3), 1: (0, 1), 2: (1, 2)})

    def sliced(entries: list[str]) -> Any:
        fields = {"quant_method": "compressed-tensors", "ignore": entries}
        return sliced_quantization(fields, names, (0, 2), changes=Changes(experts=kept))["ignore"]

    assert sliced(["re:.*down_proj$"]) == ["re:.*down_proj$"], "all experts are treated alike"
    assert sliced(["model.layers.0.mlp.experts.3.down_proj"]) == ["model.layers.0.mlp.experts.1.down_proj"]
    assert sliced(["model.layers.0.mlp.experts.0.down_proj", "model.layers.1.mlp.experts.1.down_proj"]) == []
    assert sliced([r"re:.*experts\.1\..*"]) == [
        "model.layers.0.mlp.experts.0.down_proj", "model.layers.1.mlp.experts.0.down_proj",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["qwen3_moe", "gpt_oss"])
def test_another_expert_is_another_model_for_the_journal(kind: str, tmp_path: Path) -> None:
    """Also where experts are more than the values that are looked at of a tensor."""
    many = {"num_experts": 128} if kind == "qwen3_moe" else {"num_local_experts": 128}
    folder = checkpoint(kind, tmp_path, moe_intermediate_size=16, num_hidden_layers=2, **many)
    config = AutoConfig.from_pretrained(folder)
    inside, stored = set(), set()
    for expert in (60, 61, 62, 63, 64):
        dropped = dict.fromkeys(range(2), (expert,))
        inside.add(fingerprint(loaded(folder, dropped, (0, 1))))
        changes = with_experts(NO_CHANGES, config, dropped)
        stored.add(checkpoint_fingerprint(str(folder), config, (0, 1), "main", changes))
    assert len(inside) == len(stored) == 5


def test_different_numbers_with_blocks_left_out(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path, vocab_size=300)
    byte_tokenizer(TEMPLATE).save_pretrained(folder)
    lm = PrunedHFLM(str(folder), drop_experts="{0-2: 1+5}", drop_attention="0", journal="off")
    config = AutoConfig.from_pretrained(folder)
    whole = loaded(folder, {}, blocks=Blocks(attention=(0,)))
    with never_chosen(whole, kept_experts(config, find_experts(config), dict.fromkeys(range(3), (1, 5)))):
        assert torch.allclose(logits(lm.model), logits(whole), atol=1e-4)


def test_a_list_says_how_many_experts_a_token_is_given_to(tmp_path: Path) -> None:
    folder = write_checkpoint("hunyuan_v1_moe", tmp_path, num_experts=8, moe_topk=[3] * LAYERS, vocab_size=300)
    with pytest.raises(ArgumentError, match="a token is given to 3 experts, but only 2 would be left"):
        loaded(folder, dict.fromkeys(range(LAYERS), tuple(range(6))))


def test_a_router_that_is_trained_is_no_hindrance(tmp_path: Path) -> None:
    folder = checkpoint("qwen3_moe", tmp_path, output_router_logits=True)
    assert loaded(folder, EVEN).num_parameters() and loaded(folder, UNEVEN).num_parameters()


def test_a_checkpoint_with_fewer_experts_is_pruned(tmp_path: Path) -> None:
    base = checkpoint("qwen3_moe", tmp_path / "base")
    recipe = Recipe(base=str(base), drop_experts=EVEN, method="by hand", source="test")
    assert lineage(str(export(recipe, tmp_path / "out")), {}, None, str(base)).relation == "pruned"


@pytest.mark.parametrize(
    ("written", "said"),
    [("{0: 1, 0: 2}", "drop_experts.0 is given twice"), ("{0: 1:30}", "'1:30' is not an expert index")],
)
def test_yaml_is_read_as_it_is_written(written: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"base: m\nmethod: x\nsource: s\ndrop_experts: {written}\n")
    with pytest.raises(RecipeError, match=said):
        load_recipe(str(path))
    path.write_text("base: m\nmethod: x\nsource: s\ndrop_experts: {0: 010+3, 1: [2, 5]}\n")
    assert load_recipe(str(path)).drop_experts == {0: (3, 10), 1: (2, 5)}


def test_the_embedded_mixture_reasons() -> None:
    """Twenty chains of 24 steps, which it can't do with half of its experts."""
    lm = PrunedHFLM("tiny-moe-chain", journal="off")
    assert lm.model.config.num_experts == 8 and lm.model.num_parameters() == 208_672
    assert _accuracy(lm.model, lm.tokenizer, 24, 20) >= 0.95
    half = loaded(TINY_MOE_CHAIN, dict.fromkeys(range(LAYERS), (0, 1, 2, 3)))
    assert _accuracy(half, lm.tokenizer, 24, 20) < 0.5
