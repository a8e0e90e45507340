"""A few questions of a benchmark as the model sees them, its outputs, and how they are graded."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lm_eval_ext.errors import TaskError
from lm_eval_ext.generation.options import asks_for_thinking
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import read_source
from lm_eval_ext.runs.samples import Sample, read_json
from lm_eval_ext.runs.untrusted import mapping

if TYPE_CHECKING:
    from rich.console import RenderableType

LONGEST = 1_200  # characters shown of a prompt or an output
_STYLES = {"correct": "green", "wrong": "red"}


class Trial(NamedTuple):
    """A question with its outputs, and its prompt as the model reads it; None if it must not be shown."""

    sample: Sample
    seen: str | None


def tried(
    name: str, include: Path | None, *, limit: int, engine: str, pretrained: str | None, tokens: int,
    num_fewshot: int | None = None,
) -> Sequence[Trial]:  # fmt: skip
    """Evaluate a model on the first questions of a task; nothing is left on disk.

    Args:
        name: the task.
        include: its folder of benchmarks, if it is not installed.
        limit: number of questions.
        engine: `hf` or `vllm`.
        pretrained: the model; by default the embedded one.
        tokens: limit on the tokens of an output.
        num_fewshot: worked examples in the prompt; by default as many as the task has.

    Raises:
        TaskError: the task is unknown, or a group.
    """
    from lm_eval_ext.harness.session import evaluated, load_model, seen_by

    model = load_model({"journal": "off", **({"pretrained": pretrained} if pretrained else {})}, engine, "auto")
    folder = str(include) if include else None
    with tempfile.TemporaryDirectory() as out:
        options = {"limit": limit, "gen_kwargs": {"max_gen_toks": tokens}, "num_fewshot": num_fewshot}
        path = evaluated(model, [name], Path(out), folder, options)
        source = read_source(path, read_catalogue())
        if name not in source.run.tasks:
            raise TaskError(f"{name} is a group; try one of its tasks: {', '.join(list(source.run.tasks)[:5])}")
        samples = source.samples(name)
        config = mapping(mapping(read_json(path).get("configs")).get(name))
        thinks = asks_for_thinking(mapping(config.get("generation_kwargs")))
        seen = iter(seen_by(model, [one.prompt for one in samples if one.prompt is not None], thinks=thinks))
        return [Trial(one, None if one.prompt is None else next(seen)) for one in samples]


def shown(rows: Sequence[Trial]) -> Iterator[RenderableType]:
    """Each question with its outputs, answers and grades."""
    from rich.rule import Rule
    from rich.text import Text

    for row in rows:
        yield Rule(f"question {row.sample.id}", align="left")
        yield Text(_shortened(row.seen or "(gated: not shown)"))
        yield _outputs(row.sample)


def _outputs(row: Sample) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table("output", "answer", "grade", title=f"gold answer: {row.gold}", title_justify="left", expand=True)
    for one in row.outputs:
        grade = Text(one.grade, style=_STYLES.get(one.grade, "yellow"))
        table.add_row(Text(_shortened(one.text or "")), Text(one.answer or "-"), grade)
    return table


def _shortened(text: str) -> str:
    half = LONGEST // 2
    left_out = len(text) - LONGEST
    return text if left_out <= 0 else f"{text[:half]}\n... {left_out:,} characters more ...\n{text[-half:]}"
