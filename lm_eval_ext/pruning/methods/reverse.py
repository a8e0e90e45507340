"""Reverse-order pruning: the last n layers go. Source: arXiv 2510.22228, section 3; no calibration."""

from collections.abc import Sequence

from lm_eval_ext.pruning.methods.choice import Removal, Removals
from lm_eval_ext.pruning.subject import Subject


def choose(subject: Subject, remove: Sequence[int]) -> Removals:
    """The last layers."""
    return {count: Removal(tuple(range(subject.depth - count, subject.depth))) for count in remove}
