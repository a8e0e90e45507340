"""Attention and MLP blocks that are left out: the rest computes what the whole model does when they add nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoConfig, AutoModelForCausalLM

from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.blocks import Blocks, check_zeros, silenced
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.loading import load_pruned, pruned_config
from lm_eval_ext.pruning.recipe import Recipe, load_recipe
from lm_eval_ext.pruning.sliced_model import parameter_count
from tests.checkpoints import LAYERS, write_checkpoint

IDS = torch.arange(3, 35).reshape(2, 16)
BLOCKS = Blocks(attention=(0, 3), mlp=(1, 3))


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=ids, use_cache=False).logits
    return found


def whole(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def without(folder: Path, blocks: Blocks, kept: tuple[int, ...] = tuple(range(LAYERS))) -> Any:
    return load_pruned(str(folder), AutoConfig.from_pretrained(folder), kept, blocks=blocks, dtype=torch.float32)


@pytest.mark.parametrize("kind", ["llama", "qwen3", "qwen3_moe", "gemma3_text", "gpt_oss", "olmo3"])
@pytest.mark.parametrize("blocks", [BLOCKS, Blocks(attention=(0, 1, 2, 4)), Blocks(mlp=tuple(range(LAYERS)))])
def test_logits_are_those_of_the_whole_model_with_silent_blocks(kind: str, blocks: Blocks, tmp_path: Path) -> None:
    folder = write_checkpoint(kind, tmp_path)
    model = whole(folder)
    with silenced(model, blocks):
        expected = logits(model)
    assert (logits(model) - expected).abs().max() > 0.01
    short = without(folder, blocks)
    assert torch.allclose(logits(short), expected, atol=1e-5)
    assert short.num_parameters() < model.num_parameters()
    ids = short.generate(IDS, max_new_tokens=12, do_sample=False, use_cache=True)
    assert torch.equal(ids, short.generate(IDS, max_new_tokens=12, do_sample=False, use_cache=False))


@pytest.mark.parametrize(
    ("kind", "blocks", "last", "fields"),
    [
        ("lfm2", Blocks(mlp=(0, 3)), "feed_forward.w2", {"layer_types": [*["conv", "full_attention"] * 3]}),
        ("opt", Blocks(attention=(0, 3)), "self_attn.out_proj", {"ffn_dim": 48, "word_embed_proj_dim": 32}),
    ],
)
def test_blocks_beside_parts_of_unknown_names(
    kind: str, blocks: Blocks, last: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    """A convolution beside a feed-forward network; two matrices beside attention. The rest is that with zeros."""
    folder = write_checkpoint(kind, tmp_path, **fields)
    model = whole(folder)
    for name, parameter in model.named_parameters():
        if last in name and any(f"layers.{layer}." in name for layer in (0, 3)):
            parameter.data.zero_()
    expected = logits(model)
    assert (logits(whole(folder)) - expected).abs().max() > 0.01
    assert torch.allclose(logits(without(folder, blocks)), expected, atol=1e-5)


def test_layers_and_blocks_together(tmp_path: Path) -> None:
    folder = write_checkpoint("llama", tmp_path)
    model = whole(folder)
    with silenced(model, BLOCKS):
        model.model.layers = torch.nn.ModuleList(model.model.layers[layer] for layer in (0, 1, 3, 5))
        model.config.num_hidden_layers = 4
        expected = logits(model)
    assert torch.allclose(logits(without(folder, BLOCKS, (0, 1, 3, 5))), expected, atol=1e-5)
    with pytest.raises(ArgumentError, match="a block of layer 3 is to be dropped, but the model has no such layer"):
        without(folder, BLOCKS, (0, 1, 2))


def test_an_exported_model_has_zeros_and_the_same_logits(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen2", tmp_path / "base")
    recipe = Recipe(base=str(folder), drop=(2,), drop_attention=(0, 3), drop_mlp=(1,), method="by hand", source="test")
    exported = AutoModelForCausalLM.from_pretrained(export(recipe, tmp_path / "exported"), dtype=torch.float32)
    assert exported.model.layers[0].self_attn.o_proj.weight.abs().max() == 0
    assert exported.model.layers[2].self_attn.o_proj.weight.abs().max() == 0, "layer 3 of the base"
    assert torch.equal(logits(exported), logits(without(folder, recipe.blocks, (0, 1, 3, 4, 5))))
    config = AutoConfig.from_pretrained(folder)
    assert exported.num_parameters() == parameter_count(pruned_config(str(folder), config, (0, 1, 3, 4, 5), {}))


def test_zeros_that_are_not_the_same_are_not_exported(tmp_path: Path) -> None:
    """JetMoe adds a bias after its last projections."""
    folder = write_checkpoint("jetmoe", tmp_path / "base")
    recipe = Recipe(base=str(folder), drop_mlp=(1,), method="by hand", source="test")
    with pytest.raises(ArchitectureError, match="cannot be replaced by zeros in their last projections"):
        export(recipe, tmp_path / "exported")


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_blocks_that_also_return_the_scores_of_their_router(batch: int, tmp_path: Path) -> None:
    folder = write_checkpoint("gpt_oss", tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.arange(3, 3 + 6 * batch).reshape(batch, 6)
    with torch.no_grad(), silenced(model, Blocks(mlp=(1, 4))):
        expected = model(ids, use_cache=False).logits
    with torch.no_grad():
        found = without(folder, Blocks(mlp=(1, 4)))(ids, use_cache=False).logits
    assert torch.equal(found, expected)


def test_one_attention_block_must_be_kept(tmp_path: Path) -> None:
    folder = write_checkpoint("qwen2", tmp_path)
    with pytest.raises(ArgumentError, match="drop_attention: drops all 6 attention blocks; at least one must be kept"):
        without(folder, Blocks(attention=tuple(range(6))))


def test_what_has_no_known_last_projection_is_not_exported(tmp_path: Path) -> None:
    config = AutoConfig.for_model("llama", num_hidden_layers=2)
    names = ["model.layers.0.mlp.down_proj.weight", "model.layers.1.mlp.strange.weight"]
    check_zeros(config, Blocks(mlp=(0,)), names)
    with pytest.raises(ArchitectureError, match="the last projection of the mlp block in layer 1 is not known"):
        check_zeros(config, Blocks(mlp=(0, 1)), names)
    config.quantization_config = {"quant_method": "awq"}
    with pytest.raises(ArchitectureError, match="the weights are packed, so no zeros can be written"):
        check_zeros(config, Blocks(mlp=(0,)), names)


def requests(budget: int) -> list[Instance]:
    arguments = {"thinking_token_budget": budget, "until": [], "max_gen_toks": 60, "answer_token_budget": 20}
    made = [Instance("generate_until", {}, (text, arguments), 0, metadata=("t", 0, 1)) for text in ("1+2=", "what?")]
    return [*made, Instance("generate_until", {}, ("a longer prompt " * 4, arguments), 0, metadata=("t", 0, 1))]


def test_the_engine_gives_the_same_texts_in_any_batch(tiny_model: Path) -> None:
    lm = PrunedHFLM(str(tiny_model), drop_attention=[0, 4], drop_mlp="2-3", journal="off", batch_size=2)
    texts = [str(text) for text in lm.generate_until(requests(16), disable_tqdm=True)]
    alone = PrunedHFLM(str(tiny_model), drop_attention=[0, 4], drop_mlp="2-3", journal="off", batch_size=1)
    assert texts == [str(text) for text in alone.generate_until(requests(16), disable_tqdm=True)]
    info = lm.get_model_info()["pruning"]
    assert info["dropped_attention"] == [0, 4] and info["dropped_mlp"] == [2, 3] and info["dropped_layers"] == []
    assert info["parameters_after"] < info["parameters_before"]
    dense = PrunedHFLM(str(tiny_model), journal="off")
    assert dense.fingerprint != lm.fingerprint


def test_runs_are_named_after_what_is_left_out(tmp_path: Path) -> None:
    assert run_name("m", "pretrained=m,drop_attention=[3,4],drop_mlp=7") == "m-attention3-4-mlp7"
    path = Recipe(base="m", drop_attention=(1,), method="by hand", source="s").save(tmp_path / "r.yaml")
    assert run_name("x", {"recipe": str(path)}) == "m-attention1"
    digests = {load_recipe(str(path)).digest, Recipe(base="m", drop_mlp=(1,), method="by hand", source="s").digest}
    assert len(digests) == 2


def test_a_layer_that_adds_more_than_its_blocks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a norm behind a block whose bias is added even to zeros."""
    folder = write_checkpoint("llama", tmp_path)
    layer = AutoModelForCausalLM.from_pretrained(folder).model.layers[0].__class__
    theirs = layer.forward
    monkeypatch.setattr(layer, "forward", lambda self, *args, **kwargs: theirs(self, *args, **kwargs) + 0.1)
    config = AutoConfig.from_pretrained(folder)
    with pytest.raises(ArchitectureError, match=r"blocks of a llama model cannot be left out: .* does not pass its"):
        pruned_config(str(folder), config, tuple(range(LAYERS)), {}, blocks=Blocks(mlp=(1,)))
