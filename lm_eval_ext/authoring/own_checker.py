"""A benchmark's own checker, `process_results`: tried on the gold answer of each question, and on no answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from lm_eval_ext.authoring.finding import TaskFinding
from lm_eval_ext.authoring.functions import function_of
from lm_eval_ext.authoring.task_file import Merged


def of_checker(task: Merged, golds: Sequence[str], docs: Sequence[Mapping[str, object]]) -> Iterator[TaskFinding]:
    """The first question whose gold answer the checker does not score better than no answer; runs the checker."""
    check = function_of(task, "process_results", trust=True)
    for number, (gold, doc) in enumerate(zip(golds, docs, strict=True)):
        if fault := _fault(task, check, gold, doc):
            yield task.finding(["process_results"], "checker", f"question {number}: {fault}")
            return


def _fault(task: Merged, check: Callable[..., Any], gold: str, doc: Mapping[str, object]) -> str:
    metrics = task.fields["metric_list"]
    names, first = [str(one["metric"]) for one in metrics], metrics[0]
    scores = []
    for answer in (gold, ""):
        try:
            given = dict(check(dict(doc), [answer if _takes_one(task) else [answer]]))
        except Exception as error:  # anything that a user's function raises
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            return f"the checker fails on the answer {answer[:40]!r} ({reason})"
        if set(given) != set(names):
            return (
                f"the checker returns {', '.join(map(str, given))}; expected what metric_list has: {', '.join(names)}"
            )
        scores.append(given[first["metric"]])
    right, none = scores
    comparable = all(isinstance(score, (int, float)) for score in scores) and gold.strip()
    if comparable and (right <= none if first.get("higher_is_better", True) else right >= none):
        return f"its gold answer {gold[:40]!r} has {names[0]}={right}, no answer {none}; expected a better score for it"
    return ""


def _takes_one(task: Merged) -> bool:
    """Whether the checker gets one answer of a question, because of lm-eval's filter, or a list with all of them."""
    return any(step["function"] == "take_first" for step in task.fields["filter_list"][0]["filter"])
