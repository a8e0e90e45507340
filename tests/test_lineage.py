"""Models that were made from a base: what the results say of them, and how they are shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks.lm_eval_output import DEPTH, scores, write_output
from benchmarks.packing import W8A8, int8
from lm_eval_ext.analysis.board import entries
from lm_eval_ext.api import build_site
from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.pruned_hf import PrunedHFLM
from lm_eval_ext.pruning.export import export
from lm_eval_ext.pruning.lineage import Lineage, check_fits, lineage
from lm_eval_ext.pruning.quantization import Quantization
from lm_eval_ext.pruning.recipe import Recipe, Shape, load_recipe
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.site.overview import KINDS, _kind
from lm_eval_ext.site.rendering import Names
from tests.quantized import write_quantized

CARD = "---\nlicense: mit\nbase_model: {base}\nbase_model_relation: {relation}\n---\n# A model\n"


def info(**arguments: Any) -> dict[str, Any]:
    found: dict[str, Any] = PrunedHFLM(journal="off", **arguments).get_model_info()["pruning"]
    return found


def test_a_checkpoint_of_a_recipe_is_loaded_and_compared_with_its_base(tiny_model: Path, tmp_path: Path) -> None:
    recipe = Recipe(base="org/base", checkpoint=str(tiny_model), relation="pruned", source="https://example.org")
    found = info(recipe=str(recipe.save(tmp_path / "r.yaml")))
    assert (found["base"], found["relation"], found["checkpoint"]) == ("org/base", "pruned", str(tiny_model))
    assert found["method"] == "none" and found["dropped_layers"] == [] and len(found["kept_layers"]) == 6
    assert run_name("x", {"recipe": str(tmp_path / "r.yaml")}) == str(tiny_model)
    dropping = Recipe(
        base="org/base", checkpoint=str(tiny_model), relation="quantized", drop=(1,), method="by hand", source="s"
    )
    found = info(recipe=dropping)
    assert found["base"] == "org/base" and found["dropped_layers"] == [1] and len(found["kept_layers"]) == 5


def test_a_base_that_is_declared(tiny_model: Path) -> None:
    found = info(pretrained=str(tiny_model), base="org/base")
    assert (found["base"], found["relation"]) == ("org/base", "finetuned")
    assert info(pretrained=str(tiny_model)).keys().isdisjoint({"relation", "checkpoint"})


def test_another_model_with_the_layers_of_a_recipe_is_not_its_base(tiny_model: Path, tmp_path: Path) -> None:
    recipe = load_recipe("tiny-chain-attention-2")
    assert lineage("other/model", {}, recipe, None) == Lineage("other/model")
    assert lineage(str(tiny_model), {}, recipe, None) == Lineage(str(tiny_model)), "a folder of another shape"
    copy = shutil.copytree(recipe.pretrained, tmp_path / "copy")
    assert lineage(str(copy), {}, recipe, None) == Lineage("tiny-chain"), "a copy elsewhere"
    awq = load_recipe("qwen3-8b-awq")
    assert lineage("other/model", {}, awq, None) == Lineage("other/model")
    assert lineage("Qwen/Qwen3-8B-AWQ", {}, awq, None) == Lineage("Qwen/Qwen3-8B", "quantized")
    with pytest.raises(
        ArgumentError, match="base=org/x: the recipe says that its checkpoint was made from Qwen/Qwen3-8B"
    ):
        info(recipe="qwen3-8b-awq", base="org/x")
    with pytest.raises(ArgumentError, match="base= is empty"):
        lineage(str(tiny_model), {}, None, "")


def test_a_recipe_is_only_used_for_its_base(tiny_model: Path, tmp_path: Path) -> None:
    made: dict[str, Any] = {"base": "org/base", "drop": (1,), "method": "m", "source": "s"}
    shape = Shape(model_type="llama", layers=6, hidden_size=32)
    wider = shape.model_copy(update={"hidden_size": 64})
    scored = Recipe(**made, scores=(0.5,) * 36)
    recipes = {"qwen3, 36 layers": load_recipe("qwen3-8b-selection-3"), "hidden size 64": Recipe(**made, shape=wider)}
    for words, recipe in (recipes | {"with scores of 36 layers": scored}).items():
        said = rf"pretrained=.* \(llama, 6 layers, hidden size 32\) is not what the recipe is for: .*{words}"
        with pytest.raises(ArgumentError, match=said):
            info(pretrained=str(tiny_model), recipe=recipe)
        with pytest.raises(ArgumentError, match=said):
            export(recipe, tmp_path / "out", pretrained=str(tiny_model))
    copy = str(shutil.copytree(tiny_model, tmp_path / "copy"))
    for recipe in (Recipe(**made), Recipe(**made, shape=shape), Recipe(**made | {"base": str(tiny_model)})):
        assert info(pretrained=copy, recipe=recipe)["base"] == recipe.base, "a copy of the base"
    config = AutoConfig.from_pretrained(tiny_model)
    with pytest.raises(ArgumentError, match="whose shape is not known here, so only that model and local copies"):
        check_fits(Recipe(**made), "org/other", config)
    check_fits(Recipe(**made), "org/other", config, base="org/base")
    check_fits(Recipe(**made, shape=shape), "org/other", config)


def test_a_card_without_a_relation_says_quantized_if_the_weights_are(tmp_path: Path) -> None:
    folder = write_quantized(tmp_path / "packed", W8A8, int8)
    (folder / "README.md").write_text("---\ntags: [a---b]\nbase_model: org/dense\n---\n# Packed\n")
    assert lineage(str(folder), {}, None, None) == Lineage("org/dense", "quantized")


@pytest.mark.parametrize(
    ("base", "relation", "expected"),
    [
        ("org/base", "quantized", Lineage("org/base", "quantized")),
        ("[org/base]", "quantized", Lineage("org/base", "quantized")),
        ("[org/one, org/two]", "quantized", Lineage("HERE")),
        ("org/base", "finetune", Lineage("HERE")),
        ("org/base", "[odd]", Lineage("HERE")),
        ("{org: base}", "quantized", Lineage("HERE")),
    ],
)
def test_a_card_is_believed_if_it_says_quantized(base: str, relation: str, expected: Lineage, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(CARD.format(base=base, relation=relation))
    expected = expected._replace(base=expected.base.replace("HERE", str(tmp_path)))
    assert lineage(str(tmp_path), {}, None, None) == expected
    assert lineage(str(tmp_path), {}, None, "org/other") == Lineage("org/other", "finetuned")


@pytest.mark.parametrize("name", ["", "/no/such/folder", "not a name", "org/not-downloaded"])
def test_a_model_without_a_card_is_its_own_base(name: str) -> None:
    assert lineage(name, {"revision": "main"}, None, None) == Lineage(name)


def test_a_model_that_was_loaded_elsewhere_has_its_information(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert info(pretrained=model, tokenizer=AutoTokenizer.from_pretrained(tiny_model))["base"] == ""


def test_digests_cover_all_that_changes_the_model_and_old_ones_stay() -> None:
    made: dict[str, Any] = {"base": "org/base", "source": "s", "method": "m"}
    old = Recipe(**made, drop=(1, 2))
    others = [
        Recipe(**made, drop_attention=(1, 2)),
        Recipe(**made, drop_mlp=(1, 2)),
        Recipe(**made, drop_experts={1: (2,)}),
        Recipe(**made, drop=(1, 2), checkpoint="org/x", relation="quantized"),
        Recipe(**made, drop=(1, 2), quantization=Quantization(method="quanto", weights="int4")),
        Recipe(**made, drop=(1, 2), quantization=Quantization(method="quanto", weights="int8")),
    ]
    assert old.digest == "f1a3ebb4521d8bd9"
    assert len({old.digest, *(recipe.digest for recipe in others)}) == 7


def test_the_site_shows_each_kind_with_its_base(tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.5, 30, 3)}
    kept = {"method": "none", "dropped_layers": [], "kept_layers": list(range(DEPTH)), "base": "Org/Model-8B"}
    packed = {"method": "awq", "bits": 4.62, "bytes": 5_000_000}
    shapes: dict[str, dict[str, Any]] = {
        "base": {},
        "quantized": {"checkpoint": "Org/Model-8B-AWQ", "relation": "quantized", "quantization": packed},
        "on-load": {"quantization": packed | {"method": "quanto", "on_load": "quanto:int4"}},
        "published": {"checkpoint": "Lab/Short-8B", "relation": "pruned"},
        "blocks": {"method": "joint", "dropped_attention": [3, 4], "dropped_mlp": [7]},
        "experts": {"method": "reap", "dropped_experts": {"3": "0-2+7", "4": "5"}, "experts": 64},
    }
    for name, pruning in shapes.items():
        write_output(tmp_path / name, tasks, config={"pruning": {**kept, **pruning, "model_fingerprint": ""}})
    runs = [source.run for source in load([tmp_path], read_catalogue())]
    made = entries(runs)
    assert {entry.base for entry in made} == {"Org/Model-8B"} and len(made) == 6
    names = Names.of(made)
    shown = {str(names[entry.key]): _kind(entry.latest) for entry in made if not entry.dense}
    assert shown == {
        "4.6 bits awq, Model-8B-AWQ": "quantized",
        "4.6 bits quanto, quantize=quanto:int4": "quantized",
        "pruned Short-8B": "published",
        "\N{MINUS SIGN}2 attention, \N{MINUS SIGN}1 MLP joint": "blocks",
        "\N{MINUS SIGN}5 experts reap": "experts",
    }
    assert set(shown.values()) <= set(KINDS)
    build_site([tmp_path], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text("utf-8")
    assert "4.6 bits" in page and "blocks off" in page and "experts off" in page and "published" in page
    rows = json.loads((tmp_path / "site" / "data" / "runs.json").read_text("utf-8"))["runs"]
    assert {row["dropped_experts"] for row in rows} == {"", "3:0-2+7 4:5"}


def test_what_is_declared_is_told_apart_by_its_config(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    (tmp_path / "fewer").mkdir()
    (tmp_path / "fewer" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 4}))
    (tmp_path / "packed").mkdir()
    packed = {**config, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(packed))
    base = str(tiny_model)
    for name, relation in (("fewer", "pruned"), ("packed", "quantized"), (tiny_model, "finetuned")):
        assert lineage(str(tmp_path / name), {}, None, base) == Lineage(base, relation)
