"""Task YAMLs: files checked field by field and merged with their includes, with line numbers for findings."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

import lm_eval_ext.choices  # imported because it declares functions, as do the next five
import lm_eval_ext.testbed.code_mini
import lm_eval_ext.testbed.depth
import lm_eval_ext.testbed.evalplus
import lm_eval_ext.testbed.livecodebench
import lm_eval_ext.testbed.problems  # noqa: F401
from lm_eval_ext.authoring.task_fields import TaskFile
from lm_eval_ext.declared import LARGEST, field_names, given_twice, model_at, written_out
from lm_eval_ext.errors import expectation, meant, place_of, reason_of
from lm_eval_ext.harness.registry import imported_function
from lm_eval_ext.paths import TASKS
from lm_eval_ext.template_filters import TEMPLATE_FILTERS
from lm_eval_ext.yaml_functions import usable_functions

VARIANTS = "variants"  # folder beside a task file, for the variants written by `tasks sync`

Lines = Mapping[tuple[str | int, ...], int]


class _Loader(yaml.SafeLoader):
    """YAML loader that keeps `!function` names as text."""


_Loader.add_constructor("!function", lambda loader, node: str(loader.construct_scalar(node)))  # type: ignore[arg-type]


@dataclass
class YamlFile:
    """A file's fields, and the lines they start on."""

    path: Path
    fields: dict[str, Any] = field(default_factory=dict)
    lines: Lines = field(default_factory=dict)

    def line(self, *place: str | int) -> int:
        """Line of a field, or of the nearest enclosing one in the file; 0 if there is none."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 0)

    def finding(self, place: Sequence[str | int], rule: str, text: str, *, warning: bool = False) -> TaskFinding:
        """A finding on a field."""
        return TaskFinding(self.path, self.line(*place), rule, text, warning)


def read(path: Path) -> tuple[YamlFile, list[TaskFinding]]:
    """Read a single file: its fields, and findings on its YAML and on single fields."""
    source = YamlFile(path)
    try:
        if path.stat().st_size > LARGEST:
            return source, [TaskFinding(path, 0, "yaml", f"is larger than {LARGEST} bytes")]
        node = yaml.compose(path.read_text("utf-8"), Loader=_Loader)
        if node is not None and written_out(node) > LARGEST // 100:
            return source, [TaskFinding(path, 1, "yaml", "its anchors and aliases expand to too much, or form a cycle")]
        content = _Loader("").construct_document(node) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return source, [TaskFinding(path, line, "yaml", f"cannot be read as YAML: {error.problem}")]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        return source, [TaskFinding(path, 0, "yaml", f"cannot be read as YAML ({' '.join(str(error).split())[:200]})")]
    if not isinstance(content, dict):
        kind = "nothing" if content is None else f"a {type(content).__name__}"
        return source, [TaskFinding(path, 1, "yaml", f"contains {kind}; expected the fields of a task or group")]
    source.fields, source.lines = {str(key): value for key, value in content.items()}, dict(_lines(node))
    twice = [
        TaskFinding(path, key.start_mark.line + 1, "yaml", f"duplicate key {where}; only the last one counts")
        for where, key in given_twice(node)
    ]
    return source, [*twice, *_faults(source)]


def _lines(node: yaml.Node | None, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*place, str(key.value)), key.start_mark.line + 1
            yield from _lines(value, (*place, str(key.value)))
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*place, number), value.start_mark.line + 1
            yield from _lines(value, (*place, number))


def _faults(source: YamlFile) -> Iterator[TaskFinding]:
    try:
        TaskFile.model_validate(source.fields)
    except ValidationError as error:
        seen = set[int]()
        # A misspelt field is told before the one that is missing because of it.
        for fault in sorted(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden"):
            place = tuple(fault["loc"])
            line = source.line(*place)
            if line not in seen:  # a field that allows several types gives an error for each
                seen.add(line)
                yield TaskFinding(source.path, line, "field", _said(place, fault))


def _said(place: tuple[str | int, ...], fault: ErrorDetails) -> str:
    named = place_of(place)
    unknown = fault["type"] == "extra_forbidden"
    if unknown and (refused := refusal(str(place[-1]))):
        return refused
    if unknown:
        return f"unknown field {named}; {meant(str(place[-1]), field_names(model_at(TaskFile, map(str, place[:-1]))))}"
    return f"{named}={' '.join(repr(fault['input']).split())[:60]}: {expectation(fault)}"


# What is not supported, by a word in the field or metric that asks for it: what that is, and what is allowed.
_REFUSED = {
    "image": "images are not supported; allowed: questions that are text, in doc_to_text",
    "audio": "audio is not supported; allowed: questions that are text, in doc_to_text",
    "class": "tasks of several turns are not supported, nor other Python classes; allowed: one prompt, one answer",
    "multiturn": "tasks of several turns are not supported; allowed: one prompt, one answer",
    "judge": "judges that are models are not supported; allowed: our metrics, or a checker of yours as process_results",
}


def refusal(name: str) -> str:
    """Why a field or metric is refused; empty if it is merely unknown."""
    reason = next((text for word, text in _REFUSED.items() if word in name.split("_")), "")
    return f"{name}: {reason}" if reason else ""


# Fields that `tasks sync` writes, and the fields of `metadata` that it writes them from.
_WRITTEN = {"doc_to_text": ("question",), "doc_to_target": ("choices", "answer")}


@dataclass
class Merged:
    """A file merged with its includes like in lm-eval: field by field, the including file wins."""

    fields: dict[str, Any]
    sources: dict[str, YamlFile]  # file of each field
    own: YamlFile

    def finding(self, place: Sequence[str | int], rule: str, text: str, *, warning: bool = False) -> TaskFinding:
        """A finding on a field, in the file it comes from; on the task's name if no file has the field.

        Where `tasks sync` wrote that file, the finding is on what it was written from.
        """
        source = self.sources.get(str(place[0]), self.own)
        if source.path.parent.name == VARIANTS and str(place[0]) in _WRITTEN and "metadata" in self.sources:
            declared = self.fields.get("metadata") or {}
            source, given = self.sources["metadata"], _WRITTEN[str(place[0])]
            place = ["metadata", next((name for name in given if name in declared), "question")]
        return source.finding(place if place[0] in source.fields else ["task"], rule, text, warning=warning)


def root_of(task: Path) -> Path:
    """The folder of benchmarks that contains a task file; files it refers to must be below that folder."""
    folder = task.resolve().parent
    return folder.parent.parent if folder.name == VARIANTS else folder.parent


def merged(path: Path, _above: tuple[Path, ...] = ()) -> tuple[Merged, list[TaskFinding]]:
    """A file merged with its includes, and the findings on any of them.

    Includes must be below the folder of benchmarks, or ours.
    """
    own, found = read(path)
    fields, sources = dict[str, Any](), dict[str, YamlFile]()
    for include in includes(own):
        target = Path(os.path.normpath(path.parent / str(include)))
        if target.resolve() in (*_above, path.resolve()):
            found.append(own.finding(["include"], "include", f"{include} includes this file again"))
        elif not any(target.resolve().is_relative_to(root) for root in (root_of((_above or (path,))[0]), TASKS)):
            found.append(own.finding(["include"], "include", f"{include} is outside the folder of benchmarks"))
        elif not target.is_file():
            hint = f"; run lm-eval-tts tasks sync {path.parent}" if target == prompt_path(path) else ""
            text = f"{include} does not exist, relative to {path.parent}{hint}"
            found.append(own.finding(["include"], "include", text))
        else:
            below, faults = merged(target, (*_above, path.resolve()))
            fields |= below.fields
            sources |= below.sources
            found += faults
    fields |= {name: value for name, value in own.fields.items() if name != "include"}
    sources |= dict.fromkeys(own.fields, own)
    return Merged(fields, sources, own), found


def includes(own: YamlFile) -> list[str]:
    """The files that a file includes, as written."""
    given = own.fields.get("include") or []
    return [given] if isinstance(given, str) else [str(one) for one in given] if isinstance(given, list) else []


def prompt_path(base: Path) -> Path:
    """The file that `tasks sync` writes for a base that declares its prompt."""
    return base.parent / VARIANTS / f"_{base.stem}"


def template_fields(own: YamlFile) -> dict[str, Any]:
    """The fields of all that a file includes, but for its own prompt."""
    targets = [Path(os.path.normpath(own.path.parent / one)) for one in includes(own)]
    fields: dict[str, Any] = {}
    for target in targets:
        if target != prompt_path(own.path) and target.is_file():
            fields |= merged(target)[0].fields
    return fields


def shown_names(template: str) -> set[str]:
    """The dataset's fields that a Jinja template uses.

    Raises:
        jinja2.TemplateSyntaxError: it cannot be parsed.
    """
    from jinja2 import Environment, nodes

    # Not Jinja's `meta.find_undeclared_variables`, which evaluates constants, even an untrusted 9**99999999.
    environment = Environment(autoescape=True)
    environment.filters |= TEMPLATE_FILTERS
    names = list(environment.parse(template).find_all(nodes.Name))
    own = {name.name for name in names if name.ctx == "store"} | environment.globals.keys() | {"loop"}
    return {name.name for name in names if name.ctx == "load"} - own


def is_template(text: str) -> bool:
    """Whether a text is a template, rather than a field name or fixed text."""
    return re.search(r"\{[{%]", text) is not None


class TaskFinding(NamedTuple):
    """An error or warning about a file.

    Attributes:
        path: the file.
        line: line number, from 1; 0 if the finding is about the whole file.
        rule: one word that identifies the kind of finding.
        text: what was given and what is allowed.
        warning: whether it is a warning, which need not be fixed.
    """

    path: Path
    line: int
    rule: str
    text: str
    warning: bool = False

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else f"{self.path}"
        return f"{place}: {'warning: ' if self.warning else ''}{self.rule}: {self.text}"

    def as_annotation(self) -> str:
        """The finding as a workflow command of GitHub Actions, shown beside the line of a pull request.

        Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
        """
        place = f"file={_property(str(self.path))}" + (f",line={self.line}" if self.line else "")
        kind = "warning" if self.warning else "error"
        return f"::{kind} {place},title={_property(self.rule)}::{_data(self.text)}"

    def as_json(self) -> dict[str, object]:
        """The finding as printed by `--json`."""
        return {**self._asdict(), "path": str(self.path)}


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def function_of(task: Merged, field: str, *, trust: bool) -> Callable[..., Any]:
    """The function that a field of a task names; as `named_function`, from beside its file if that is trusted."""
    return named_function(str(task.fields[field]), task.sources[field].path.parent if trust else None)


def named_function(name: str, folder: Path | None = None) -> Callable[..., Any]:
    """The function called `package.module.name`.

    Args:
        name: as written in the YAML.
        folder: the YAML's, to import any file beside it or any module, as lm-eval does; None to import nothing.

    Raises:
        ImportError: it does not exist, or YAMLs may not use it; the message lists the allowed ones.
    """
    usable = usable_functions()
    if name in usable:
        return usable[name]
    if folder is None:
        raise ImportError(f"{name} is not run by a check; allowed: {', '.join(sorted(usable))}, or any with --trust")
    try:
        return imported_function(name, folder)
    except Exception as error:  # anything that a user's file raises
        expected = "expected !function package.module.name, or FILE.NAME of a file beside the YAML"
        raise ImportError(f"{name} cannot be imported; {expected} ({reason_of(error)})") from error
