"""Original functions to write, with tests (`code_mini.yaml`): a code benchmark that needs no download."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import DatasetDict


@cache
def _problems() -> list[dict[str, Any]]:
    import yaml

    found: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("code_mini.yaml").read_text("utf-8"))
    return found


@usable_from_yaml
def code_mini_dataset(**_: object) -> DatasetDict:
    """The problems in the form that lm-eval's `custom_dataset` expects: `question`, `name` and `tests`."""
    from datasets import Dataset, DatasetDict

    rows = [
        {"question": one["question"], "name": one["name"], "tests": [f"assert {test}" for test in one["tests"]]}
        for one in _problems()
    ]
    return DatasetDict({"test": Dataset.from_list(rows)})


def solutions() -> dict[str, str]:
    """A program that solves each problem, by the function's name."""
    return {one["name"]: f"def {_signature(one)}:\n{indent(one['solution'], '    ')}\n" for one in _problems()}


def _signature(problem: dict[str, Any]) -> str:
    found = re.search(rf"`({problem['name']}\([^)]*\))`", problem["question"])
    assert found is not None
    return found[1]
