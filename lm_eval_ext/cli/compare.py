"""`lm-eval-tts compare`: holds a smaller model against its base, and ends with a verdict as its exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lm_eval_ext.errors import ResultsError, TTSError
from lm_eval_ext.runs.run_file import first_fault

if TYPE_CHECKING:
    from lm_eval_ext.analysis.compare import Comparison

EXIT_CODES = {None: 0, "kept": 0, "lost": 1, "undecided": 3}
NO_VERDICT = 2


class CompareFile(BaseModel):
    """Content of a `compare.yaml`; paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid")

    base: Path
    candidate: Path | list[Path]
    keep: Annotated[float | None, Field(gt=0, lt=1)] = None
    on: list[str] = []
    all_budgets: bool = False
    allow: list[str] = []
    same_prompts: bool = False


class _Loader(yaml.SafeLoader):
    """Reads `on` as the name of a field: in YAML 1.1, it is a truth value."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if first not in "oO" or tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def compare(
    models: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BASE CANDIDATE...", help="Results folders or published runs: the base, then others."),
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="Share of the base's accuracy that must be kept, such as 0.95.")
    ] = None,
    on: Annotated[str, typer.Option(help="Benchmarks to compare, separated by commas; all by default.")] = "",
    all_budgets: Annotated[
        bool, typer.Option("--all-budgets", help="Every budget decides, not only the largest.")
    ] = False,
    allow: Annotated[str, typer.Option(help="`sampling`: sampling parameters may differ.")] = "",
    same_prompts: Annotated[
        bool, typer.Option("--same-prompts", help="Refuse other chat templates, tokenizers or thinking formats.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="From a base run alone: what a comparison with it could show.")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="A YAML file with the same options, for CI.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write everything to this file as JSON.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file.")] = None,
) -> None:
    """Compare smaller models with their base: does it still reason, and does more thinking still help?

    With --keep, the exit code is the verdict: 0 kept, 1 lost, 3 undecided. Anything that is no verdict, such as results
    that can't be compared, exits with 2.
    """
    try:
        given = _from_file(config) if config else _from_line(models, keep, on, all_budgets, allow, same_prompts)
        code = _plan(given) if plan else _compare(given, json, html)
    except Exception as error:  # 1 means "lost", so nothing else may end with it
        kind = "" if isinstance(error, (TTSError, OSError)) else f"{type(error).__name__}: "
        print(f"lm-eval-tts: {kind}{' '.join(str(error).split())}", file=sys.stderr)
        code = NO_VERDICT
    except KeyboardInterrupt:
        print("lm-eval-tts: interrupted", file=sys.stderr)
        code = NO_VERDICT
    raise typer.Exit(code)


def _from_file(path: Path) -> CompareFile:
    try:
        found = CompareFile.model_validate(yaml.load(path.read_text("utf-8"), _Loader))
    except ValidationError as error:
        raise ResultsError(f"{path}: {first_fault(error)}") from error
    except yaml.YAMLError as error:
        raise ResultsError(f"{path}: cannot be read as YAML ({' '.join(str(error).split())[:200]})") from error
    candidates = found.candidate if isinstance(found.candidate, list) else [found.candidate]
    moved = [path.parent / candidate for candidate in candidates]
    return found.model_copy(update={"base": path.parent / found.base, "candidate": moved})


def _from_line(
    models: Sequence[Path] | None, keep: float | None, on: str, all_budgets: bool, allow: str, same_prompts: bool
) -> CompareFile:
    if not models:
        raise ResultsError("no results given; expected: lm-eval-tts compare BASE CANDIDATE, or --config FILE")
    try:
        return CompareFile(
            base=models[0],
            candidate=list(models[1:]),
            keep=keep,
            on=_listed(on),
            all_budgets=all_budgets,
            allow=_listed(allow),
            same_prompts=same_prompts,
        )
    except ValidationError as error:
        raise ResultsError(first_fault(error)) from error


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plan(given: CompareFile) -> int:
    from lm_eval_ext.analysis.compare import planned
    from lm_eval_ext.runs.catalogue import read_catalogue

    print(planned(given.base, read_catalogue(), 0.95 if given.keep is None else given.keep))
    return 0


def _compare(given: CompareFile, json: Path | None, html: Path | None) -> int:
    from lm_eval_ext.api_results import compare as compared

    candidates = given.candidate if isinstance(given.candidate, list) else [given.candidate]
    if not candidates:
        raise ResultsError(
            "no candidate given; expected: lm-eval-tts compare BASE CANDIDATE (or --plan for BASE alone)"
        )
    options = given.model_dump(exclude={"base", "candidate"})
    found = [compared(given.base, candidate, **options) for candidate in candidates]
    print("\n\n".join(map(str, found)))
    if len(found) > 1:
        print(f"\n{_spread(found)}")
    _write(found, json, html)
    codes = [EXIT_CODES[one.verdict] for one in found]
    return next(code for code in (1, 3, 0) if code in codes)


def _spread(found: Sequence[Comparison]) -> str:
    """How much the kept share differs between candidates, such as layers chosen with other calibration texts."""
    lines = [f"{len(found)} candidates, share of the base's accuracy that is kept:"]
    for row in found[0].rows:
        others = [other.kept.estimate for one in found for other in one.rows if other.task == row.task and other.kept]
        if others:
            lines.append(f"  {row.task}: {100 * min(others):.1f}% to {100 * max(others):.1f}%")
    return "\n".join(lines)


def _write(found: Sequence[Comparison], json: Path | None, html: Path | None) -> None:
    from lm_eval_ext.analysis.compare_html import page

    if json:
        parts = ",\n".join(one.to_json() for one in found)
        json.write_text(f"{parts}\n" if len(found) == 1 else f"[{parts}]\n", encoding="utf-8")
    if html:
        html.write_text(page(found), encoding="utf-8")
