"""`lm-eval-tts compare`: holds a smaller model against its base, and ends with a verdict as its exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lm_eval_ext.cli.reporting import check_folders, exit_with, write
from lm_eval_ext.declared import field_names, read_mapping
from lm_eval_ext.errors import ArgumentError, ResultsError, first_fault
from lm_eval_ext.redaction import visible

if TYPE_CHECKING:
    from lm_eval_ext.analysis.compare_text import Comparison
    from lm_eval_ext.analysis.found_lost import ShownTrace


EXIT_CODES = {None: 0, "kept": 0, "lost": 1, "undecided": 3}


Names = Annotated[list[str], BeforeValidator(lambda given: _listed(given) if isinstance(given, str) else given)]


class CompareFile(BaseModel):
    """Content of a `compare.yaml`; paths are relative to its folder."""

    model_config = ConfigDict(extra="forbid")

    base: Path
    candidate: Path | list[Path] = []
    keep: float | None = Field(default=None, gt=0, lt=1)
    on: Names = []
    all_budgets: bool = False
    allow: Names = []
    same_prompts: bool = False
    common: bool = False
    regrade: bool = False
    plan: bool = False
    json_file: Path | None = Field(default=None, alias="json")
    html: Path | None = None


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
    allow: Annotated[str, typer.Option(help="What may differ or be unknown, such as `sampling`.")] = "",
    same_prompts: Annotated[
        bool, typer.Option("--same-prompts", help="Refuse other chat templates, tokenizers or thinking formats.")
    ] = False,
    common: Annotated[
        bool, typer.Option("--common", help="Of logs of other tools, only the questions that both have.")
    ] = False,
    regrade: Annotated[
        bool,
        typer.Option(
            "--regrade",
            help="Also grade saved answers, of mathematics and of multiple choice, with our grader; this decides.",
        ),
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
    that can't be compared, exits with 2, and Ctrl-C with 130.
    """
    said: dict[str, object] = {
        "keep": keep, "on": on, "all_budgets": all_budgets, "allow": allow, "same_prompts": same_prompts,
        "common": common, "regrade": regrade, "plan": plan, "json": json, "html": html,
    }  # fmt: skip

    def verdict() -> int:
        asked = {name: value for name, value in said.items() if not (value is None or value is False or value == "")}
        given = _given(config, models, asked)
        return _plan(given) if given.plan else _compare(given)

    exit_with(verdict, "lm-eval-tts: interrupted")


def _given(config: Path | None, models: Sequence[Path] | None, said: Mapping[str, object]) -> CompareFile:
    """What the file says, and the command line, which counts where both say something."""
    if not (config or models):
        raise ResultsError("no results given; expected: lm-eval-tts compare BASE CANDIDATE, or --config FILE")
    named = {"base": models[0], "candidate": list(models[1:])} if models else {}
    try:
        content = read_mapping(config, ResultsError, fields=field_names(CompareFile)) if config else {}
        if config:  # paths are relative to its folder
            content |= {name: _below(config.parent, content[name]) for name in _PATHS if name in content}
        return CompareFile.model_validate({**content, **named, **said})
    except ValidationError as error:
        fault = first_fault(error, known=field_names(CompareFile))
        raise ResultsError(f"{config}: {fault}" if config else fault) from error


_PATHS = ("base", "candidate", "json", "html")


def _below(folder: Path, given: object) -> object:
    if isinstance(given, list):
        return [_below(folder, value) for value in given]
    return folder / given if isinstance(given, str) else given


def _listed(text: str) -> list[str]:
    if names := [part.strip() for part in text.split(",") if part.strip()]:
        return names
    raise ValueError("give names, separated by commas")


def _plan(given: CompareFile) -> int:
    if said := [name for name in sorted(given.model_fields_set - {"base", "keep", "plan"}) if getattr(given, name)]:
        names = ", ".join(said).replace("json_file", "json")
        raise ArgumentError(f"--plan takes the base and --keep alone; leave out {names}")
    from lm_eval_ext.analysis.comparison import planned
    from lm_eval_ext.runs.catalogue import read_catalogue

    print(planned(given.base, read_catalogue(), 0.95 if given.keep is None else given.keep))
    return 0


def _compare(given: CompareFile) -> int:
    from lm_eval_ext.analysis.compare_text import page
    from lm_eval_ext.api import compare as compared

    outputs = {"json": given.json_file, "html": given.html}
    check_folders(outputs)
    candidates = given.candidate if isinstance(given.candidate, list) else [given.candidate]
    if not candidates:
        raise ResultsError(
            "no candidate given; expected: lm-eval-tts compare BASE CANDIDATE (or --plan for BASE alone)"
        )
    options = given.model_dump(include={"keep", "on", "all_budgets", "allow", "same_prompts", "common", "regrade"})
    found = [compared(given.base, candidate, **options) for candidate in candidates]
    print("\n\n".join(map(str, found)))
    if len(found) > 1:
        print(f"\n{_spread(found)}")
    parts = ",\n".join(one.to_json() for one in found)
    write(outputs, json=lambda: f"{parts}\n" if len(found) == 1 else f"[{parts}]\n", html=lambda: page(found))
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


def depth(
    runs: Annotated[list[Path], typer.Argument(help="Results folders of one model each, or published runs.")],
) -> None:
    """Show accuracy by number of steps, the half-life, and where written chains first go wrong."""
    from tqdm import tqdm

    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.analysis.parts import COLUMN, depths
    from lm_eval_ext.errors import ResultsError
    from lm_eval_ext.runs.catalogue import read_catalogue

    models = [read_model(path, read_catalogue()) for path in runs]
    tasks = [task for model in models for task in model.tasks.values() if COLUMN in task.result.parts]
    if not tasks:
        raise ResultsError("no task with a number of steps; expected results of tts_depth or tts_chain with samples")
    with tqdm(total=sum(len(task.scores) for task in tasks), desc="Questions", disable=None) as bar:
        found = [depths(model, bar.update) for model in models]
    print("\n\n".join(map(str, found)))


def diagnose(
    runs: Annotated[list[Path], typer.Argument(help="Results folders of one model each, or published runs.")],
) -> None:
    """Measure signs of repetition, diversity and reflection in the traces of runs, from their samples alone."""
    from tqdm import tqdm

    from lm_eval_ext.analysis.diagnosis import diagnose as diagnosed
    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.runs.catalogue import read_catalogue

    models = [read_model(path, read_catalogue()) for path in runs]
    questions = sum(len(task.scores) * len(task.sources) for model in models for task in model.tasks.values())
    with tqdm(total=questions, desc="Questions", disable=None) as bar:
        found = [diagnosed(model, bar.update) for model in models]
    print("\n\n".join(map(str, found)))


def trace(
    run: Annotated[Path, typer.Argument(help="Results folder of one model, or a published run.")],
    question: Annotated[int, typer.Option(help="Id of the question (`doc_id`).")],
    sample: Annotated[int, typer.Option(help="Number of the sample, from 0.")] = 0,
    on: Annotated[str, typer.Option(help="Benchmark; needed if the run has several.")] = "",
) -> None:
    """Show one trace: the thinking with its cuts, and the answer at each budget with its grade."""
    from rich.console import Console

    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.analysis.found_lost import trace_of
    from lm_eval_ext.runs.catalogue import read_catalogue

    found = trace_of(read_model(run, read_catalogue()), question, sample, on)
    shown = [(visible(line), style) for line, style in _lines(found)]
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    if not console.is_terminal:
        for line, _ in shown:
            print(line)
        return
    with console.pager(styles=True):
        for line, style in shown:
            console.print(line, style=style, markup=False)


def _lines(found: ShownTrace) -> Iterator[tuple[str, str]]:
    """Lines of a trace, each with its style."""
    yield f"{found.benchmark}, question {found.question}, sample {found.sample}; gold answer: {found.gold}", "bold"
    if found.prompt:
        yield found.prompt, "dim"
    for cut in found.cuts:
        yield cut.thinking, ""
        style = "bold green" if cut.grade == "correct" else "bold red"
        yield f"--- {cut.budget}: {cut.answer or 'no answer'} ({cut.grade})", style
