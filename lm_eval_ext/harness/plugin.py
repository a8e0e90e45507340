"""Registers our models, filters, metrics and tasks folder with lm-eval; each step may run more than once."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lm_eval_ext.harness import patches
from lm_eval_ext.harness.registry import models
from lm_eval_ext.paths import TINY_CHAIN

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


def register_models() -> None:
    """Add our models to lm-eval's registry, unless it has them by entry points; imported when they are used."""
    from lm_eval.api import registry

    patches.report_our_errors_in_one_line()
    patches.name_output_folders_after_the_pruned_model()
    for name, target in models().items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def register_tasks() -> None:
    """Add our filters, metrics and tasks folder to lm-eval."""
    import lm_eval_ext.harness.registration  # noqa: F401  # its decorators register them

    leave_out_hints_for_other_tasks()
    patches.report_our_errors_in_one_line()
    patches.keep_parsed_task_files()
    patches.find_our_tasks()
    patches.offer_any_budget()
    patches.list_tasks_without_parsing_them()
    patches.add_template_filters()
    patches.explain_unreachable_datasets()
    patches.keep_questions_within_dates()
    patches.give_requests_their_gen_prefix()
    patches.record_the_grader_version()


def register() -> None:
    """Do all that a run of our models needs, also where lm-eval was imported with `LM_EVAL_TTS_AUTOLOAD=0`."""
    register_models()
    register_tasks()
    leave_out_what_torchao_says_of_itself()


def read_configs() -> None:
    """Let our models see whether a batch size was given, and nobody else the keys of servers."""
    patches.mark_the_default_batch_size()
    patches.hide_keys_of_servers()


def log_scores() -> None:
    """Let lm-eval's W&B logger log the samples of our tasks."""
    patches.list_scores_for_wandb()


def check_models() -> None:
    """Refuse tasks with a thinking budget on models that can't force one; let our models say how to go on."""
    patches.refuse_budgets_on_other_models()
    patches.explain_interruptions()


def main() -> None:
    """Run lm-eval's command line with the words that were given."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


logger = logging.getLogger("lm_eval.tts")
_TINY_CHAIN_CAN = ("tts_chain", "chain")  # beginnings of the names of its tasks
_SHOWN = 3


def leave_out_hints_for_other_tasks() -> None:
    """Leave out lm-eval's hint at `--metadata` for tasks with generated datasets, which ours don't read."""
    logging.getLogger("lm_eval.api.task").addFilter(_says_something)  # adding it twice changes nothing


def _says_something(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    return not (said.startswith("tts_") and ": Custom kwargs can be passed" in said)


def leave_out_what_torchao_says_of_itself() -> None:
    """Leave out what torchao says when transformers imports it: of libraries for other GPUs, and to its developers."""
    for name in ("torchao", "torch.utils._pytree"):
        logging.getLogger(name).addFilter(_not_of_torchao)


def _not_of_torchao(record: logging.LogRecord) -> bool:
    said = record.getMessage()
    other_gpus = said.startswith("Failed to load ") and ".so: Could not load this library" in said
    return not other_gpus and "is an Enum subclass and is now natively supported" not in said


def warn_of_what_tiny_chain_cannot_do(requests: Iterable[Instance]) -> None:
    """Say which tasks the embedded model was not trained for."""
    names = {str(request.task_name) for request in requests}
    others = sorted(name for name in names if not name.startswith(_TINY_CHAIN_CAN))
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        logger.warning(
            "%s, the embedded model, only computes chains of sums: its scores on %s%s mean nothing; give "
            "pretrained=MODEL, or try --tasks tts_mini",
            TINY_CHAIN.name, ", ".join(others[:_SHOWN]), more,
        )  # fmt: skip
