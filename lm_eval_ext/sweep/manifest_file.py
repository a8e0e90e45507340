"""Reads a manifest: each mistake in it is one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lm_eval_ext.errors import ManifestError
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.recipe_file import recipe_names
from lm_eval_ext.sweep.manifest import Arguments, Exclude, Launch, Local, Manifest, Pruning, Ray, Slurm, meant

_PATHS = ("pretrained", "recipe", "peft", "tokenizer")  # model arguments that may be paths
_PARTS: Mapping[str, type[BaseModel]] = {
    "pruning": Pruning, "exclude": Exclude, "local": Local, "slurm": Slurm, "ray": Ray, "launch": Launch,
}  # fmt: skip
# What was expected, by the type of pydantic's error.
_EXPECTED: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "too_short": "expected at least one entry",
    "string_too_short": "expected text that is not empty",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "string_pattern_mismatch": "expected letters, digits, '.', '_' and '-', and a letter or digit first",
}


def load_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ManifestError: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    try:
        text = path.read_text("utf-8")
        node = yaml.compose(text, yaml.SafeLoader)
        content = yaml.safe_load(text)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ManifestError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ManifestError(
            f"{path}: contains {type(content).__name__}, not a mapping; fields: {', '.join(Manifest.model_fields)}"
        )
    if twice := _twice(node):
        raise ManifestError(f"{path}: {twice} is given twice")
    try:
        return _placed(Manifest.model_validate(content), path.parent.resolve())
    except ValidationError as error:
        raise ManifestError(f"{path}: {_explained(error.errors()[0])}") from error


def _placed(manifest: Manifest, folder: Path) -> Manifest:
    """A manifest whose relative paths are those of its folder, wherever it is used."""

    def place(value: Any) -> Any:
        return _place(value, folder) if isinstance(value, str) else value

    def placed(arguments: Arguments) -> Arguments:
        return {name: place(value) if name in _PATHS else value for name, value in arguments.items()}

    pruning = tuple(
        one.model_copy(update={"recipe": place(one.recipe), "calibration": place(one.calibration)})
        for one in manifest.pruning
    )
    models = {name: placed(arguments) for name, arguments in manifest.models.items()}
    where = {"output": str(folder / Path(manifest.output).expanduser()), "include_path": place(manifest.include_path)}
    more = {"models": models, "model_args": placed(manifest.model_args), "pruning": pruning}
    return manifest.model_copy(update=where | more)


def _place(text: str, folder: Path) -> str:
    """A path of a manifest's folder as an absolute one; any other text as it is."""
    begin, path = ("run:", text[4:]) if text.startswith("run:") else ("", text)
    if path in _installed() or not path:
        return text
    place = folder / Path(path).expanduser()
    return f"{begin}{place}" if place.exists() or path.startswith("~") else text


def _installed() -> list[str]:
    """Names that are no paths, even if there is a file of the name."""
    return [TINY_CHAIN.name, *recipe_names()]


def _twice(node: yaml.Node | None) -> str:
    """A key that is given twice, of which YAML silently takes the last; empty if there is none."""
    if isinstance(node, yaml.MappingNode):
        keys = [str(key.value) for key, _ in node.value]
        found = next((key for key in keys if keys.count(key) > 1), "")
        return found or next(filter(None, (_twice(value) for _, value in node.value)), "")
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_twice, node.value)), "")
    return ""


def _explained(fault: ErrorDetails) -> str:
    place = [str(part) for part in fault["loc"]]
    where = f"{'.'.join(part for part in place if part != '[key]')}: " if place else ""
    if fault["type"] == "extra_forbidden":
        parent = next((_PARTS[part] for part in reversed(place[:-1]) if part in _PARTS), Manifest)
        return f"{where}unknown field; {meant(place[-1], parent.model_fields)}"
    expected = _EXPECTED.get(fault["type"])
    said = expected.format(**fault.get("ctx", {})) if expected else str(fault["msg"]).removeprefix("Value error, ")
    given = f" (given {str(fault['input'])[:80]!r})" if fault["type"] not in ("missing", "value_error") else ""
    return f"{where}{said}{given}"
