"""Variants of a benchmark, written out as small task files from one declaration in its base YAML.

    metadata:
      variants: {budgets: [512, 1024], votes: [8]}

gives `<task>_b512`, `<task>_b1024` (thinking budgets) and `<task>_maj8` (repeats, with pass@k and maj@k).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lm_eval_ext.errors import TaskError

_HEADER = "# Written by `lm-eval-tts tasks sync` from {base}; edit that file instead.\n"
_KINDS = ("budgets", "votes")
_COUNT_VOTES = ("math_verify", "choice_match")  # the metrics that know the option `votes`


class _Loader(yaml.SafeLoader):
    """Task YAML: `!function` names stay names."""


_Loader.add_constructor("!function", lambda loader, node: str(loader.construct_scalar(node)))  # type: ignore[arg-type]


def sync(folder: Path, *, write: bool = True) -> list[Path]:
    """Write the variants of every base below `folder`; returns the files that were (or would be) changed.

    Variants that are no longer declared are deleted.

    Raises:
        TaskError: a YAML that cannot be read, or a declaration that makes no sense.
    """
    expected = dict(_expected(folder))
    stale = [path for path in sorted(folder.rglob("*.yaml")) if path not in expected and _is_written_by_us(path)]
    changed = [path for path, text in expected.items() if not path.is_file() or path.read_text("utf-8") != text]
    if write:
        for path in stale:
            path.unlink()
        for path in changed:
            path.write_text(expected[path], encoding="utf-8")
    return changed + stale


def _is_written_by_us(path: Path) -> bool:
    return path.read_text("utf-8").startswith(_HEADER.partition("{")[0])


def _expected(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.rglob("*.yaml")):
        own = _read(path)
        variants = (own.get("metadata") or {}).get("variants")
        if variants is None or _is_written_by_us(path):
            continue
        whole = _with_includes(path)
        for suffix, changes in _changes(variants, whole, path):
            content = {"include": path.name, "task": f"{own['task']}_{suffix}", **changes}
            text = _HEADER.format(base=path.name) + yaml.safe_dump(content, sort_keys=False)
            yield path.with_name(f"{path.stem}_{suffix}.yaml"), text


def _changes(variants: Any, whole: dict[str, Any], path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(variants, dict) or not set(variants) <= set(_KINDS):
        raise TaskError(
            f"{path}: metadata.variants={variants!r}; allowed: a mapping of {' and '.join(_KINDS)} to numbers"
        )
    for kind in _KINDS:
        for number in variants.get(kind, []):
            if not isinstance(number, int) or isinstance(number, bool) or number < 1:
                raise TaskError(f"{path}: metadata.variants.{kind} has {number!r}; allowed: whole numbers from 1")
            if kind == "votes":
                yield f"maj{number}", {"repeats": number, "metric_list": _with_votes(whole)}
            else:
                arguments = {**whole.get("generation_kwargs", {}), "thinking_token_budget": number}
                yield f"b{number}", {"generation_kwargs": arguments}


def _with_votes(whole: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**metric, "votes": True} if metric["metric"] in _COUNT_VOTES else metric
        for metric in whole.get("metric_list", [])
    ]


def _with_includes(path: Path) -> dict[str, Any]:
    """A task's fields with its includes merged as lm-eval merges them: whole fields, the including file wins."""
    own = _read(path)
    includes = own.pop("include", [])
    merged: dict[str, Any] = {}
    for include in [includes] if isinstance(includes, str) else includes:
        merged.update(_with_includes(path.parent / include))
    return merged | own


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.load(path.read_text("utf-8"), Loader=_Loader)  # a SafeLoader
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise TaskError(f"{path}: holds {type(content).__name__}; allowed: the fields of a task or group")
    return content
