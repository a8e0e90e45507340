"""The package's exceptions. Every message is one line: what was given, where, and what is allowed."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails


def reason_of(error: Exception) -> str:
    """Another library's error, or one of a user's function, as a part of a line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


class TTSError(Exception):
    """Base of every error raised on purpose by this package."""


class ArgumentError(TTSError, ValueError):
    """A model argument or generation argument is invalid."""


class RecipeError(TTSError, ValueError):
    """A pruning recipe cannot be read or does not fit its base model."""


class ArchitectureError(TTSError):
    """A model's layers cannot be dropped safely."""


class CheckpointError(TTSError):
    """A checkpoint's tensors cannot be found or do not fit the model."""


class JournalError(TTSError):
    """A journal cannot be opened, or the file is not a journal."""


class ManifestError(TTSError, ValueError):
    """The manifest of a sweep is invalid, or a file of its study."""


class EngineError(TTSError):
    """Decoding cannot go on: a replica's model has failed, or no replica is left."""


class DatasetError(TTSError):
    """A benchmark's dataset cannot be reached."""

    @classmethod
    def unreachable(cls, task: str, dataset: str, error: Exception) -> DatasetError:
        """The error for a dataset that `datasets` could not load."""
        return cls(
            f"task {task}: dataset {dataset} cannot be reached ({reason_of(error)}); without a network, run from a "
            f"folder that contains it as ./{dataset}, or fill the cache on another machine and set HF_HUB_OFFLINE=1; "
            "a gated dataset needs `hf auth login` first"
        )


class TaskError(TTSError, ValueError):
    """A task YAML cannot be read or declares something unknown."""

    @classmethod
    def unknown(cls, name: str, known: Iterable[str]) -> TaskError:
        """No task has that name; `known` are those that there are."""
        hint = did_you_mean(name, known := list(known)) or did_you_mean(f"tts_{name}", known)
        return cls(f"unknown task {name!r}{hint or '; `lm_eval ls tasks` lists all tasks'}")


class GradingError(TTSError):
    """Answers cannot be graded at all, because the comparison does not work on this machine."""


class ResultsError(TTSError, ValueError):
    """A results file cannot be read, or contains values that no run could have produced."""


class StoppedEarlyError(ResultsError):
    """Results of a part of a benchmark, chosen by what came out, which are no results of the benchmark."""


def did_you_mean(name: str, known: Iterable[str], alike: float = 0.6) -> str:
    """The end of a message about an unknown name: the known one that is most like it; empty if none is.

    Args:
        name: as it was given.
        known: all names that are allowed.
        alike: how alike the two must be, from 0 to 1, by the ratio of `difflib.SequenceMatcher`.

    >>> did_you_mean("drop_layer", ["drop_layers", "prune"]), did_you_mean("x", ["drop_layers"])
    ('; did you mean drop_layers?', '')
    """
    near = difflib.get_close_matches(name, list(known), 1, alike)
    return f"; did you mean {near[0]}?" if near else ""


def meant(given: str, known: Iterable[str]) -> str:
    """The name that was probably meant, or all that there are."""
    return did_you_mean(given, known := list(known)).removeprefix("; ") or f"expected one of: {', '.join(known)}"


# What was expected, by the type of pydantic's error.
_EXPECTED: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "path_type": "expected a path",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected a mapping",
    "mapping_type": "expected a mapping",
    "model_type": "expected a mapping",
    "too_short": "expected at least one entry",
    "string_too_short": "expected text that is not empty",
    "string_pattern_mismatch": "expected text like {pattern}",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "literal_error": "expected {expected}",
}


def expectation(fault: ErrorDetails, expected: Mapping[str, str] = {}) -> str:
    """What was expected, in words of ours if there are any for this type of error.

    Args:
        fault: as pydantic describes it.
        expected: words by the type of error, before those that hold everywhere.
    """
    known = expected.get(fault["type"]) or _EXPECTED.get(fault["type"])
    return known.format(**fault.get("ctx", {})) if known else str(fault["msg"]).removeprefix("Value error, ")


# How pydantic names the branches of a union, which nobody has written; classes by their names. None is never one, but a
# name that users give.
_WRAPPED = r"list|dict|set|tuple|literal|nullable|lax-or-strict|json-or-python|function-\w+"
_BRANCH = re.compile(rf"(?:str|int|float|bool|constrained-\w+|(?:{_WRAPPED})\[.*)", re.DOTALL)


def place_of(location: Sequence[int | str]) -> str:
    """Where a fault is, as the fields are written: `journal` for `journal.str`.

    >>> place_of(("models", "none", "nullable[str]"))
    'models.none'
    """
    from pydantic import BaseModel

    kinds, classes = [BaseModel], set[str]()
    while kinds:
        kinds += (below := kinds.pop().__subclasses__())
        classes |= {one.__name__ for one in below}
    return ".".join(str(part) for part in location if not (_BRANCH.fullmatch(str(part)) or part in classes))


def first_fault(error: ValidationError, shown: bool = True, known: Iterable[str] = ()) -> str:
    """The first fault that pydantic has found: field, value (unless it must not be shown) and what is allowed.

    Args:
        error: as pydantic raised it.
        shown: whether the value may be shown.
        known: names of all fields, for a hint at the one that was meant.
    """
    fault = error.errors()[0]
    place = place_of(fault["loc"])
    if fault["type"] == "missing":
        return f"{place}: is missing"
    if fault["type"] == "extra_forbidden":
        names = list(known)
        return f"{place}: unknown field" + (f"; {meant(str(fault['loc'][-1]), names)}" if names else "")
    value = " ".join(repr(fault["input"]).split()) if shown else "..."
    value = value if len(value) <= 80 else f"{value[:77]}..."
    return f"{place}={value}: {expectation(fault)}" if place else expectation(fault)
