"""A run's traces for the browser: small JavaScript data files, loaded on demand, which also works from disk.

The budgets of a benchmark are cuts of one trace, so its thinking is written once, with the places of the cuts. Of a
long text only the beginning, the end and the surroundings of each cut are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.analysis.found_lost import cuts_of_one_trace
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import TaskResult
from lm_eval_ext.runs.samples import Sample, question_set
from lm_eval_ext.thinking_formats import thinking_of

QUESTIONS = 25  # per file
LONGEST = 20_000  # characters shown of a text; the run's samples file has all of it
_HEAD, _TAIL, _BEFORE, _AFTER = 6_000, 3_000, 1_500, 500
_MEASURES = ("forced", "looped", "thinking_tokens")

Parts = list[tuple[int, str]]  # pieces of a text with the places where they start, in UTF-16 code units


class TraceGroup(NamedTuple):
    """Tasks whose samples belong together: the budgets of a benchmark, ascending, or a single task."""

    name: str
    tasks: Sequence[str]


def groups_of(tasks: Mapping[str, TaskResult], sampled: Iterable[str]) -> list[TraceGroup]:
    """The tasks with samples, in groups."""
    found: dict[str, list[str]] = {}
    for name in sampled:
        task = tasks[name]
        found.setdefault(name if task.votes else task.benchmark, []).append(name)
    return [
        TraceGroup(name, sorted(some, key=lambda one: tasks[one].budget or float("inf")))
        for name, some in found.items()
    ]


def write_traces(source: Source, group: TraceGroup, rows: Mapping[str, Sequence[Sample]], folder: Path) -> int:
    """Write `GROUP-0.js`, `GROUP-1.js`, ... into a folder; returns their number.

    Args:
        source: the run.
        group: the tasks.
        rows: the samples of each of them.
        folder: created if needed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    questions = list(_together([rows[name] for name in group.tasks]))
    parts = [questions[start : start + QUESTIONS] for start in range(0, len(questions), QUESTIONS)]
    for number, part in enumerate(parts):
        content = {
            "key": f"{source.run.id}/{group.name}/{number}",
            "set": question_set(max((rows[name] for name in group.tasks), key=len)),
            "tasks": [[name, source.run.tasks[name].budget] for name in group.tasks],
            "questions": [_question(some, source.run.thinking_format) for some in part],
        }
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        (folder / f"{group.name}-{number}.js").write_text(f"lmtts.traces({text});\n", encoding="utf-8")
    return len(parts)


def _together(rows: Sequence[Sequence[Sample]]) -> Iterator[list[Sample | None]]:
    """For each question, its samples in each task; None where a task lacks it. In the order of the longest task."""
    by_id = [{row.id: row for row in some} for some in rows]
    for name in dict.fromkeys(row.id for some in sorted(rows, key=len, reverse=True) for row in some):
        yield [some.get(name) for some in by_id]


def _question(rows: Sequence[Sample | None], thinking_format: str) -> dict[str, object]:
    known = [row for row in rows if row is not None]
    last = known[-1]
    whole = len(known) == len(rows) and len({len(row.outputs) for row in known}) == 1
    one_trace = whole and all(
        cuts_of_one_trace(outputs, thinking_format) for outputs in zip(*(row.outputs for row in known), strict=True)
    )
    return {
        "id": last.id,
        "hash": last.hash[:16],
        "prompt": None if last.prompt is None else pieces(last.prompt, ()),
        "gold": last.gold,
        "scores": [None if row is None else row.score for row in rows],
        "measures": [None if row is None else [row.metrics.get(name) for name in _MEASURES] for row in rows],
        "traces": [_trace(outputs, thinking_format) for outputs in _outputs(known)]
        if one_trace and last.outputs
        else None,
        "outputs": None if one_trace else [_alone(row, thinking_format) for row in rows],
    }


def _outputs(rows: Sequence[Sample]) -> Iterator[Sequence[tuple[str, str | None, str]]]:
    for outputs in zip(*(row.outputs for row in rows), strict=True):
        yield [(output.grade, output.answer, output.text or "") for output in outputs]


def _trace(outputs: Sequence[tuple[str, str | None, str]], thinking_format: str) -> dict[str, object]:
    """One trace: its thinking, and at each budget [grade, answer, where it was cut, the text of the answer]."""
    thoughts = [thinking_of(text, thinking_format) for _, _, text in outputs]
    ends = [len(thought) for thought in thoughts]
    return {
        "thinking": pieces(thoughts[-1], ends),
        "cuts": [
            [grade, answer, _units(text[:end]), pieces(text[end:], ())]
            for (grade, answer, text), end in zip(outputs, ends, strict=True)
        ],
    }


def _alone(row: Sample | None, thinking_format: str) -> list[object] | None:
    """The outputs of a task whose texts are not cuts of a trace: [grade, answer, thinking, the text of the answer]."""
    if row is None:
        return None
    found: list[object] = []
    for output in row.outputs:
        text = output.text
        thought = "" if text is None else _thought(text, thinking_format)
        found.append([
            output.grade, output.answer, None if text is None else pieces(thought, ()),
            None if text is None else pieces(text[len(thought):], ()),
        ])  # fmt: skip
    return found


def _thought(text: str, thinking_format: str) -> str:
    """The thinking in a text; empty if nothing marks its end."""
    found = thinking_of(text, thinking_format)
    return "" if found == text else found


def pieces(text: str, cuts: Sequence[int]) -> Parts:
    """The parts of a text to show: all of it, or of a long one what surrounds its ends and its cuts.

    >>> pieces("short", [])
    [(0, 'short')]
    """
    if len(text) <= LONGEST:
        return [(0, text)]
    wanted = [(0, _HEAD), (len(text) - _TAIL, len(text))]
    wanted += [(max(0, cut - _BEFORE), min(len(text), cut + _AFTER)) for cut in cuts]
    found: list[list[int]] = []
    for start, end in sorted(wanted):
        if found and start <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        else:
            found.append([start, end])
    return [(_units(text[:start]), text[start:end]) for start, end in found]


def _units(text: str) -> int:
    """Length in UTF-16 code units, in which JavaScript counts.

    >>> _units("a\N{GRINNING FACE}")
    3
    """
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
