"""Leaving out rows of a dataset that cannot be graded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_eval_ext.yaml_functions import usable_from_yaml

if TYPE_CHECKING:
    from datasets import Dataset

_NONE = ("", "none", "n/a")


@usable_from_yaml
def answered(dataset: Dataset) -> Dataset:
    """The rows whose `answer` says something: GSM-Plus has unsolvable questions, Omni-MATH a few without an answer."""
    return dataset.filter(lambda row: row["answer"] is not None and str(row["answer"]).strip().lower() not in _NONE)
