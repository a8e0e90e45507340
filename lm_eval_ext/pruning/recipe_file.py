"""Recipe files: reading and writing them, and finding those that are installed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lm_eval_ext.errors import RecipeError
from lm_eval_ext.paths import PRUNED_MODELS
from lm_eval_ext.plugins import recipe_folders
from lm_eval_ext.pruning.linear_map import LinearMap
from lm_eval_ext.pruning.quantizing import Quantization
from lm_eval_ext.pruning.recipe import CalibrationSet, Recipe, Shape


def recipe_files() -> list[Path]:
    """The recipes that ship in `pruned_models/`, and those of other installed packages."""
    return [path for folder in (PRUNED_MODELS, *recipe_folders()) for path in sorted(folder.glob("*.yaml"))]


def recipe_names() -> list[str]:
    """Names of `recipe_files`, ascending."""
    return sorted({path.stem for path in recipe_files()})


def chosen_name(base: str, method: str, parameters: Iterable[object], count: int) -> str:
    """File name of the recipe of a choice of layers.

    >>> chosen_name("Qwen/Qwen3-8B", "laco", [0.4], 2)
    'qwen3-8b-laco-0.4-2.yaml'
    """
    words = [base.rstrip("/").split("/")[-1].lower(), method, *map(str, parameters), str(count)]
    return f"{'-'.join(words)}.yaml"


def load_recipe(name_or_path: str) -> Recipe:
    """Read a recipe by its name in `pruned_models/` or another installed package, or by the path of a YAML file.

    Raises:
        RecipeError: there is no such recipe, or more than one of that name; or one of its fields is missing, unknown
            or invalid.
    """
    path = _recipe_path(str(name_or_path))
    try:
        content = _read_once(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: also a date that does not exist
        raise RecipeError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path}: contains {type(content).__name__}, not a mapping; allowed fields: {_allowed()}")
    return _validated(content, path)


def _read_once(text: str) -> object:
    """YAML whose top-level keys are given once, as YAML itself silently takes the last."""
    node = yaml.compose(text, yaml.SafeLoader)
    keys = [key.value for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is given twice")
    return yaml.safe_load(text)


def write_recipe(recipe: Recipe, path: Path, comment: str = "") -> None:
    """Write a recipe as YAML, with its linear map beside it; fields with their default value are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if recipe.linear_map:
        recipe = recipe.model_copy(update={"linear_map": recipe.linear_map.copied_beside(path)})
    content = yaml.safe_dump(
        recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False, default_flow_style=None, width=120,
        allow_unicode=True,
    )  # fmt: skip
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text((f"# {comment}\n" if comment else "") + content, "utf-8")
    part.replace(path)  # atomic, in case several processes write it


def _recipe_path(name_or_path: str) -> Path:
    named = [path for path in recipe_files() if path.stem == name_or_path]
    if len(named) > 1:
        raise RecipeError(
            f"recipe={name_or_path}: found more than once; give the path of one: {', '.join(map(str, named))}"
        )
    if named:
        return named[0]
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        known = ", ".join(recipe_names()) or "none"
        raise RecipeError(f"recipe={name_or_path}: neither a YAML file nor an installed recipe; installed: {known}")
    return path


def _validated(content: Mapping[object, object], path: Path) -> Recipe:
    try:
        recipe = Recipe.model_validate({str(key): value for key, value in content.items()})
        linear_map = recipe.linear_map and recipe.linear_map.beside(path)
        return recipe.model_copy(update={"linear_map": linear_map})
    except ValidationError as error:
        fault = error.errors()[0]
        field = ".".join(str(part) for part in fault["loc"])
        given = "" if fault["type"] == "missing" or not field else f" (given {fault['input']!r})"
        where = f"{field}: " if field else ""
        hint = f"; did you mean {near}?" if (near := _near(fault)) else f"; allowed fields: {_allowed(fault['loc'])}"
        said = str(fault["msg"]).removeprefix("Value error, ")
        raise RecipeError(f"{path}: {where}{said}{given}{hint}") from error


_PARTS: dict[object, type[BaseModel]] = {
    "calibration": CalibrationSet,
    "quantization": Quantization,
    "shape": Shape,
    "linear_map": LinearMap,
}


def _near(fault: ErrorDetails) -> str:
    """A field or value that was probably meant; empty if none is near."""
    place = fault["loc"]
    if fault["type"] == "literal_error":
        allowed = re.findall(r"'([^']+)'", str(fault.get("ctx", {}).get("expected")))
        return next(iter(difflib.get_close_matches(str(fault["input"]), allowed, 1)), "")
    if fault["type"] != "extra_forbidden":
        return ""
    known = {"drop_layers": "drop", **{name: name for name in _fields_at(place)}}
    found = difflib.get_close_matches(str(place[-1]), known, 1)
    return known[found[0]] if found else ""


def _fields_at(place: tuple[int | str, ...]) -> list[str]:
    """Fields of the recipe, or of the part of it in which a fault is."""
    return list(_PARTS.get(place[0] if len(place) > 1 else "", Recipe).model_fields)


def _allowed(place: tuple[int | str, ...] = ()) -> str:
    return ", ".join(_fields_at(place))
