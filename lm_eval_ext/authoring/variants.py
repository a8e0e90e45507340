"""Writes variants of a benchmark as small task files, from one declaration in its base YAML.

    metadata:
      variants: {budgets: [512, 1024], votes: [8]}

gives `<task>_b512`, `<task>_b1024` (thinking budgets) and `<task>_maj8` (repeats, with pass@k and maj@k), in a folder
`variants` beside the base file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from lm_eval_ext.authoring.task_file import VARIANTS, Merged, merged
from lm_eval_ext.errors import TaskError
from lm_eval_ext.runs.untrusted import mapping, sequence

_HEADER = "# Written by `lm-eval-tts tasks sync` from {base}; edit that file instead.\n"
_COUNT_VOTES = ("math_verify", "choice_match")  # the metrics with a `votes` option


def sync(folder: Path, *, write: bool = True) -> list[Path]:
    """Write the variants of every base below `folder`; returns the files that changed (or would change).

    Variants that are no longer declared are deleted.

    Raises:
        TaskError: a YAML cannot be read, or has an invalid field.
    """
    files = sorted(folder.rglob("*.yaml"))
    expected = {path: text for base in files if not is_written_by_us(base) for path, text in variants_of(_sound(base))}
    stale = [path for path in files if path not in expected and is_written_by_us(path)]
    changed = [path for path, text in expected.items() if not _holds(path, text)]
    if write:
        for path in stale:
            path.unlink()
        for path in changed:
            path.parent.mkdir(exist_ok=True)
            path.write_text(expected[path], encoding="utf-8")
    return changed + stale


def is_written_by_us(path: Path) -> bool:
    """Whether a file is a generated variant."""
    with path.open("rb") as file:
        return file.read(99).startswith(_HEADER.partition("{")[0].encode())


def out_of_date(task: Merged) -> list[Path]:
    """Variants of a base that are missing, differ, or are no longer declared."""
    expected, base = dict(variants_of(task)), task.own.path
    header = _HEADER.format(base=base.name)
    files = sorted([*base.parent.glob("*.yaml"), *base.parent.glob(f"{VARIANTS}/*.yaml")])
    there = [path for path in files if is_written_by_us(path)]
    stale = [path for path in there if path not in expected and path.read_text("utf-8").startswith(header)]
    return [path for path, text in expected.items() if not _holds(path, text)] + stale


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
        arguments = {**mapping(whole.get("generation_kwargs")), "thinking_token_budget": number}
        yield f"b{number}", {"generation_kwargs": arguments}
    for number in variants.get("votes", []):
        yield f"maj{number}", {"repeats": number, "metric_list": _with_votes(whole)}


def _with_votes(whole: Mapping[str, object]) -> list[dict[str, object]]:
    return [
        {**metric, "votes": True} if metric["metric"] in _COUNT_VOTES else metric
        for metric in map(mapping, sequence(whole.get("metric_list")))
    ]


def _holds(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def _sound(path: Path) -> Merged:
    task, faults = merged(path)
    if faults:
        raise TaskError(str(faults[0]))
    return task
