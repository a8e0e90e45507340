"""LiveCodeBench (arXiv 2403.07974): problems of contests by date, whose tests stay out of the files of results.

A row's tests are up to megabytes, and its private ones are a pickle within zlib within base64, which is read by an
unpickler that knows no class. A row holds them as `Cases`, which is read when a program is graded, and is written as
the hash of it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
import zlib
from collections.abc import Mapping, Sequence
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_ext.errors import TaskError
from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

_DATASET = "livecodebench/code_generation_lite"  # read file by file: its loader is a program
RELEASES = ("v1", "v2", "v3", "v4", "v5", "v6")  # each holds the ones before
# What programs may use without importing it, as in the benchmark's own grader.
_PRELUDE = """\
import bisect, collections, copy, datetime, functools, heapq, io, itertools, json, math, operator, random, re
import statistics, string, sys, time
from bisect import *
from collections import *
from copy import *
from datetime import *
from functools import *
from heapq import *
from io import *
from itertools import *
from json import *
from math import *
from operator import *
from random import *
from re import *
from statistics import *
from string import *
from typing import *
from builtins import *
sys.setrecursionlimit(50000)
"""
_MOST = 512 << 20  # bytes of the tests of a problem, unpacked


class Cases:
    """The tests of a problem: rows with `input`, `output` and `testtype`, read when they are asked for.

    Raises:
        TaskError: `rows` finds no tests in what it was made of.
    """

    def __init__(self, public: str, private: str) -> None:
        self._public, self._private = public, private

    def rows(self) -> list[dict[str, Any]]:
        """All tests, the public ones first."""
        return [*_rows(self._public), *_rows(self._private)]

    def __str__(self) -> str:
        digest = hashlib.sha256(f"{self._public}\n{self._private}".encode("utf-8", "surrogatepass"))
        return f"sha256:{digest.hexdigest()[:32]}"

    __repr__ = __str__


class _Plain(pickle.Unpickler):
    """Reads numbers, texts and containers; a pickle that names any class is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Refuse.

        Raises:
            pickle.UnpicklingError: always.
        """
        raise pickle.UnpicklingError(f"names {module}.{name}")


def _rows(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text) if text.lstrip().startswith("[") else json.loads(_unpacked(text))
    except (ValueError, pickle.UnpicklingError, zlib.error, EOFError, IndexError, KeyError, TypeError) as error:
        raise TaskError(f"the tests of a problem can't be read: {' '.join(str(error).split())[:120]}") from None
    if not isinstance(found, list) or not all(isinstance(one, dict) and "input" in one for one in found):
        raise TaskError("the tests of a problem are no list with input and output")
    return found


def _unpacked(text: str) -> str:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(base64.b64decode(text, validate=True), _MOST)
    if unpacking.unconsumed_tail:
        raise ValueError(f"more than {_MOST:,} bytes of tests")
    found = _Plain(io.BytesIO(data)).load()
    if not isinstance(found, str):
        raise TypeError(f"a pickle of a {type(found).__name__}")
    return found


@usable_from_yaml
def livecodebench_dataset(
    release: str = "v6", since: str = "", until: str = "", files: Sequence[str] | str = (), **_: object
) -> DatasetDict:
    """The problems of a release, from a day on and up to one; `dataset_kwargs` are these arguments.

    Args:
        release: `v1` to `v6`, each of which holds those before.
        since, until: days, such as `2024-08-01`, on which a contest may be at the earliest and at the latest.
        files: JSON lines to read in place of the Hub's.

    Raises:
        TaskError: there is no such release or day, or no problem in between.
    """
    from datasets import DatasetDict, load_dataset

    if release not in RELEASES:
        raise TaskError(f"release={release!r}; expected one of: {', '.join(RELEASES)}")
    first, last = _day("since", since), _day("until", until)
    numbers = range(1, RELEASES.index(release) + 2)
    given = [files] if isinstance(files, str) else list(files)
    names = [f"test{number if number > 1 else ''}.jsonl" for number in numbers]
    found = load_dataset("json", data_files=given or [_file(name) for name in names], split="train")
    within = found.filter(partial(_is_within, first=first, last=last), input_columns="contest_date")
    if not len(within):
        raise TaskError(f"no problem of {release} between {since or 'the start'} and {until or 'the end'}")
    return DatasetDict({"test": _shown(within)})


def _file(name: str) -> str:
    """A file of the dataset: in a folder of its name, as `datasets` would take it, or of the Hub."""
    from huggingface_hub import hf_hub_download

    local = Path(_DATASET) / name
    return str(local) if local.is_file() else str(hf_hub_download(_DATASET, name, repo_type="dataset"))


def _day(name: str, text: str) -> str:
    try:
        return date.fromisoformat(str(text)).isoformat() if text else ""
    except ValueError:
        raise TaskError(f"{name}={text!r}; expected a day such as 2024-08-01") from None


def _is_within(when: object, first: str, last: str) -> bool:
    day = str(when)[:10]
    return (not first or first <= day) and (not last or day <= last)


def _shown(rows: Dataset) -> Dataset:
    """The rows as they are asked and graded; made when they are read."""

    def transformed(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        count = len(batch["question_id"])
        some = [{name: batch[name][at] for name in batch} for at in range(count)]
        return {
            "id": [one["question_id"] for one in some],
            "question": [_question(one) for one in some],
            "difficulty": [one["difficulty"] for one in some],
            "platform": [one["platform"] for one in some],
            "date": [str(one["contest_date"])[:10] for one in some],
            "entry": [_entry(one) for one in some],
            "prelude": [_PRELUDE] * count,
            "cases": [Cases(one["public_test_cases"], one["private_test_cases"]) for one in some],
        }

    return rows.with_transform(transformed)


def _question(row: Mapping[str, Any]) -> str:
    text = str(row["question_content"]).strip()
    if starter := str(row.get("starter_code") or "").strip():
        return f"{text}\n\nComplete this code:\n\n```python\n{starter}\n```"
    return f"{text}\n\nThe program reads from the standard input and writes to the standard output."


def _entry(row: Mapping[str, Any]) -> str:
    """`Solution.method`, or nothing for a program that reads its input."""
    metadata = row.get("metadata") or {}
    found = json.loads(metadata) if isinstance(metadata, str) else metadata
    name = str(found.get("func_name") or "") if isinstance(found, dict) else ""
    return f"Solution.{name}" if name else ""
