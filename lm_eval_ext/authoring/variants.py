"""Writes variants of a benchmark as small task files, and its prompt, from what its base YAML declares.

    metadata:
      variants: {budgets: [512, 1024], votes: [8]}

gives `<task>_b512`, `<task>_b1024` (thinking budgets) and `<task>_maj8` (repeats, with pass@k and maj@k), in a folder
`variants` beside the base file; the prompt that `metadata.question` declares is there too, as `_<task>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from lm_eval_ext.authoring.prompt import prompt_fields
from lm_eval_ext.authoring.task_fields import Metadata
from lm_eval_ext.authoring.task_file import (
    VARIANTS,
    Merged,
    YamlFile,
    includes,
    merged,
    prompt_path,
    read,
    template_fields,
)
from lm_eval_ext.errors import TaskError
from lm_eval_ext.generation.options import with_budget
from lm_eval_ext.grading.kinds import MATCHING
from lm_eval_ext.runs.untrusted import mapping, sequence

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
    written = [path for path in sorted(folder.rglob("*")) if path.is_file() and _may_be_ours(path)]
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


def _may_be_ours(path: Path) -> bool:
    return (path.suffix == ".yaml" or path.parent.name == VARIANTS) and is_written_by_us(path)


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
