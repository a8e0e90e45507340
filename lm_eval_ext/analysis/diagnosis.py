"""Diagnosis of a run from its samples alone: no model, no judge."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lm_eval_ext.analysis import signs
from lm_eval_ext.analysis.bleu import self_bleu
from lm_eval_ext.analysis.compare_text import table
from lm_eval_ext.analysis.evaluated import EvaluatedModel
from lm_eval_ext.runs.samples import Sample
from lm_eval_ext.thinking_formats import thinking_of

if TYPE_CHECKING:
    import pandas

# Name: what it says.
SIGNS: Mapping[str, str] = {
    "words": "words per trace",
    "self_bleu": "self-BLEU over up to 20 sentences of a trace",
    "self_bleu_samples": "self-BLEU over the samples of a question",
    "distinct_1": "distinct words, as a share of all",
    "distinct_2": "distinct pairs of words, as a share of all",
    "distinct_3": "distinct triples of words, as a share of all",
    "compression": "compression ratio by zlib",
    "repeated": "share of words in a run of 20 that occurred before",
    "repeated_steps": "share of sentences that repeat an earlier one",
    "reflections": "marks of reflection per 1,000 words",
    "foreign": "share of letters in scripts that the prompt does not use",
}


@dataclass(frozen=True)
class Diagnosis:
    """Signs in a model's traces: means over questions, by task."""

    model: str
    tasks: Mapping[str, Mapping[str, float | None]]
    left_out: Sequence[str] = ()

    def to_frame(self) -> pandas.DataFrame:
        """One row per task, one column per sign."""
        import pandas

        return pandas.DataFrame([{"model": self.model, "task": task, **found} for task, found in self.tasks.items()])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __str__(self) -> str:
        names = list(self.tasks)
        rows = [
            (SIGNS[sign], *("-" if (value := self.tasks[name][sign]) is None else f"{value:.3f}" for name in names))
            for sign in SIGNS
        ]
        notes = [
            f"{task}: no texts were saved, because it is gated or does not generate text" for task in self.left_out
        ]
        return "\n".join([self.model, table(("sign", *names), rows), *notes])


def diagnose(model: EvaluatedModel, on_question: Callable[[], object] = lambda: None) -> Diagnosis:
    """Measure the signs of all tasks with texts.

    Args:
        model: the evaluated model.
        on_question: called after each question.
    """
    tasks: dict[str, Mapping[str, float | None]] = {}
    left_out = []
    for name, task in model.tasks.items():
        rows = [(row, source.run.thinking_format) for source in task.sources for row in source.samples(task.task)]
        if not any(output.text for row, _ in rows for output in row.outputs):
            left_out.append(name)
            continue
        found = []
        for row, thinking_format in rows:
            found.append(of_question(row, thinking_format))
            on_question()
        tasks[name] = {sign: _mean(one[sign] for one in found) for sign in SIGNS}
    return Diagnosis(model.label, tasks, left_out)


def of_question(row: Sample, thinking_format: str = "") -> dict[str, float | None]:
    """Signs of a question: means over its samples."""
    texts = [thinking_of(output.text, thinking_format) for output in row.outputs if output.text]
    traces = [of_trace(text, row.prompt or "") for text in texts]
    found = {sign: _mean(trace[sign] for trace in traces) for sign in SIGNS if sign != "self_bleu_samples"}
    return found | {"self_bleu_samples": self_bleu([signs.words_of(text) for text in texts])}


def of_trace(text: str, prompt: str) -> dict[str, float | None]:
    """Signs of one trace."""
    words = signs.words_of(text)
    return {
        "words": float(len(words)),
        "self_bleu": signs.self_bleu_of_sentences(text),
        **{f"distinct_{order}": signs.distinct(words, order) for order in (1, 2, 3)},
        "compression": signs.compression_ratio(text),
        "repeated": signs.repeated_share(words),
        "repeated_steps": signs.repeated_steps(text),
        "reflections": signs.reflections(text, len(words)),
        "foreign": signs.foreign_letters(text, prompt),
    }


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
