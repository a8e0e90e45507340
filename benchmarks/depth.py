"""At which depth models break: accuracy by number of steps, of the embedded model and of SmolLM2, whole and pruned.

    python -m benchmarks.depth [--results FOLDER] [--write]

Runs `lm_eval`; a results folder that is there already is read instead, so that an interrupted run goes on with the
next model. The embedded model takes minutes, SmolLM2 about an hour on two cores. `--write` saves curves and tables to
`docs/reference/depth.md` and `docs/images/`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.smollm2 import SMOLLM2
from lm_eval_ext.analysis.evaluated import read_model
from lm_eval_ext.analysis.parts import Depths, TaskDepth, depths
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.testbed.depth import FAMILIES

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TASK = """include: {root}/tasks/depth/_depth
task: depth_{family}
custom_dataset: !function lm_eval_ext.testbed.depth.{family}_dataset
dataset_kwargs: {{depths: {steps}}}
repeats: 1
generation_kwargs:
  {{do_sample: false, temperature: 0.0, max_gen_toks: {most}, thinking_token_budget: {budget}, until: []}}
metadata: {{version: 2.0, chance: {chance}, parts: steps}}
"""
ANSWER = 128  # tokens at most
FAMILY_TASKS = [f"depth_{family}" for family in FAMILIES]
ONE, TWO = "one layer fewer", "two layers fewer"
SHORTGPT = {ONE: "prune=shortgpt:1", TWO: "prune=shortgpt:2"}


class Study(NamedTuple):
    """Models that are compared on some tasks.

    Attributes:
        name: of its picture and results.
        title: its heading.
        text: what was run.
        tasks: names, as for `--tasks`.
        options: of `lm_eval`, the same for all models.
        models: `model_args` by model.
        steps, budget: of the tasks on families, the numbers of steps that they are dialled to, and thinking tokens.
    """

    name: str
    title: str
    text: str
    tasks: Sequence[str]
    options: Sequence[str]
    models: Mapping[str, str]
    steps: Sequence[int] = ()
    budget: int = 0


STUDIES = [
    Study(
        "tiny-chain", "The embedded model",
        "tiny-chain on `tts_chain_b128`: three samples of 200 sums of 6 to 40 steps at temperature 1, with at most 128 "
        "thinking tokens.",
        ["tts_chain_b128"], ["--batch_size", "256"],
        {"whole": "", **{name: f"{args},calibration=task:tts_chain_short" for name, args in SHORTGPT.items()}},
    ),
    Study(
        "tiny-chain-families", "The embedded model on `tts_depth`",
        "tiny-chain on the five families of `tts_depth`, whose English it was never trained on, dialled to 1 to 8 "
        "steps, because its context has 1,024 tokens and each letter is one: 25 problems of each depth, greedy, with "
        "at most 128 thinking tokens.",
        FAMILY_TASKS, ["--batch_size", "256"],
        {"whole": "", **{name: f"{args},calibration=task:tts_chain_short" for name, args in SHORTGPT.items()}},
        steps=[1, 2, 4, 8], budget=128,
    ),
    Study(
        "smollm2", "SmolLM2-135M",
        "SmolLM2-135M-Instruct on the five families of `tts_depth`, dialled to 1 to 32 steps, because it has broken "
        "before 8: 25 problems of each depth, greedy, with at most 512 thinking tokens.",
        FAMILY_TASKS, ["--batch_size", "32", "--apply_chat_template"],
        {"whole": f"pretrained={SMOLLM2}", TWO: f"pretrained={SMOLLM2},{SHORTGPT[TWO]}"},
        steps=[1, 2, 4, 8, 16, 32], budget=512,
    ),
]  # fmt: skip
PAGE = """# At which depth models break

Accuracy by number of steps, with 95% intervals; the dashed line is the score of guessing. *All steps right* is the
share of samples that write down every step, and each correctly; *first wrong* is where the others first state another
result or leave a step out, in the middle of them. How the half-life is measured stands in
[Statistics](../statistics.md#half-life). Written by `python -m benchmarks.depth --write`.
"""
SECTION = """
## {title}

{text}

![Accuracy by number of steps: {models}](../images/depth-{name}.svg)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "out" / "depth")
    parser.add_argument("--write", action="store_true", help="save page and pictures")
    given = parser.parse_args()
    page = PAGE
    for study in STUDIES:
        found = {name: measured(study, name, given.results) for name in study.models}
        print(*found.values(), sep="\n\n")
        page += section(study, found)
        if given.write:
            plot(found, DOCS / "images" / f"depth-{study.name}.svg")
    if given.write:
        (DOCS / "reference" / "depth.md").write_text(page, encoding="utf-8")


def measured(study: Study, model: str, results: Path) -> Depths:
    """Evaluate a model, unless its results are there, and measure its depths."""
    folder = results / study.name / model.replace(" ", "-")
    if not list(folder.rglob("results_*.json")):
        options = ["--output_path", str(folder), "--log_samples", "--include_path", str(own_tasks(study, results))]
        command = ["lm_eval", "--model", "pruned-hf", "--tasks", ",".join(study.tasks), *study.options, *options]
        subprocess.run(
            [sys.executable, "-m", *command, "--model_args", study.models[model] or "dtype=auto"], check=True
        )
    return depths(read_model(folder, read_catalogue()))


def own_tasks(study: Study, results: Path) -> Path:
    """A folder with the study's task of each family."""
    folder = results / study.name / "tasks"
    folder.mkdir(parents=True, exist_ok=True)
    for name, family in FAMILIES.items():
        asked = {"steps": study.steps, "budget": study.budget, "most": study.budget + ANSWER}
        text = TASK.format(root=ROOT, family=name, chance=round(family.chance, 4), **asked)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def section(study: Study, found: Mapping[str, Depths]) -> str:
    """The part of the page about a study."""
    text = f"{study.text}{at_chance(found)}"
    title = SECTION.format(title=study.title, text=text, name=study.name, models=", ".join(study.models))
    for number, task in enumerate(study.tasks):
        rows = [row for name, model in found.items() for row in table_rows(name, model.tasks[number])]
        header = "| model | steps | accuracy, % | all steps right, % | first wrong, % of the way | half-life |"
        title += "\n".join([f"\n`{task}`\n", header, "| -- | --: | --: | --: | --: | --: |", *rows, ""])
    return title


def at_chance(found: Mapping[str, Depths]) -> str:
    """A sentence about models that are nowhere better than guessing; empty if all are somewhere."""
    rows = {name: [(row, task.chance) for task in model.tasks for row in task.rows] for name, model in found.items()}
    names = [name for name, some in rows.items() if all(row.accuracy.low <= chance for row, chance in some)]
    return f" Not better than guessing at any depth: {', '.join(names)}." if names else ""


def table_rows(name: str, task: TaskDepth) -> Iterator[str]:
    def percent(value: float | None) -> str:
        return "" if value is None else f"{100 * value:.0f}"

    life = task.half_life
    said = f"{life.estimate:.3g} ({life.low:.3g} to {life.high:.3g})" if life else "not measurable"
    for row in task.rows:
        accuracy = f"{percent(row.accuracy.estimate)} ({percent(row.accuracy.low)} to {percent(row.accuracy.high)})"
        yield f"| {name} | {row.steps} | {accuracy} | {percent(row.sound)} | {percent(row.first_wrong)} | {said} |"
        name = said = ""


def plot(found: Mapping[str, Depths], path: Path) -> None:
    """Save the curves, one chart for each task."""
    import altair

    rows = [
        {"model": name, "task": task.task, "steps": middle(row.steps), "accuracy": row.accuracy.estimate,
         "low": row.accuracy.low, "high": row.accuracy.high, "chance": task.chance}
        for name, model in found.items()
        for task in model.tasks
        for row in task.rows
    ]  # fmt: skip
    steps = altair.X("steps:Q", scale=altair.Scale(type="log", base=2), title="steps")
    model = altair.Color("model:N", sort=list(found), title=None)
    base = altair.Chart().encode(x=steps, color=model)
    layers = [
        base.mark_line(point=True).encode(
            y=altair.Y("accuracy:Q", scale=altair.Scale(domain=[0, 1]), title="accuracy")
        ),
        base.mark_rule(opacity=0.4).encode(y="low:Q", y2="high:Q"),
        altair.Chart().mark_rule(strokeDash=[4, 4], color="grey").encode(y="max(chance):Q"),
    ]
    data = altair.Data(values=rows)  # type: ignore[no-untyped-call]  # altair's own
    chart = altair.layer(*layers, data=data).properties(width=230, height=170)
    chart.facet(altair.Facet("task:N", title=None), columns=3).save(str(path))


def middle(steps: str) -> float:
    """The middle of a range such as `6 to 9`."""
    first, _, last = steps.partition(" to ")
    return (float(first) + float(last or first)) / 2


if __name__ == "__main__":
    main()
