"""Registers our models, filters, metrics and tasks folder with lm-eval; each step may run more than once."""

from __future__ import annotations

from lm_eval_ext.harness import patches
from lm_eval_ext.harness.log_lines import leave_out_hints_for_other_tasks, leave_out_what_torchao_says_of_itself
from lm_eval_ext.harness.registry import models


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
    import lm_eval_ext.harness.metrics  # noqa: F401  # its decorators register them

    leave_out_hints_for_other_tasks()
    patches.report_our_errors_in_one_line()
    patches.keep_parsed_task_files()
    patches.find_our_tasks()
    patches.offer_any_budget()
    patches.list_tasks_without_parsing_them()
    patches.add_template_filters()
    patches.explain_unreachable_datasets()
    patches.give_requests_their_gen_prefix()
    patches.record_the_grader_version()


def register() -> None:
    """Do all that a run of our models needs, also where lm-eval was imported with `LM_EVAL_TTS_AUTOLOAD=0`."""
    register_models()
    register_tasks()
    leave_out_what_torchao_says_of_itself()


def read_configs() -> None:
    """Let our models see whether a batch size was given, and nobody else the keys of servers; suggest near tasks."""
    patches.mark_the_default_batch_size()
    patches.hide_keys_of_servers()
    patches.suggest_near_tasks()


def log_scores() -> None:
    """Let lm-eval's W&B logger log the samples of our tasks."""
    patches.list_scores_for_wandb()


def check_models() -> None:
    """Refuse tasks with a thinking budget on models that can't force one; let our models say how to go on."""
    patches.refuse_budgets_on_other_models()
    patches.explain_interruptions()
    patches.keep_git_quiet()
    patches.suggest_our_models()  # before `get_model` first runs, which is what loads `lm_eval.models`


def list_models() -> None:
    """Add `lm_eval ls models`."""
    patches.list_models()


def main() -> None:
    """Run lm-eval's command line with the words that were given."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
