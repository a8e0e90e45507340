"""`lm-eval-tts tasks`: write a benchmark's YAML, its variants, and find what is wrong with it."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.authoring.finding import TaskFinding
from lm_eval_ext.authoring.tasks_page import write_tasks_page
from lm_eval_ext.authoring.variants import sync as sync_variants
from lm_eval_ext.errors import ResultsError, TaskError
from lm_eval_ext.paths import TASKS

tasks = typer.Typer(help="Benchmarks as YAML.", no_args_is_help=True)
BUDGETS, VOTES = [512, 1024, 2048, 4096, 8192], [8, 32]


@tasks.command()
def new(
    name: Annotated[str, typer.Argument(help="The benchmark's name, without tts_.")],
    dataset: Annotated[str, typer.Option(help="ORG/NAME on the Hub, or a .jsonl, .json, .csv or .parquet file.")],
    question: Annotated[str, typer.Option(help="The dataset's field with the question.")],
    answer: Annotated[
        str, typer.Option(help="The dataset's field with the gold answer; of choices a letter, an index or a text.")
    ],
    choices: Annotated[
        list[str] | None, typer.Option(help="Of multiple choice: the field with the list, or one for each choice.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the dataset; of a file, test.")] = "test",
    config: Annotated[str | None, typer.Option(help="Of the dataset, where it has several.")] = None,
    source: Annotated[str, typer.Option(help="Where the questions are published; by default the dataset.")] = "",
    license_: Annotated[str, typer.Option("--license", help="Of the questions, as CC-BY-4.0.")] = "",
    budgets: Annotated[
        list[int] | None, typer.Option("--budget", min=1, help="A thinking budget; by default 512, 1024, ..., 8192.")
    ] = None,
    votes: Annotated[
        list[int] | None, typer.Option("--votes", min=2, help="A number of samples that vote; by default 8 and 32.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder of task YAMLs; lm_eval finds it by --include_path.")] = Path("tasks"),
) -> None:
    """Write a benchmark's YAML and its variants from a dataset's real columns."""
    from lm_eval_ext.authoring.draft import draft, write_draft

    name = name.removeprefix("tts_")
    text = draft(
        name, dataset, split, question, answer, choices=choices or (), config=config, source=source, licence=license_,
        budgets=budgets or BUDGETS, votes=votes or VOTES,
    )  # fmt: skip
    path = write_draft(text, name, to)
    print("\n".join(map(str, [path, *sync_variants(path.parent)])))


@tasks.command()
def sync(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder with base task YAMLs; by default ours.", file_okay=False, exists=True),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 if a variant is out of date.")] = False,
) -> None:
    """Write the variants (thinking budgets, votes) that base YAMLs declare under metadata.variants.

    Of our own tasks, in a checkout, it also writes the page of all tasks in the documentation.
    """
    changed = sync_variants(folder or TASKS, write=not check)
    for path in changed:
        print(path.relative_to(folder or TASKS))
    if check and changed:
        raise typer.Exit(1)
    if folder is None and not check and (page := write_tasks_page()):
        print(page)
    print(f"{len(changed)} files {'out of date' if check else 'changed'}")


@tasks.command("check")
def check_(
    given: Annotated[list[str] | None, typer.Argument(help="Files, folders or names; by default all tasks.")] = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="Look at the datasets as well.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Findings as a JSON array.")] = False,
    site: Annotated[Path | None, typer.Option(help="Another site.yaml, which names gated benchmarks.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the functions and loaders that the files name.")] = False,
) -> None:
    """Find what is wrong with benchmarks: YAML, fields, names, metrics, prompts, and their questions and answers.

    Nothing that a file names is run, unless --trust is given. One line a finding, as FILE:LINE: RULE: TEXT. Exits with
    0 if there are none but warnings, else with 1; with 2 if it was called wrongly.
    """
    try:
        found = checked([_path(one) for one in given or [str(TASKS)]], data=data, site=site, trust=trust)
    except (TaskError, ResultsError) as error:
        print(f"lm-eval-tts: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    faults = sum(not finding.warning for finding in found)
    if as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=1))
    else:
        print("\n".join([*map(str, found), f"{faults} faults, {len(found) - faults} warnings"]))
    if faults:
        raise typer.Exit(1)


def checked(paths: Sequence[Path], *, data: bool, site: Path | None = None, trust: bool = False) -> list[TaskFinding]:
    """All findings on task YAMLs, by file and line."""
    from lm_eval_ext.authoring.checks import check_files, task_files
    from lm_eval_ext.authoring.data_checks import check_data, quiet
    from lm_eval_ext.harness.names import tasks_of_others
    from lm_eval_ext.runs.catalogue import read_catalogue

    with quiet():
        files = task_files(paths)
        found, sound = check_files(files, tasks_of_others({path.resolve() for path in files}), trust=trust)
        catalogue = read_catalogue(site) if site else read_catalogue()
        for task in sound if data else ():
            found += check_data(task, catalogue, trust=trust)
    return sorted(found, key=lambda finding: (finding.path, finding.line))


def _path(given: str) -> Path:
    """A path as it is; of a task's name its file."""
    if Path(given).exists():
        return Path(given)
    named = [path for path in TASKS.rglob("*.yaml") if path.stem == given]
    if not named:
        near = difflib.get_close_matches(given, [path.stem for path in TASKS.rglob("*.yaml")], 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise TaskError(f"{given}: is neither a file, a folder, nor the name of a task of ours{hint}")
    return named[0]
