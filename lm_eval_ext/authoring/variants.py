"""Writes variants of a benchmark as small task files, and its prompt, from what its base YAML declares.

    metadata:
      variants: {budgets: [512, 1024], votes: [8]}

gives `<task>_b512`, `<task>_b1024` (thinking budgets) and `<task>_maj8` (repeats, with pass@k and maj@k), in a folder
`variants` beside the base file; the prompt that `metadata.question` declares is there too, as `_<task>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lm_eval_ext.authoring.task_fields import Choices, Metadata, TaskFile
from lm_eval_ext.authoring.task_file import (
    VARIANTS,
    Merged,
    YamlFile,
    includes,
    is_template,
    merged,
    prompt_path,
    read,
    template_fields,
)
from lm_eval_ext.errors import TaskError
from lm_eval_ext.generation.request import with_budget
from lm_eval_ext.grading.kinds import KINDS, MATCHING, kind_of_metric
from lm_eval_ext.grading.rules import Rules
from lm_eval_ext.redaction import mapping, sequence

_EXAMPLES = {"json": "fenced", "list": "boxed_list"}  # how a worked example gives its answer; else in a box
_AS_JSON = ("json", "expression")  # kinds whose gold answer has fields
_AS_IT_IS = ("math", "number")  # kinds whose gold answer is one column as it is


@cache
def instructions() -> Mapping[str, Mapping[str, str]]:
    """How to answer, by language and kind."""
    found: dict[str, dict[str, str]] = yaml.safe_load(Path(__file__).with_name("instructions.yaml").read_text("utf-8"))
    return found


def prompt_fields(declared: Metadata, template: Mapping[str, object]) -> dict[str, object]:
    """What `metadata.question` and its companions declare, as lm-eval's fields.

    Args:
        declared: the benchmark's metadata, with a `question`.
        template: the fields of the template that it includes, such as `_choice`.

    Raises:
        TaskError: the template has none of our metrics, or something declared does not fit its kind of answers.
    """
    kind = kind_of_task(template)
    if kind is None:
        raise TaskError("metadata.question needs a template such as include: ../_math, ../_choice or ../_text")
    for field, needed, given in (("choices", "choice", declared.choices), ("code", "code", declared.code)):
        if (needed == kind.KIND) != (given is not None):
            why = "is missing" if given is None else f"does not fit {kind.KIND} answers"
            raise TaskError(f"metadata.{field} {why}; include: ../_{needed}{' needs it' if given is None else ''}")
    if declared.code is not None and declared.variants is not None and declared.variants.votes:
        raise TaskError("metadata.variants.votes: programs don't vote; more samples give pass@k")
    if declared.choices is not None and declared.answer is not None:
        raise TaskError("metadata.answer and metadata.choices.answer; expected only the latter for multiple choice")
    grading = dict(declared.grading or {})
    kind.of(grading)
    gold = _gold(declared, kind)
    question = str(declared.question)
    shown = question if is_template(question) else f"{{{{{_expression(question)}}}}}"
    parts = [shown, _options(declared), _instruction(declared, kind)]
    example = f"| {_EXAMPLES.get(kind.KIND, 'boxed')} }}}}"
    return {
        "doc_to_text": "\n\n".join(part for part in parts if part),
        "doc_to_target": gold,
        **({} if declared.code else {"fewshot_config": {"doc_to_target": _filtered(gold, example)}}),
        **_extraction(declared, template, grading),
        **({"metric_list": _graded(template, kind, grading)} if grading and not declared.code else {}),
    }


def kind_of_task(fields: Mapping[str, object]) -> type[Rules] | None:
    """The kind of a task's answers, by its metrics; None if none is ours."""
    names = [str(mapping(one).get("metric")) for one in sequence(fields.get("metric_list"))]
    return next((kind for kind in map(kind_of_metric, names) if kind), None)


def _expression(column: str) -> str:
    """A column in a template."""
    return column if re.fullmatch(r"[A-Za-z_]\w*", column) else f"{_quoted(column)} | column"


def _quoted(value: object) -> str:
    """A constant in a template."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_quoted, value))}]"
    text = str(value)
    if re.search(r"['\\{}]", text):
        raise TaskError(f"column {text!r}: a name with a quote, brace or backslash cannot be used in a template")
    return f"'{text}'"


def _key(declared: Metadata, choices: Choices) -> str:
    """The column by whose hash options are shuffled; empty to keep their order."""
    if choices.shuffle is not True:
        return choices.shuffle or ""
    if is_template(str(declared.question)):
        raise TaskError("metadata.choices.shuffle: true, but question is a template; name a column to shuffle by")
    return str(declared.question)


def _options(declared: Metadata) -> str:
    choices = declared.choices
    if choices is None or not choices.from_:
        return ""
    key = _key(declared, choices)
    arguments = f"({_quoted(key)})" if key else ""
    return f"{{{{ {_quoted(choices.columns)} | options{arguments} | lettered }}}}"


def _instruction(declared: Metadata, kind: type[Rules]) -> str:
    if declared.instruction is not None:
        return declared.instruction
    known, language = instructions(), declared.language or "en"
    if language not in known:
        raise TaskError(f"metadata.language={language!r}; expected one of: {', '.join(known)}, or an instruction")
    several = declared.choices is not None and declared.choices.several == "all"
    return known[language]["choices" if several else kind.KIND if kind.KIND in known[language] else "one"]


def _gold(declared: Metadata, kind: type[Rules]) -> str:
    """The template of the gold answer."""
    if declared.choices is not None:
        return f"{{{{ {_letter_of(declared, declared.choices)} }}}}"
    if declared.code is not None:
        return f"{{{{ [{', '.join(map(_expression, declared.code.columns))}] | tested_with }}}}"
    if declared.answer is None:
        raise TaskError("metadata.answer is missing: the column with the gold answer")
    if is_template(declared.answer):
        return declared.answer
    if kind.KIND in _AS_IT_IS:
        plain = re.fullmatch(r"\w+", declared.answer)
        return declared.answer if plain else f"{{{{ {_expression(declared.answer)} }}}}"
    as_text = "as_json" if kind.KIND in _AS_JSON else "as_gold"
    return f"{{{{ {_expression(declared.answer)} | {as_text} }}}}"


def _letter_of(declared: Metadata, choices: Choices) -> str:
    if choices.as_ == "label" and not (choices.labels or (len(choices.columns) == 1)):
        raise TaskError("metadata.choices.as: label needs labels, the column with the options' names")
    named = {
        "letters": choices.letters, "labels": choices.labels, "counted": choices.as_,
        "shuffle": _key(declared, choices), "several": choices.several,
    }  # fmt: skip
    columns = [_quoted(choices.columns)] if choices.columns else []
    arguments = [*columns, *(f"{name}={_quoted(value)}" for name, value in named.items() if value)]
    return f"{_quoted(choices.answer)} | letter_of({', '.join(arguments)})"


def _filtered(gold: str, end: str) -> str:
    """The template of the gold answer, with a filter at its end."""
    if is_template(gold):
        single = re.fullmatch(r"\{\{((?:(?!\}\}|\{\{).)*)\}\}", gold, re.DOTALL)
        return f"{{{{ ({single[1].strip()}) | string {end}" if single else gold
    return f"{{{{ {gold} | string {end}"


def _extraction(declared: Metadata, template: Mapping[str, object], grading: Mapping[str, Any]) -> dict[str, object]:
    """The filters, with the letters of a question's options, or with what a program is tested with."""
    choices, chains = declared.choices, [mapping(one) for one in sequence(template.get("filter_list"))]
    if declared.code is not None:
        tested = declared.code.model_dump(exclude_none=True, exclude_defaults=True, exclude={"dated", "from_", "until"})
        options = tested | ({"grading": dict(grading)} if grading else {})
        return {"filter_list": [_with_options(chain, "code_answer", options) for chain in chains]}
    if choices is None:
        return {}
    columns = choices.columns
    options = {"letters": choices.letters} if choices.letters else {}
    if columns:
        options |= {
            "choices": columns[0] if len(columns) == 1 else columns,
            "shuffle": _key(declared, choices) or False,
        }
    if choices.several == "all":
        options["several"] = True
    return {"filter_list": [_with_options(chain, "choice_answer", options) for chain in chains]}


def _with_options(chain: Mapping[str, object], name: str, options: Mapping[str, object]) -> dict[str, object]:
    steps = [mapping(step) for step in sequence(chain.get("filter"))]
    ours = [{**step, **options} if step.get("function") == name else step for step in steps]
    return {**chain, "filter": ours}


def _graded(template: Mapping[str, object], kind: type[Rules], grading: Mapping[str, Any]) -> Sequence[object]:
    ours = (kind.match_name(), kind.graded_name())
    entries = [mapping(one) for one in sequence(template.get("metric_list"))]
    return [{**one, **grading} if one.get("metric") in ours else one for one in entries]


DIALECT = "https://json-schema.org/draft/2020-12/schema"


def task_schema() -> dict[str, Any]:
    """The schema of `TaskFile`, with the languages and the options of `grading` that there are."""
    schema = TaskFile.model_json_schema()
    options = {name: one for kind in KINDS.values() for name, one in kind.model_json_schema()["properties"].items()}
    metadata = schema["$defs"]["Metadata"]["properties"]
    metadata["language"] |= {"anyOf": [{"enum": list(instructions())}, {"type": "null"}]}
    metadata["grading"] |= {
        "anyOf": [{"type": "object", "properties": options, "additionalProperties": False}, {"type": "null"}]
    }
    return {"$schema": DIALECT, **schema}


_HEADER = "# Written by `lm-eval-tts tasks sync` from {base}; edit that file instead.\n"


def sync(folder: Path, *, write: bool = True) -> list[Path]:
    """Write the variants and prompts of every base below `folder`; returns the files that changed (or would change).

    What is no longer declared is deleted. A base that declares a prompt is made to include it.

    Raises:
        TaskError: a YAML cannot be read, or declares something that does not fit.
    """
    bases = [path for path in sorted(folder.rglob("*.yaml")) if not is_written_by_us(path)]
    prompts = {path: prompt for base in bases for path, prompt in _prompts(base)}
    changed = _update(prompts, write=write)
    waiting = {path.parent.parent for path in changed} if not write else set()  # their variants are not known yet
    expected = {path: text for base in bases if base.parent not in waiting for path, text in variants_of(_sound(base))}
    changed += _update(expected, write=write)
    files = [path for path in sorted(folder.rglob("*")) if path.suffix == ".yaml" or path.parent.name == VARIANTS]
    written = [path for path in files if path.is_file() and is_written_by_us(path)]
    stale = [path for path in written if path not in expected | prompts and path.parent.parent not in waiting]
    if write:
        for path in stale:
            path.unlink()
    return changed + stale


def _update(expected: Mapping[Path, str], *, write: bool) -> list[Path]:
    changed = [path for path, text in expected.items() if not _holds(path, text)]
    if write:
        for path in changed:
            path.parent.mkdir(exist_ok=True)
            path.write_text(expected[path], encoding="utf-8")
    return changed


def is_written_by_us(path: Path) -> bool:
    """Whether a file is a generated variant or prompt."""
    with path.open("rb") as file:
        return file.read(99).startswith(_HEADER.partition("{")[0].encode())


def out_of_date(task: Merged) -> list[Path]:
    """Variants and the prompt of a base that are missing, differ, or are no longer declared."""
    base = task.own.path
    expected = dict(_prompts(base)) | dict(variants_of(task))
    header = _HEADER.format(base=base.name)
    files = sorted([*base.parent.glob("*.yaml"), *base.parent.glob(f"{VARIANTS}/*")])
    there = [path for path in files if path.is_file() and is_written_by_us(path)]
    stale = [path for path in there if path not in expected and path.read_text("utf-8").startswith(header)]
    return [path for path, text in expected.items() if not _holds(path, text)] + stale


def _prompts(base: Path) -> Iterator[tuple[Path, str]]:
    """If a base declares a prompt, the file with it, and the base itself, which includes that file."""
    own, faults = read(base)
    metadata = mapping(own.fields.get("metadata"))
    if faults:
        raise TaskError(str(faults[0]))
    if metadata.get("question") is None:
        return
    path = prompt_path(base)
    try:
        fields = prompt_fields(Metadata.model_validate(metadata), template_fields(own))
    except TaskError as error:
        raise TaskError(str(own.finding(["metadata"], "prompt", str(error)))) from error
    content = yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000)
    yield path, _HEADER.format(base=base.name) + content
    if f"{VARIANTS}/{path.name}" not in includes(own):
        yield base, _including(base.read_text("utf-8"), [*includes(own), f"{VARIANTS}/{path.name}"], own)


class _Dumper(yaml.SafeDumper):
    """Writes prompts as they look, line by line."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _including(text: str, wanted: list[str], own: YamlFile) -> str:
    """A base's text with another list of includes."""
    line = f"include: [{', '.join(wanted)}]"
    changed, count = re.subn(r"(?m)^include:[ \t]*\S.*$", lambda _: line, text, count=1)
    if not count:
        raise TaskError(str(own.finding(["include"], "include", f"write the includes on one line, as {line}")))
    return changed


def variants_of(task: Merged) -> Iterator[tuple[Path, str]]:
    """Path and content of every variant declared in a base."""
    own, path = task.own.fields, task.own.path
    declared = (own.get("metadata") or {}).get("variants") or {}
    for suffix, changes in _changes(declared, task.fields):
        content = {"include": f"../{path.name}", "task": f"{own['task']}_{suffix}", **changes}
        text = _HEADER.format(base=path.name) + yaml.safe_dump(content, sort_keys=False)
        yield path.parent / VARIANTS / f"{path.stem}_{suffix}.yaml", text


def _changes(variants: dict[str, list[int]], whole: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
    for number in variants.get("budgets", []):
        yield f"b{number}", {"generation_kwargs": with_budget(mapping(whole.get("generation_kwargs")), number)}
    for number in variants.get("votes", []):
        yield f"maj{number}", {"repeats": number, "metric_list": _with_votes(whole)}


def _with_votes(whole: Mapping[str, object]) -> list[dict[str, object]]:
    return [
        {**metric, "votes": True} if metric["metric"] in MATCHING else metric
        for metric in map(mapping, sequence(whole.get("metric_list")))
    ]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def _sound(path: Path) -> Merged:
    task, faults = merged(path)
    if faults:
        raise TaskError(str(faults[0]))
    return task
