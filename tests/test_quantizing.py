"""Weights that are quantized while they are loaded, or by other libraries, and pruning methods on packed weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from benchmarks.packing import W8A8, int8, pack_checkpoint
from lm_eval_ext.errors import ArchitectureError, ArgumentError
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.quantization import parse_quantize
from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.selection import choose
from tests.contexts import context_of
from tests.quantized import IDS, KEPT, dense, logits, without
from tests.shared import case_table
from tests.tokenizers import TEMPLATE, byte_tokenizer

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
    with pytest.raises(ArgumentError) as raised:
        PrunedHFLM(**{"pretrained": str(dense(tmp_path)), "journal": "off", **arguments})
    assert words in str(raised.value) and "\n" not in str(raised.value)


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
