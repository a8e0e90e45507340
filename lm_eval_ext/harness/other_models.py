"""Our tasks on lm-eval's own models: those that can't force a thinking budget are told so before they decode anything.

Endpoints that only offer chat (`local-chat-completions`, `openai-chat-completions`) run tasks without a budget.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.generation.options import asks_for_thinking, only_ours, unlimited
from lm_eval_ext.harness.engines import models

if TYPE_CHECKING:
    from lm_eval.api.model import LM

logger = logging.getLogger("lm_eval.tts")

_SHOWN = 3


def check_that_budgets_are_forced(lm: LM, tasks: Mapping[str, object]) -> None:
    """Check that a model can run the tasks; what only our models know of a task without a budget is left out for chat.

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
    chat = any(base.__name__ == "LocalChatCompletion" for base in type(model).__mro__)
    asking = {name: given for name, task in tasks.items() if asks_for_thinking(given := _generation(task))}
    budgeted = [name for name, given in asking.items() if not (chat and unlimited(given))]
    if budgeted:
        more = f" and {len(budgeted) - _SHOWN} more" if len(budgeted) > _SHOWN else ""
        raise ArgumentError(
            f"{', '.join(budgeted[:_SHOWN])}{more}: {type(model).__name__} can't force a thinking budget; expected "
            f"--model {', '.join(models())}; without drop_layers or prune, these run the whole model"
        )
    for given in asking.values():
        for name in only_ours(given):
            del given[name]
    if asking:
        logger.warning(
            "%s sends the same seed with every request: where that is kept, the samples of a question are all the same",
            type(model).__name__,
        )


def _generation(task: object) -> MutableMapping[str, object]:
    found: MutableMapping[str, object] = getattr(getattr(task, "config", None), "generation_kwargs", None) or {}
    return found
