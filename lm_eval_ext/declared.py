"""YAML files that people write, read into pydantic models: whole, or with one line that says what is wrong."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from lm_eval_ext.errors import TTSError, did_you_mean, expectation, meant, place_of

LARGEST = 1_000_000  # bytes of a file; at most a tenth of that in nodes, with aliases expanded
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same, and five times faster where libyaml is there

Model = TypeVar("Model", bound=BaseModel)


class Declared(BaseModel):
    """What a person writes into a file: a field that is unknown is an error, and what was read stays as it is."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_yaml(
    path: Path,
    model: type[Model],
    error: type[TTSError],
    expected: Mapping[str, str] = {},
    renamed: Mapping[str, str] = {},
    as_text: Collection[str] = (),
) -> Model:
    """Read a YAML file into a pydantic model.

    Args:
        path: the file.
        model: what it should be.
        error: what is raised if it is not.
        expected: what was expected, by the type of pydantic's error, where this file says it in its own way.
        renamed: fields by names that people give them by mistake, for a hint.
        as_text: fields whose values are read as text: else YAML reads 1:30 as 90.

    Raises:
        TTSError: of the given class: it cannot be read, or a field is missing, unknown or invalid; one line.
    """
    content = read_mapping(path, error, as_text, field_names(model))
    try:
        return model.model_validate(content)
    except ValidationError as fault:
        raise error(f"{path}: {_explained(fault.errors()[0], model, expected, renamed)}") from fault


def read_mapping(
    path: Path, error: type[TTSError], as_text: Collection[str] = (), fields: Collection[str] = ()
) -> dict[str, object]:
    """The fields of a YAML file; a name like `on`, which YAML takes for a truth value, stays a name.

    Args:
        path: the file.
        error: what is raised if it cannot be read.
        as_text: fields whose values are read as text.
        fields: names of fields that it may have, for a hint.

    Raises:
        TTSError: of the given class: it is no file of fields that are given once; one line.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise error(f"{path}: is larger than {LARGEST} bytes")
        node = yaml.compose(path.read_text("utf-8"), _Loader)
        if node is not None and written_out(node) > LARGEST // 10:
            raise error(f"{path}: its anchors and aliases expand to too much, or a value contains itself")
        for twice, _ in given_twice(node):
            raise error(f"{path}: {twice} is given twice")
        loader = _Loader("")
        if not isinstance(node, yaml.MappingNode):
            kind = type(None if node is None else loader.construct_document(node)).__name__
            hint = f"; fields: {', '.join(fields)}" if fields else ""
            raise error(f"{path}: contains {kind}, not a mapping{hint}")
        loader.flatten_mapping(node)  # `<<: *other`
        content = {}
        for key, value in node.value:
            reader = yaml.BaseLoader("") if key.value in as_text else loader
            content[str(key.value)] = reader.construct_document(value)
        return content
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror})") from fault
    except error:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as fault:
        raise error(f"{path}: cannot be read as YAML ({' '.join(str(fault).split())})") from fault


def written_out(node: yaml.Node, known: dict[int, int] | None = None) -> int:
    """Number of nodes of a document with aliases expanded; too large for any file if a node contains itself."""
    known = {} if known is None else known
    if id(node) not in known:
        known[id(node)] = LARGEST  # placeholder while it is counted, which also catches a node inside itself
        pairs = [one for pair in node.value for one in pair] if isinstance(node, yaml.MappingNode) else node.value
        below = pairs if isinstance(node, yaml.CollectionNode) else []
        known[id(node)] = 1 + sum(written_out(one, known) for one in below)
    return known[id(node)]


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON Schema of a file, which editors read for completion."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}


def field_names(model: type[BaseModel]) -> list[str]:
    """Names of a model's fields, as files write them."""
    return [field.alias or name for name, field in model.model_fields.items()]


def given_twice(node: yaml.Node | None, place: str = "") -> Iterator[tuple[str, yaml.Node]]:
    """Keys that are given twice, of which YAML silently takes the last: where each is, and its node.

    >>> [where for where, _ in given_twice(yaml.compose("models: {a: 1, b: 2, a: 3}"))]
    ['models.a']
    """
    if isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, value in node.value:
            if key.value in seen:
                yield f"{place}{key.value}", key
            seen.add(str(key.value))
            yield from given_twice(value, f"{place}{key.value}.")
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from given_twice(value, place)


def model_at(model: type[BaseModel], place: Iterable[str]) -> type[BaseModel]:
    """The model of a nested field.

    Args:
        model: of the whole file.
        place: names of fields, and in between keys, indices and names of models in unions, as pydantic says them.
    """
    here = [model]
    for part in place:
        fields = {field.alias or name: field for one in here for name, field in one.model_fields.items()}
        within = [one for one in here if one.__name__ == part]
        here = within or (list(_models(fields[part].annotation)) if part in fields else []) or here
    return here[0]


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models in a type, such as that of `dict[str, tuple[Part, ...]]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _explained(
    fault: ErrorDetails,
    model: type[BaseModel],
    expected: Mapping[str, str],
    renamed: Mapping[str, str],
) -> str:
    place = [str(part) for part in fault["loc"]]
    where = f"{place_of([part for part in place if part != '[key]'])}: " if place else ""
    if fault["type"] == "extra_forbidden":
        fields = field_names(model_at(model, place[:-1]))
        hint = f"did you mean {renamed[place[-1]]}?" if place[-1] in renamed else meant(place[-1], fields)
        return f"{where}unknown field; {hint}"
    said = expectation(fault, expected)
    scalar = isinstance(fault["input"], (str, int, float, type(None)))  # else a validator of a whole says more
    shown = fault["type"] not in ("missing", "value_error") or (fault["type"] == "value_error" and scalar and place)
    given = f" (given {str(fault['input'])[:80]!r})" if shown else ""
    allowed = re.findall("'([^']+)'", fault["ctx"]["expected"]) if fault["type"] == "literal_error" else []
    if where and said.startswith((where, f"{where.removesuffix(': ')}=")):  # it says itself where
        where = given = ""
    return f"{where}{said}{given}{did_you_mean(str(fault['input']), allowed)}"
