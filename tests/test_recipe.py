from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lm_eval_ext.errors import ArgumentError, RecipeError
from lm_eval_ext.paths import PRUNED_MODELS
from lm_eval_ext.pruning.recipe import Recipe, format_layers, kept_layers, load_recipe, parse_layers, recipe_names
from tests.shared import case_table, one_line


@pytest.mark.parametrize(
    ("given", "layers"),
    [
        ([26, 25], (25, 26)),
        ("[25,26]", (25, 26)),
        ("25-27", (25, 26, 27)),
        ("25+26", (25, 26)),
        ("0-1 + 5", (0, 1, 5)),
        (25, (25,)),
        ((1, "3-4"), (1, 3, 4)),
    ],
)
def test_layers_are_read(given: object, layers: tuple[int, ...]) -> None:
    assert parse_layers(given) == layers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no layers given"),
        ("", "no layers given"),
        ([1, 1], "layer 1 is listed twice"),
        ("1-3+2", "layer 2 is listed twice"),
        ([1.5], "1.5 is not a layer index"),
        ([True], "True is not a layer index"),
        ("a", "'a' is not a layer index"),
        ("5-3", "'5-3' is not a layer index"),
        ([-1], "-1 is not a layer index"),
        (None, "None is not a layer index"),
        ({"a": 1}, "is not a layer index"),
        ("0-100000000", "no model has a layer 100000000; give indices below 10000"),
        ("1" * 5000, "is not a layer index"),
    ],
)
def test_what_is_no_layer_is_one_line(given: object, message: str) -> None:
    with one_line(ArgumentError, match=message):
        parse_layers(given)


@given(st.sets(st.integers(0, 200), min_size=1))
def test_format_is_read_back(layers: set[int]) -> None:
    assert parse_layers(format_layers(sorted(layers))) == tuple(sorted(layers))


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1), max_size=n - 1))))
def test_kept_is_what_is_not_dropped(case: tuple[int, set[int]]) -> None:
    total, drop = case
    kept = kept_layers(tuple(drop), total)
    assert sorted([*kept, *drop]) == list(range(total)) and list(kept) == sorted(kept)


def test_layers_that_the_model_lacks() -> None:
    with pytest.raises(ArgumentError, match=r"layer 30 does not exist; the model has layers 0-29"):
        kept_layers((29, 30), 30)
    with pytest.raises(ArgumentError, match="drops all 2 layers"):
        kept_layers((0, 1), 2)


GOOD = {"base": "org/model", "drop": "[1, 2]", "method": "reverse", "source": "the definition"}


def written(path: Path, fields: dict[str, str]) -> str:
    path.write_text("".join(f"{key}: {value}\n" for key, value in fields.items()))
    return str(path)


def test_a_recipe_is_read(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path / "r.yaml", GOOD))
    assert (recipe.base, recipe.revision, recipe.drop) == ("org/model", "main", (1, 2))


def test_the_digest_is_of_what_determines_the_model(tmp_path: Path) -> None:
    first = load_recipe(written(tmp_path / "a.yaml", GOOD))
    same = load_recipe(written(tmp_path / "b.yaml", {**GOOD, "source": "elsewhere"}))
    other = load_recipe(written(tmp_path / "c.yaml", {**GOOD, "drop": "[1, 3]"}))
    assert first.digest == same.digest != other.digest


@pytest.mark.parametrize(("fields", "said"), case_table("wrong_recipes.yaml"))
def test_a_wrong_recipe_is_one_line_with_its_file(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    path, given = tmp_path / "r.yaml", {"base": "m", "method": "by hand", "source": "s", **fields}
    content = yaml.safe_dump({name: value for name, value in given.items() if value is not None})
    path.write_text(content.replace("SHA256", f"'{'0' * 64}'"))
    with pytest.raises(RecipeError) as error:
        load_recipe(str(path))
    assert said in str(error.value) and str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(RecipeError, match=r"installed: .*qwen3-8b-reverse-1"):
        load_recipe("no-such-recipe")


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid(name: str) -> None:
    depth = {
        "Qwen/Qwen3-8B": 36, "simplescaling/s1.1-7B": 28, "Qwen/Qwen2.5-Math-7B": 28, "meta-llama/Llama-3.1-8B": 32,
        "tiny-chain": 12,
    }  # fmt: skip
    recipe = load_recipe(name)
    assert kept_layers(recipe.drop, depth[recipe.base]) and recipe.summary
    assert all(layer < depth[recipe.base] for layer in (*recipe.drop_attention, *recipe.drop_mlp))


def test_the_schema_knows_what_recipes_say() -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    schema = json.loads((PRUNED_MODELS / "schema.json").read_text())
    for path in PRUNED_MODELS.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
    jsonschema.validate({"base": "a", "drop": "34-35", "method": "m", "source": "s"}, schema)
    for broken in ({"base": "a", "drop": [1]}, {"base": "a", "source": "s", "drpo": [1]}, {"source": "s", "base": 3}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(broken, schema)


def test_a_recipe_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 245}.yaml"  # there is no room for what is appended while it is written
    with pytest.raises(OSError, match="File name too long") as raised:
        Recipe(base="org/m", drop=(3,), method="x", source="x").save(path)
    assert raised.value.filename == str(path)
