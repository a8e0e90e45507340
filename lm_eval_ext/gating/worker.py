"""Evaluates one model of a gate, block by block, until nothing is to be asked of it: loads it once.

`python -m lm_eval_ext.gating.worker GATE NAME@DIGEST [ARGUMENT=VALUE ...]` does it alone, in a process of its own with
its output in a log, as a sweep's runs are done; with `--here` first, in this process.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence

from lm_eval_ext.errors import ResultsError
from lm_eval_ext.gating.gate_file import BASE
from lm_eval_ext.gating.gate_study import GateStudy
from lm_eval_ext.harness.registry import engine_of
from lm_eval_ext.harness.session import (
    evaluated_in_part,
    load_model,
    log_to_terminal,
    number_of_questions,
    task_manager,
)
from lm_eval_ext.runs.submission import STOPPED_EARLY
from lm_eval_ext.sweep.one import Work, do, main
from lm_eval_ext.sweep.plan import Item, PlannedRun

logger = logging.getLogger("lm_eval.tts")
_HERE = "--here"


def evaluate(study: GateStudy, run: PlannedRun, extra: Mapping[str, object]) -> None:
    """Evaluate what a model has to be asked now.

    Args:
        study: the gate.
        run: the model.
        extra: model arguments that say where it runs.

    Raises:
        TTSError: the model can't be loaded or evaluated, or its answers can't be compared with the base's.
    """
    manager = task_manager(list(study.benchmarks), study.manifest.include_path)
    counts = {task: number_of_questions(task, manager) for task in study.benchmarks}
    seed = study.gate.seed
    seeds = {f"{kind}_random_seed": seed for kind in ("numpy", "torch", "fewshot")} | {"random_seed": seed}
    model = None
    rounds = study.gate.population == "these questions"
    last = None
    while (block := study.next_block(run)) is not None:
        if block == last:
            raise ResultsError(
                f"{run.name}: {block.task}: evaluating units {block.start + 1} to {block.end} added nothing"
            )
        last = block
        if model is None:
            arguments = {**run.arguments, **study.loading_of(run), **extra}
            model = load_model(arguments, engine_of(study.manifest.engine), study.manifest.batch_size or "auto")
            study.check_served(run, model.fingerprint)
            study.forget_results(run)  # which would pass for those of all blocks if this process were killed
        order = study.order(block.task, counts[block.task])
        end = block.end if rounds else min(block.end, len(order))
        logger.info(
            "%s: %s, %s %d to %d", run.name, block.task, "rounds" if rounds else "questions", block.start + 1, end
        )
        ours = study.tasks.is_ours(block.task)
        generation = {"gen_kwargs": dict(study.manifest.gen_kwargs)} if ours and study.manifest.gen_kwargs else {}
        evaluated_in_part(
            model, block.task, study.blocks_folder(run.name, block.task) / str(block.start), manager,
            {**seeds, **generation, "confirm_run_unsafe_code": study.manifest.run_untrusted_code},
            questions=order if rounds else order[block.start : end],
            samples=end if rounds else None,
            marks={STOPPED_EARLY: {block.task: {"of": counts[block.task]}}},
        )  # fmt: skip
        if run.name != BASE:
            _say(study, run)
    study.write_results(run)


def _say(study: GateStudy, run: PlannedRun) -> None:
    for row in study.standing(run.name).rows.values():
        if row.asked:
            logger.info(
                "%s: %s: %s after %d of %d; evidence of kept %.3g, of lost %.3g",
                run.name, row.task, row.verdict, row.asked, row.total, row.test.e_kept, row.test.e_lost,
            )  # fmt: skip


def _apart(study: GateStudy, run: Item, extra: Sequence[str]) -> int:
    """Evaluate a model in a process of its own; returns an exit code."""
    assert isinstance(run, PlannedRun)  # nothing is chosen in a stage here
    command = [sys.executable, "-m", __spec__.name, _HERE, str(study.path), study.ticket(run), *extra]
    return do(Work(study.folder_of(run), command, lambda: study.is_done(run)))


def _here(study: GateStudy, run: Item, extra: Sequence[str]) -> int:
    """Evaluate a model in this process; returns an exit code."""
    assert isinstance(run, PlannedRun)
    log_to_terminal()
    evaluate(study, run, dict(one.split("=", 1) for one in extra))
    return 0


if __name__ == "__main__":
    here = sys.argv[1] == _HERE
    sys.exit(main(GateStudy, _here if here else _apart, *sys.argv[1 + here :]))
