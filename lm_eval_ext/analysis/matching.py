"""Which results of two models can be compared: what must be equal, and what may differ but is printed.

`REQUIREMENTS` is the one list of what was asked of a run: by it, results are compared and ranked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from lm_eval_ext.generation.request import KNOWN, SAMPLING, asks_for_thinking
from lm_eval_ext.runs.run import Run, TaskResult
from lm_eval_ext.wording import limit

UNKNOWN = "not recorded"


class Mismatch(NamedTuple):
    """A property in which two runs differ."""

    what: str
    base: str
    candidate: str

    def __str__(self) -> str:
        if self.base == self.candidate == UNKNOWN:
            return f"{self.what}: {UNKNOWN} in either"
        candidate = f"{self.candidate} others" if self.base == self.candidate else self.candidate
        return f"{self.what}: {self.base or UNKNOWN} and {candidate or UNKNOWN}"


class Property(NamedTuple):
    """Something that two results must have in common, or that a reader should know if they don't.

    Attributes:
        what: its name.
        value: empty if it was not recorded.
        recorded: whether results in which it was not recorded, of older versions and stock model classes, count as
            having it in common.
        shown: the value in words, where it is a hash.
    """

    what: str
    value: str
    recorded: bool = False
    shown: str = ""


# What must be equal ------------------------------------------------------------------------------------


class Requirement(NamedTuple):
    """Something that was asked of a run, and must be equal in two results that are compared.

    Attributes:
        what: its name.
        source: where it comes from, for the documentation.
        value: of a result; empty if it was not recorded.
        named: where a name says it, for the documentation.
        ranked: whether results are ranked together only if they have it in common. Ranks are of one benchmark and
            budget, and of whole benchmarks.
        recorded: as in `Property`.
        shown: as in `Property`.
        settings: names by which the log of another tool says that it doesn't record it.
        allowed: whether it may differ where `--allow` says so.
    """

    what: str
    source: str
    value: Callable[[TaskResult, Run], object]
    named: str = ""
    ranked: bool = True
    recorded: bool = False
    shown: Callable[[TaskResult], str] = lambda task: ""
    settings: tuple[str, ...] = ()
    allowed: bool = False

    def of(self, task: TaskResult, run: Run) -> Property:
        """It, in a result. What isn't recorded is equal to nothing, so it has the run's name."""
        if set(self.settings) & set(task.unknown):
            return Property(self.what, f"{UNKNOWN} in {run.id}", shown=UNKNOWN)
        return Property(self.what, str(self.value(task, run)), self.recorded, self.shown(task))


_BY_GEN_KWARGS = "model, if only `--gen_kwargs` tells it from another"
_BY_ARGUMENT = "model, if it isn't the default"


def _argument(*names: str) -> Callable[[TaskResult, Run], str]:
    """Generation arguments as text; those that are not given are left out."""
    return lambda task, run: ", ".join(
        f"{name}={task.generation_kwargs[name]}" for name in names if name in task.generation_kwargs
    )


def _setting(name: str, otherwise: str = "") -> Callable[[TaskResult, Run], str]:
    return lambda task, run: run.settings.get(name, otherwise)


def answer_budget(task: TaskResult, run: Run) -> str:
    """Maximum tokens in an answer, by the task or else by the model argument; empty if a task has no such limit."""
    asked = task.generation_kwargs.get("answer_token_budget")
    thinks = task.benchmark.startswith("tts_") or asks_for_thinking(task.generation_kwargs)
    if asked is None and thinks:
        return run.settings.get("answer_token_budget", "")
    return "" if asked is None else str(asked)


_OF_THEIR_OWN = ("thinking_token_budget", "answer_token_budget", "max_gen_toks", "until", *SAMPLING)
_OTHERS = tuple(name for name in KNOWN if name not in _OF_THEIR_OWN)


def _further(task: TaskResult, run: Run) -> str:
    return _argument(*sorted(set(task.generation_kwargs) - set(_OF_THEIR_OWN)))(task, run)


def _grader_version(task: TaskResult, run: Run) -> str:
    """Version of our grader or of another tool; one that isn't recorded is equal to none."""
    if task.graded_by or not run.tool:
        return str(task.graded_by or "")
    return run.software.get(run.tool) or f"{UNKNOWN} in {run.id}"


REQUIREMENTS = (
    Requirement("questions", "the dataset, `--limit`",
                lambda task, run: task.question_set or f"{len(task.scores)} without hashes", ranked=False,
                shown=lambda task: f"{len(task.scores):,}" if task.question_set else ""),
    Requirement("shots", "`--num_fewshot`", lambda task, run: task.shots, settings=("shots",), allowed=True),
    Requirement("grader", "the tool", lambda task, run: "lm-eval-tts" if task.graded_by else run.tool or "lm-eval",
                allowed=True),
    Requirement("grader version", "`lm-eval-tts`, or the tool", _grader_version),
    Requirement("metric", "the task", lambda task, run: task.score, ranked=False),
    Requirement("filter", "the task", lambda task, run: task.filter, ranked=False),
    Requirement("thinking budget", "`thinking_token_budget`",
                lambda task, run: limit(task.budget), "task", settings=("thinking_token_budget",), allowed=True),
    # The limit on an answer stands in results since it could be changed; those without it had the default.
    Requirement("answer budget", "`answer_token_budget`", answer_budget, _BY_GEN_KWARGS, recorded=True),
    Requirement("tokens in all", "`max_gen_toks`", _argument("max_gen_toks"), _BY_GEN_KWARGS,
                settings=("max_gen_toks",), allowed=True),
    Requirement("sampling", ", ".join(f"`{name}`" for name in SAMPLING), _argument(*SAMPLING), _BY_GEN_KWARGS,
                settings=SAMPLING, allowed=True),
    Requirement("stop strings", "`until`", _argument("until"), _BY_GEN_KWARGS, recorded=True),
    Requirement("further generation arguments", ", ".join(f"`{name}`" for name in _OTHERS), _further, _BY_GEN_KWARGS,
                allowed=True),
    # Results from before the protocol was recorded are of the default one; stock models count tokens themselves.
    Requirement("protocol", "model argument `protocol`", _setting("protocol", "default"), _BY_ARGUMENT),
    Requirement("token-exactness", "the engine", _setting("token_exact", "True"), "model, if two have one name"),
    Requirement("stopping of loops", "model argument `stop_loops`", _setting("stop_loops"), _BY_ARGUMENT,
                recorded=True),
)  # fmt: skip


OF_GRADER = ("metric", "filter", "grader version")  # may differ where the grader may
ALLOWED = tuple(one.what for one in REQUIREMENTS if one.allowed)


def required(task: TaskResult, run: Run) -> list[Property]:
    """What two results of a task must have in common to be compared."""
    return [one.of(task, run) for one in REQUIREMENTS]


def ranked_with(task: TaskResult, run: Run) -> tuple[str, ...]:
    """What results must have in common to be ranked together; what was not recorded is taken for unknown."""
    return tuple(one.of(task, run).value for one in REQUIREMENTS if one.ranked)


# What may differ ---------------------------------------------------------------------------------------

_TOLD = {
    "thinking format": "thinking_format",
    "chat template": "chat_template",
    "tokenizer": "tokenizer",
    "device": "device",
    "thinking": "thinking",
}


def told(base: Run, candidate: Run) -> list[Mismatch]:
    """Differences that two models may have, and that a reader should know."""
    return list(differing(properties(base), properties(candidate)))


def properties(run: Run) -> list[Property]:
    """What two models may differ in, and a reader should know."""
    return [
        Property("engine", run.engine),
        Property("dtype", run.dtype),
        *(Property(what, run.settings.get(name, ""), recorded=True) for what, name in _TOLD.items()),
        Property("sandbox", ", ".join(sorted({task.sandbox for task in run.tasks.values()} - {""})), recorded=True),
        Property("settings", "recorded" if run.settings else ""),
    ]


def differing(some: Sequence[Property], others: Sequence[Property]) -> Iterator[Mismatch]:
    """The differences of two results in the same properties."""
    for one, other in zip(some, others, strict=True):
        unknown = one.recorded and not (one.value and other.value)
        if one.value != other.value and not unknown:
            yield Mismatch(one.what, one.shown or one.value, other.shown or other.value)
