"""What a study costs at most before it is run: tokens, arithmetic, and hours on a GPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.authoring.cost import Cost, costs_of_tasks
from lm_eval_ext.errors import TTSError
from lm_eval_ext.paths import located
from lm_eval_ext.runs.run_file import read_json
from lm_eval_ext.runs.untrusted import mapping, whole
from lm_eval_ext.sweep.plan import PlannedRun
from lm_eval_ext.sweep.study import Study

_PER_PARAMETER = 2  # operations of a parameter for a token: a product and a sum


class RunCost(NamedTuple):
    """What a run costs at most; None where it is unknown.

    Attributes:
        run: its name.
        tokens: to generate, with budgets that share their traces.
        apart: the same, if each budget were a run of its own.
        parameters: of the model.
        unknown: tasks that are not counted: lm-eval's own, and those without a number of questions.
    """

    run: str
    tokens: int
    apart: int
    parameters: int | None
    unknown: tuple[str, ...]

    @property
    def operations(self) -> float | None:
        """Floating-point operations, of the whole model; None if its size is unknown."""
        return None if self.parameters is None else float(_PER_PARAMETER * self.parameters * self.tokens)


@dataclass(frozen=True)
class Estimate:
    """What all runs cost at most.

    Attributes:
        runs: each of them.
        seconds: of those that are done, by name.
        generated: tokens that those have generated, by name.
    """

    runs: Sequence[RunCost]
    seconds: Mapping[str, float]
    generated: Mapping[str, int]

    @property
    def used(self) -> float | None:
        """The share of their most tokens that finished runs have generated; None if none is finished."""
        most = sum(one.tokens for one in self.runs if one.run in self.generated)
        return sum(self.generated.values()) / most if most else None

    @property
    def tokens(self) -> int:
        """Of all runs."""
        return sum(one.tokens for one in self.runs)

    @property
    def apart(self) -> int:
        """Of all runs, without shared traces."""
        return sum(one.apart for one in self.runs)

    @property
    def operations(self) -> float | None:
        """Floating-point operations of all runs; None if a model's size is unknown."""
        each = [one.operations for one in self.runs if one.tokens]
        return None if None in each else sum(one for one in each if one is not None)

    @property
    def uncounted(self) -> int:
        """Number of runs with tasks whose tokens are unknown."""
        return sum(bool(one.unknown) for one in self.runs)


def estimated(study: Study, runs: Sequence[PlannedRun]) -> Estimate:
    """The costs of runs of a study."""
    sizes = {model: _parameters(study, run) for model, run in {run.model: run for run in runs}.items()}
    found = [_of_run(run, study.manifest.limit, sizes[run.model]) for run in runs]
    done = {run.name: study.found(run).said for run in runs if study.found(run).state == "done"}
    seconds = {name: float(str(said.get("seconds") or 0)) for name, said in done.items()}
    generated = {run.name: _generated(study, run) for run in runs if run.name in done and run.seed is not None}
    return Estimate(found, seconds, generated)


def _generated(study: Study, run: PlannedRun) -> int:
    """Tokens that a finished run has generated, before and after it was interrupted."""
    folder = study.folder_of(run)
    assert folder is not None
    content = read_json(folder / str(study.found(run).said.get("results")))
    counted = mapping(mapping(content.get("config")).get("generation"))
    return sum(whole(counted.get(name)) or 0 for name in ("thinking_tokens", "answer_tokens", "resumed_tokens"))


def _of_run(run: PlannedRun, limit: int | None, parameters: int | None) -> RunCost:
    counted = [_limited(one, limit) for one in costs_of_tasks(run.tasks)]
    named = {one.benchmark for one in counted}
    unknown = [one.benchmark for one in counted if one.tokens is None]
    unknown += [] if named else list(run.tasks)
    tokens, apart = (sum(getattr(one, name) or 0 for one in counted) for name in ("tokens", "apart"))
    return RunCost(run.name, tokens, apart, parameters, tuple(unknown))


def _limited(cost: Cost, limit: int | None) -> Cost:
    if limit is None or not cost.questions or limit >= cost.questions:
        return cost
    share = limit / cost.questions

    def part(number: int | None) -> int | None:
        return None if number is None else round(number * share)

    return cost._replace(questions=limit, samples=part(cost.samples), tokens=part(cost.tokens), apart=part(cost.apart))


def _parameters(study: Study, run: PlannedRun) -> int | None:
    """Parameters of the whole model, if its config is within reach."""
    from lm_eval_ext.pruning.checkpoint import read_config
    from lm_eval_ext.pruning.loading import parameter_count

    name, revision = study.loaded_by(run)
    if name is None or not (Path(located(name)).is_dir() or study.sources.commit(name, revision)):
        return None
    try:
        return parameter_count(read_config(located(name), revision or "main"))
    except (TTSError, OSError, ValueError):  # out of reach, or a config that names no causal language model
        return None
