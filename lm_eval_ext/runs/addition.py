"""Adds a run to a leaderboard: publishes it, checks its scores, and gives it the highest tier that it deserves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lm_eval_ext.runs.load import Source
from lm_eval_ext.runs.publish import publish
from lm_eval_ext.runs.run import TIERS
from lm_eval_ext.runs.run_file import write_run
from lm_eval_ext.runs.verification import graded_by_another_version, highest_tier, recomputed


def add(source: Source, to: Path, tell: Callable[[object], None]) -> Source:
    """Publish a run below a folder; returns the published one.

    Args:
        source: the run.
        to: folder of published runs.
        tell: called with each finding, and with the folder and the tier.

    Raises:
        ResultsError: its folder already holds a different run.
    """
    for finding in graded_by_another_version(source, published_before=True):
        tell(finding)
    published = publish(source, to)
    faults = list(recomputed(published))
    tier = max(highest_tier(published, faults), published.run.tier, key=TIERS.index)
    write_run(published.run.model_copy(update={"tier": tier}), published.path.parent)
    for finding in faults:
        tell(finding)
    tell(f"{published.path.parent}: {tier}")
    return published
