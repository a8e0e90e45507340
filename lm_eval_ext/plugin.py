"""Registers our models, filters, metrics and tasks folder with lm-eval; every step may run twice."""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from lm_eval_ext.errors import DatasetError, TTSError
from lm_eval_ext.registry import TASKS

MODELS = {
    "pruned-hf": "lm_eval_ext.models.pruned_hf:PrunedHFLM",
    "pruned-vllm": "lm_eval_ext.models.pruned_vllm:PrunedVLLM",
}


def register_models() -> None:
    """Add our models to lm-eval's registry (lazily: nothing is imported until one is asked for)."""
    from lm_eval.api import registry

    _report_our_errors_in_one_line()
    _name_output_folders_after_the_pruned_model()
    if hasattr(registry, "load_plugins"):  # later lm-eval finds our entry points itself
        return
    for name, target in MODELS.items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def register_tasks() -> None:
    """Add our filters, metrics and tasks folder to lm-eval."""
    from lm_eval.api import registry

    _report_our_errors_in_one_line()
    if not hasattr(registry, "load_plugins"):
        import lm_eval_ext.grading.metrics  # noqa: F401  # its decorators register it
    _add_tasks_folder()
    _explain_unreachable_datasets()
    _tell_gen_prefixes()
    _tell_the_grader_version()


def list_models() -> None:
    """Give `lm_eval ls` the choice `models`, where it has none of its own (0.4.13 lists tasks alone)."""
    from lm_eval._cli.ls import List

    add, execute = List._add_args, List._execute
    if hasattr(add, "__wrapped__"):
        return

    @functools.wraps(add)
    def with_models(self: Any) -> None:
        add(self)
        what = next(action for action in self._parser._actions if action.dest == "what")
        if "models" not in what.choices:
            what.choices = [*what.choices, "models"]
            self._execute = functools.partial(_list_models_or, functools.partial(execute, self))

    List._add_args = with_models


def _list_models_or(execute: Callable[[argparse.Namespace], None], given: argparse.Namespace) -> None:
    if given.what != "models":
        execute(given)
        return
    import lm_eval.models  # noqa: F401  # fills the registry, ours included
    from lm_eval.api.registry import model_registry

    print("\n".join(sorted(model_registry)))


def _add_tasks_folder() -> None:
    from lm_eval.tasks import _index, manager

    defaults = Path(manager.__file__).parent
    build = _index.TaskIndex.build
    if hasattr(build, "__wrapped__"):
        return

    @functools.wraps(build)
    def with_our_tasks(paths: Iterable[Path], **options: Any) -> Any:
        paths = list(paths)
        if defaults in paths and TASKS not in paths:  # a user's --include_path still comes later and wins
            paths.insert(paths.index(defaults) + 1, TASKS)
        return build(paths, **options)

    _index.TaskIndex.build = staticmethod(with_our_tasks)


def _explain_unreachable_datasets() -> None:
    from lm_eval.api.task import ConfigurableTask

    download = ConfigurableTask.download
    if hasattr(download, "__wrapped__"):
        return

    @functools.wraps(download)
    def explained(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            download(self, *args, **kwargs)
        except (OSError, ValueError) as error:
            if not str(self.config.task).startswith("tts_"):
                raise
            raise DatasetError(_unreachable(self.config.task, self.DATASET_PATH, error)) from error

    ConfigurableTask.download = explained


def _tell_gen_prefixes() -> None:
    """Have each request know its task's `gen_prefix`: without a chat template, lm-eval adds it to the user's words."""
    from lm_eval.api.task import ConfigurableTask

    construct = ConfigurableTask.construct_requests
    if hasattr(construct, "__wrapped__"):
        return

    @functools.wraps(construct)
    def with_prefix(self: Any, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> Any:
        made = construct(self, doc, ctx, **kwargs)
        prefix = self.doc_to_prefix(doc)
        for instance in made if isinstance(made, list) else [made]:
            instance.gen_prefix = prefix
        return made

    ConfigurableTask.construct_requests = with_prefix


def _tell_the_grader_version() -> None:
    """Have the results of tasks that our grader grades say which version of it did, whatever the model."""
    from lm_eval.api.task import ConfigurableTask

    from lm_eval_ext.grading import GRADER_VERSION, METRICS

    dump = ConfigurableTask.dump_config
    if hasattr(dump, "__wrapped__"):
        return

    @functools.wraps(dump)
    def with_version(self: Any) -> dict[str, Any]:
        config: dict[str, Any] = dump(self)
        if set(METRICS) & set(self._metric_fn_list):
            config["metadata"] = {**(config.get("metadata") or {}), "grader_version": GRADER_VERSION}
        return config

    ConfigurableTask.dump_config = with_version


def _unreachable(task: str, dataset: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return (
        f"task {task}: dataset {dataset} cannot be reached ({reason}); without a network, run from a folder that "
        f"holds it as ./{dataset}, or fill the cache on another machine and set HF_HUB_OFFLINE=1; "
        "a gated dataset needs `hf auth login` first"
    )


def _name_output_folders_after_the_pruned_model() -> None:
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    log = GeneralConfigTracker.log_experiment_args
    if hasattr(log, "__wrapped__"):
        return

    @functools.wraps(log)
    def log_pruned(self: Any, model_source: str, model_args: Any, *args: Any, **kwargs: Any) -> None:
        log(self, model_source, model_args, *args, **kwargs)
        if model_source in MODELS:
            from lm_eval.utils import sanitize_model_name

            from lm_eval_ext.models.arguments import run_name

            self.model_name = run_name(self.model_name, model_args)
            self.model_name_sanitized = sanitize_model_name(self.model_name)

    GeneralConfigTracker.log_experiment_args = log_pruned


def _report_our_errors_in_one_line() -> None:
    report = sys.excepthook
    if hasattr(report, "__wrapped__"):
        return

    @functools.wraps(report)
    def brief(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, TTSError) and not os.environ.get("LM_EVAL_TTS_TRACEBACK"):
            print(f"lm-eval-tts: {error}", file=sys.stderr)
        else:
            report(kind, error, trace)

    sys.excepthook = brief
