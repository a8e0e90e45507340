"""`lm-eval-tts tasks`: write benchmark YAMLs and their variants, and check them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.authoring.task_file import TaskFinding
from lm_eval_ext.authoring.tasks_page import update_pages
from lm_eval_ext.authoring.variants import sync as sync_variants
from lm_eval_ext.errors import ResultsError, TaskError, did_you_mean
from lm_eval_ext.paths import TASKS

tasks = typer.Typer(help="Benchmark definitions (YAML).", no_args_is_help=True)
BUDGETS, VOTES = [512, 1024, 2048, 4096, 8192], [8, 32]


@tasks.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the benchmark, without tts_.")],
    dataset: Annotated[
        str | None,
        typer.Option(help="ORG/NAME on the Hub, or a .jsonl, .json, .csv or .parquet file or a folder of them."),
    ] = None,
    from_hub: Annotated[
        str | None, typer.Option("--from-hub", help="ORG/NAME on the Hub, whose eval.yaml says how it is run.")
    ] = None,
    task: Annotated[str | None, typer.Option(help="With --from-hub: id of one of several tasks.")] = None,
    question: Annotated[str | None, typer.Option(help="Column with the question; guessed from its name.")] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            help="Column with the gold answer, guessed from its name; for multiple choice, a letter, index or text."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of answers: math, choice, text, number, json, list, expression; guessed from them."),
    ] = None,
    language: Annotated[str | None, typer.Option(help="Language of the prompt's instruction, such as de.")] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(help="For multiple choice: the field with all choices, or one field per choice; guessed."),
    ] = None,
    as_: Annotated[
        str | None, typer.Option("--as", help="How answers name a choice: letter, index, number, text or label.")
    ] = None,
    split: Annotated[str, typer.Option(help="Split of the dataset; by default test.")] = "",
    config: Annotated[str | None, typer.Option(help="Configuration of the dataset, if it has several.")] = None,
    source: Annotated[str, typer.Option(help="Where the questions are published; by default the dataset.")] = "",
    license_: Annotated[str, typer.Option("--license", help="License of the questions, such as CC-BY-4.0.")] = "",
    budgets: Annotated[
        list[int] | None, typer.Option("--budget", min=1, help="A thinking budget; by default 512, 1024, ..., 8192.")
    ] = None,
    votes: Annotated[
        list[int] | None, typer.Option("--votes", min=2, help="A number of voting samples; by default 8 and 32.")
    ] = None,
    to: Annotated[Path, typer.Option(help="Folder of task YAMLs, for lm_eval's --include_path.")] = Path("tasks"),
) -> None:
    """Write a benchmark's YAML and its variants from the columns of a dataset, or from its eval.yaml.

    What is given here counts more than what the eval.yaml says.
    """
    from lm_eval_ext.authoring.draft import draft, write_draft
    from lm_eval_ext.authoring.from_hub import from_hub as asked_by

    name, found = name.removeprefix("tts_"), from_hub or dataset
    if found is None or (from_hub and dataset) or (task and not from_hub):
        raise TaskError("expected one of --dataset and --from-hub, and --task only with the latter")
    asked = asked_by(from_hub, task) if from_hub else None
    metadata = dict(asked.metadata) if asked else {}
    if question:  # in place of the prompt that says how to answer
        metadata.pop("instruction", None)
    made = draft(
        name, found, split or (asked.split if asked else "test"), question or (asked and asked.question),
        answer or (asked and asked.answer), choices=choices or (asked.choices if asked else ()),
        kind=kind or (asked and asked.kind), way=as_ or (asked and asked.way), language=language,
        config=config or (asked and asked.config), source=source, licence=license_, budgets=budgets or BUDGETS,
        votes=votes or VOTES, metadata=metadata, repeats=asked.repeats if asked else 0,
        shown=asked.columns if asked else (),
    )  # fmt: skip
    if asked and asked.needs_numbers and not kind and made.kind not in ("math", "number", "choice"):
        raise TaskError(
            f"{from_hub}: a model grades its answers, which look like {made.kind}; give --kind if rules can do the same"
        )
    path = write_draft(made.text, name, to)
    try:
        changed = sync_variants(path.parent)
    except TaskError:  # the next try would find a file that is there already
        path.unlink()
        with suppress(OSError):  # there are others
            path.parent.rmdir()
        raise
    print("\n".join(map(str, [path, *(one for one in changed if one != path)])))
    print(made.guessed)


@tasks.command()
def sync(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Folder with base task YAMLs; by default ours.", file_okay=False, exists=True),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only check; exit with 1 if a file is out of date.")] = False,
) -> None:
    """Write the variants (thinking budgets, votes) declared in base YAMLs under metadata.variants.

    For our own tasks, in a checkout, it also updates the documentation pages that list them.
    """
    changed = sync_variants(folder or TASKS, write=not check)
    pages = [] if folder or (check and changed) else update_pages(write=not check)  # they are made from these files
    for path in changed:
        print(path.relative_to(folder or TASKS))
    for page in pages:
        print(page)
    if check and (changed or pages):
        raise typer.Exit(1)
    print(f"files {'out of date' if check else 'changed'}: {len(changed) + len(pages)}")


@tasks.command("check")
def check_(
    given: Annotated[list[str] | None, typer.Argument(help="Files, folders or task names; by default all.")] = None,
    data: Annotated[bool, typer.Option("--data/--no-data", help="Also check the datasets.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print findings as a JSON array.")] = False,
    github: Annotated[bool, typer.Option("--github", help="Print findings as annotations of a pull request.")] = False,
    site: Annotated[Path | None, typer.Option(help="A different site.yaml, which lists gated benchmarks.")] = None,
    trust: Annotated[bool, typer.Option("--trust", help="Run the functions and loaders that the files name.")] = False,
) -> None:
    """Check benchmarks: YAML, fields, names, metrics, prompts, and their questions and answers.

    Code named in a file is not run unless --trust is given. Prints one finding per line, as FILE:LINE: RULE: TEXT.
    Exits with 0 if there are no errors (warnings are fine), 1 if there are, 2 for invalid usage.
    """
    try:
        found = checked([_path(one) for one in given or [str(TASKS)]], data=data, site=site, trust=trust)
    except (TaskError, ResultsError) as error:
        print(f"lm-eval-tts: {error}", file=sys.stderr)
        raise typer.Exit(2) from error
    faults = sum(not finding.warning for finding in found)
    if github:
        print("\n".join(finding.as_annotation() for finding in found))
    elif as_json:
        print(json.dumps([finding.as_json() for finding in found], indent=1))
    else:
        print("\n".join([*map(str, found), f"errors: {faults}, warnings: {len(found) - faults}"]))
    if faults:
        raise typer.Exit(1)


@tasks.command("try")
def try_(
    given: Annotated[str, typer.Argument(metavar="TASK", help="A task's name or file.")],
    limit: Annotated[int, typer.Option(min=1, help="Number of questions.")] = 3,
    model: Annotated[
        str | None, typer.Option(help="Model on the Hub, or a folder; by default the embedded one.")
    ] = None,
    engine: Annotated[str, typer.Option(help="hf, vllm or server.")] = "hf",
    max_tokens: Annotated[int, typer.Option(min=2, help="Tokens of an output at most.")] = 256,
    num_fewshot: Annotated[int | None, typer.Option(min=0, help="Worked examples; by default the task's own.")] = None,
    run_untrusted_code: Annotated[
        bool, typer.Option("--run-untrusted-code", help="Run programs that the model writes, in a sandbox.")
    ] = False,
) -> None:
    """Show a few questions as the model sees them, run them, and show answers and grades side by side.

    Nothing is written. The embedded model can only do sums of digits; with it you see prompt and extraction.
    """
    from rich.console import Console

    from lm_eval_ext.authoring.task_file import root_of
    from lm_eval_ext.authoring.trial import shown, tried

    path = _path(given)
    rows = tried(
        path.stem, root_of(path), limit=limit, engine=engine, pretrained=model, tokens=max_tokens,
        num_fewshot=num_fewshot, run_untrusted_code=run_untrusted_code,
    )  # fmt: skip
    console = Console()
    for part in shown(rows):
        console.print(part)


@tasks.command()
def cost(
    name: Annotated[str, typer.Argument(help="A task or group of the registry.")],
    tokens_per_second: Annotated[
        float, typer.Option(min=1, help="Tokens that the model generates per second, over all requests at once.")
    ] = 3000.0,
) -> None:
    """Estimate what an evaluation costs at most: samples, tokens and hours.

    The default speed is a cautious one for an 8B model on one data-centre GPU with vLLM; measure your own.
    """
    from rich.console import Console

    from lm_eval_ext.authoring.trial import as_sentence, as_table, costs

    found = costs(name.removesuffix(".yaml"))
    Console().print(as_table(found))
    print(as_sentence(found, tokens_per_second))


def checked(paths: Sequence[Path], *, data: bool, site: Path | None = None, trust: bool = False) -> list[TaskFinding]:
    """All findings on task YAMLs, by file and line."""
    from lm_eval_ext.authoring.checks import check_files, task_files
    from lm_eval_ext.authoring.data_checks import check_data, quiet
    from lm_eval_ext.harness.registry import tasks_of_others
    from lm_eval_ext.runs.catalogue import read_catalogue

    with quiet():
        files = task_files(paths)
        found, sound = check_files(files, tasks_of_others({path.resolve() for path in files}), trust=trust)
        catalogue = read_catalogue(site)
        for task in sound if data else ():
            found += check_data(task, catalogue, trust=trust)
    return sorted(found, key=lambda finding: (finding.path, finding.line))


def _path(given: str) -> Path:
    """A path unchanged; for a task's name, its file."""
    if Path(given).exists():
        return Path(given)
    from lm_eval_ext.authoring.task_registry import Tasks

    named = Tasks().files
    if given not in named:
        hint = did_you_mean(given, named)
        raise TaskError(f"{given}: not a file, a folder, or the name of an installed task{hint}")
    return named[given]
