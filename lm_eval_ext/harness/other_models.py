"""Refuses our tasks on model classes that can't force a thinking budget, before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.options import asks_for_thinking
from lm_eval_ext.harness.engines import models

if TYPE_CHECKING:
    from lm_eval.api.model import LM

_SHOWN = 3


def check_that_budgets_are_forced(lm: LM, tasks: Mapping[str, object]) -> None:
    """Check that a model can run the tasks.

    Args:
        lm: any of lm-eval's models; its `dummy` may run everything.
        tasks: by name.

    Raises:
        ArgumentError: a task has a thinking budget, and the model is none of ours.
    """
    from lm_eval_ext.harness.models.thinking import ThinkingLM

    model = getattr(lm, "lm", lm)  # beneath lm-eval's cache
    if isinstance(model, ThinkingLM) or type(model).__name__ == "DummyLM":
        return
    budgeted = [name for name, task in tasks.items() if asks_for_thinking(_generation(task))]
    if budgeted:
        more = f" and {len(budgeted) - _SHOWN} more" if len(budgeted) > _SHOWN else ""
        raise ArgumentError(
            f"{', '.join(budgeted[:_SHOWN])}{more}: {type(model).__name__} can't force a thinking budget; expected "
            f"--model {', '.join(models())}; without drop_layers or prune, these run the whole model"
        )


def _generation(task: object) -> Mapping[str, object]:
    found: Mapping[str, object] = getattr(getattr(task, "config", None), "generation_kwargs", None) or {}
    return found
