"""Where runs are started: one module for each kind of place, behind one protocol."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol, cast

from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.study import Study

Tell = Callable[[str], None]  # called with each line about what happens


class Launch(StrEnum):
    """The kinds of places."""

    local = "local"
    slurm = "slurm"
    ray = "ray"


class Launcher(Protocol):
    """Does what a study still needs, or has it done."""

    def run(self, runs: Sequence[PlannedRun]) -> bool:
        """Do or submit some runs and what they need; returns false if something failed."""


# A function of the study, the number of jobs at once if given, and what is told; it raises ManifestError if it can't.
Make = Callable[[Study, int | None, Tell], Launcher]
_MAKERS: Mapping[Launch, str] = {
    Launch.local: "lm_eval_ext.sweep.local:local_launcher",
    Launch.slurm: "lm_eval_ext.sweep.slurm:slurm_launcher",
    Launch.ray: "lm_eval_ext.sweep.ray:ray_launcher",
}


def launcher(kind: Launch, study: Study, jobs: int | None, tell: Tell) -> Launcher:
    """The launcher of a kind.

    Raises:
        ManifestError: its settings don't fit this machine, or `jobs` has no meaning for it.
    """
    module, _, name = _MAKERS[kind].partition(":")
    make = cast(Make, getattr(importlib.import_module(module), name))
    return make(study, jobs, tell)
