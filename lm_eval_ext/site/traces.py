"""A run's traces for the browser: small JavaScript data files, loaded on demand, which also works from disk.

The budgets of a benchmark are cuts of one trace, so its thinking is written once, with the places of the cuts. Of a
long text only the beginning, the end and the surroundings of each cut are written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from lm_eval_ext.analysis.board import Entry
from lm_eval_ext.analysis.found_lost import cuts_of_one_trace, lost_by_chance, rights
from lm_eval_ext.grading.code import CodeRules
from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.run import Pruning, Run, TaskResult
from lm_eval_ext.runs.samples import Output, Sample, question_set
from lm_eval_ext.site.lines import Family
from lm_eval_ext.thinking_formats import thinking_of
from lm_eval_ext.wording import ranges

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
    of_programs = source.run.tasks[group.tasks[0]].kind == CodeRules.KIND
    parts = [questions[start : start + QUESTIONS] for start in range(0, len(questions), QUESTIONS)]
    for number, part in enumerate(parts):
        content = {
            "key": f"{source.run.id}/{group.name}/{number}",
            "set": question_set(max((rows[name] for name in group.tasks), key=len)),
            "tasks": [[name, source.run.tasks[name].budget] for name in group.tasks],
            "questions": [
                _question(some, source.run.thinking_format)
                | ({"programs": [_programs(row) for row in some]} if of_programs else {})
                for some in part
            ],
        }
        text = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        (folder / f"{group.name}-{number}.js").write_text(f"lmtts.traces({text});\n", encoding="utf-8")
    return len(parts)


def _programs(row: Sample | None) -> list[object] | None:
    """The program of each sample, in pieces with the class by which they are coloured, and the test that it fails."""
    if row is None:
        return None
    return [None if not one.answer else [list(highlighted(one.answer[:LONGEST])), one.failed] for one in row.outputs]


_CLASSES = {"Keyword": "k", "Literal.String": "s", "Comment": "c", "Literal.Number": "n", "Name.Function": "f",
            "Name.Class": "f"}  # fmt: skip


def highlighted(program: str) -> Iterator[tuple[str, str]]:
    """A program in pieces: the class of each, empty for most, and its text.

    >>> [kind for kind, _ in highlighted("x = 1  # one")]
    ['', 'n', '', 'c', '']
    """
    from pygments import lex
    from pygments.lexers import PythonLexer

    pieces = (
        (next((short for name, short in _CLASSES.items() if str(kind).startswith(f"Token.{name}")), ""), text)
        for kind, text in lex(program, PythonLexer(stripnl=False))
    )
    for short, some in groupby(pieces, key=lambda piece: piece[0]):
        yield short, "".join(text for _, text in some)


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
        "traces": [_trace(outputs, thinking_format) for outputs in zip(*(row.outputs for row in known), strict=True)]
        if one_trace and last.outputs
        else None,
        "outputs": None if one_trace else [_alone(row, thinking_format) for row in rows],
    }


def _trace(outputs: Sequence[Output], thinking_format: str) -> dict[str, object]:
    """One trace: its thinking, and at each budget [grade, answer, where it was cut, the text of the answer]."""
    texts = [output.text or "" for output in outputs]
    thoughts = [thinking_of(text, thinking_format) for text in texts]
    ends = [len(thought) for thought in thoughts]
    return {
        "thinking": pieces(thoughts[-1], ends),
        "cuts": [
            [output.grade, output.answer, _units(text[:end]), pieces(text[end:], ())]
            for output, text, end in zip(outputs, texts, ends, strict=True)
        ],
    }


def _alone(row: Sample | None, thinking_format: str) -> list[object] | None:
    """The outputs of a task whose texts are not cuts of a trace: [grade, answer, thinking, the text of the answer]."""
    if row is None:
        return None
    return [[output.grade, output.answer, *_parted(output.text, thinking_format)] for output in row.outputs]


def _parted(text: str | None, thinking_format: str) -> tuple[Parts | None, Parts | None]:
    """The thinking, empty if nothing marks its end, and the answer."""
    if text is None:
        return None, None
    thought = thinking_of(text, thinking_format)
    end = 0 if thought == text else len(thought)
    return pieces(text[:end], ()), pieces(text[end:], ())


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


class FoundByBudget(BaseModel):
    """What became of right answers in one benchmark.

    Attributes:
        benchmark: its name.
        budgets: ascending; None for no limit.
        right, lost: shares of samples at each budget that are right, or were right at a smaller one and are not now.
        by_chance: share lost at the largest budget if the budgets had nothing to do with each other.
        questions, samples: how many.
        question_set, grader: what must be the same to be compared: hash of the questions, version of the grader.
    """

    model_config = ConfigDict(frozen=True)

    benchmark: str
    budgets: tuple[int | None, ...]
    right: tuple[float, ...]
    lost: tuple[float, ...]
    by_chance: float
    questions: int
    samples: int
    question_set: str = ""
    grader: int = 0

    def beside(self, other: FoundByBudget) -> bool:
        """Whether both are of the same questions and budgets, by the same grader."""
        return (self.benchmark, self.budgets, self.question_set, self.grader) == (
            other.benchmark, other.budgets, other.question_set, other.grader,
        )  # fmt: skip


def found_by_budget(group: TraceGroup, run: Run, rows: Mapping[str, Sequence[Sample]]) -> FoundByBudget | None:
    """The shares; None for a single budget, or if the budgets are not cuts of one trace."""
    tasks = run.tasks
    some = [rows[name] for name in group.tasks]
    if len(some) < 2 or len({len(one) for one in some}) > 1 or any(tasks[name].partial for name in group.tasks):
        return None
    try:
        right = np.array(
            [rights(question, run.thinking_format) for question in zip(*some, strict=True)], dtype=np.float64
        )
    except ValueError:  # not cuts of one trace, or gated
        return None
    budgets = tuple(tasks[name].budget for name in group.tasks)
    before = np.concatenate([np.zeros_like(right[..., :1]), np.maximum.accumulate(right, axis=2)[..., :-1]], axis=2)
    return FoundByBudget(
        benchmark=group.name,
        budgets=budgets,
        right=tuple(map(float, right.mean((0, 1)))),
        lost=tuple(map(float, (before * (1 - right)).mean((0, 1)))),
        by_chance=lost_by_chance(right),
        questions=right.shape[0],
        samples=right.shape[1],
        question_set=tasks[group.tasks[-1]].question_set,
        grader=tasks[group.tasks[-1]].graded_by or 0,
    )


_MOST = 36  # models
_SHADES = 9


class Fates(NamedTuple):
    """One model's layers.

    Attributes:
        name, dropped, merged: its name, and its layers as text.
        of: all layers.
        shades: a shade and the SVG path of the layers that have it; from the method's scores, by their order.
        gone, into: paths of the dropped layers, and of those that others were merged into.
    """

    name: str
    dropped: str
    merged: str
    of: range
    shades: Sequence[tuple[int, str]]
    gone: str
    into: str


def fates_of(family: Family) -> list[Fates]:
    """The layers of each pruned model of a base."""
    return [
        _fates(str(family.names[entry.key]), pruning)
        for entry in family.entries[:_MOST]
        if (pruning := _pruning(entry)) is not None
    ]


def _pruning(entry: Entry) -> Pruning | None:
    pruning = entry.latest.pruning
    return pruning if pruning and pruning.dropped else None


def _fates(name: str, pruning: Pruning) -> Fates:
    into = sorted(int(layer) for layer in pruning.merged if layer.isdecimal() and int(layer) < pruning.depth)
    by_shade: dict[int, list[int]] = {}
    for layer, place in enumerate(_order(pruning.layer_scores)[: pruning.depth]):
        if place is not None:
            by_shade.setdefault(round(place * (_SHADES - 1)), []).append(layer)
    return Fates(
        name,
        ranges(pruning.dropped),
        ranges(into),
        range(pruning.depth),
        [(shade, _path(some, 1.0)) for shade, some in sorted(by_shade.items())],
        _path(pruning.dropped, 1.0),
        _path(into, 0.5),
    )


def _path(some: Iterable[int], height: float) -> str:
    return "".join(f"M{layer + 0.06:g} {1 - height:g}h.88v{height:g}h-.88z" for layer in some)


def _order(scores: Sequence[float | None]) -> list[float | None]:
    """Scores as ranks from 0 to 1, because methods differ in units and some scores span orders of magnitude."""
    known = sorted({score for score in scores if score is not None})
    places = {score: place / max(1, len(known) - 1) for place, score in enumerate(known)}
    return [None if score is None else places[score] for score in scores]
