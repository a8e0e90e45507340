"""Runtime patches of lm-eval 0.4.13, one function each; they don't affect other tasks or models.

Each may be called any number of times, because patched functions are marked. "Needed until" says when it can go.
"""

from __future__ import annotations

import argparse
import functools
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lm_eval_ext.errors import ArgumentError, DatasetError, TaskError, TTSError
from lm_eval_ext.generation.request import asks_for_thinking, only_ours, unlimited, with_budget
from lm_eval_ext.grading import GRADER_VERSION
from lm_eval_ext.grading.code import CodeExtractor, CodeRules
from lm_eval_ext.grading.kinds import MATCHING
from lm_eval_ext.harness import server_arguments
from lm_eval_ext.harness.prompts import include, unknown_task
from lm_eval_ext.harness.registry import ENGINES, models
from lm_eval_ext.paths import TASKS
from lm_eval_ext.plugins import lm_eval_task_folders, task_folders
from lm_eval_ext.template_filters import TEMPLATE_FILTERS

if TYPE_CHECKING:
    from lm_eval.api.model import LM
    from lm_eval.tasks.manager import TaskManager

    from lm_eval_ext.harness.arguments import ModelArgs


def find_our_tasks() -> None:
    """Make `TaskIndex.build` also search our tasks folder and those of other installed packages.

    If several folders have a task of the same name, lm-eval uses the last one and logs both. The order is: other
    installed packages, lm-eval's own tasks, ours, `--include_path`. So another package can add tasks but replace none.
    The folders of `--include_path` are kept for `calibration=task:NAME`.

    Needed until lm-eval finds task folders through entry points (0.4.13 does not), and keeps this order.
    """
    from lm_eval.tasks import _index, manager

    defaults = Path(manager.__file__).parent

    def with_our_tasks(build: Function, paths: Iterable[Path], **options: object) -> object:
        paths = list(paths)
        if defaults in paths:
            plugins = lm_eval_task_folders()  # which lm-eval may have found too
            if nowhere := next((path for path in paths if not path.exists()), None):
                raise TaskError(f"include_path={nowhere}: is not there")
            included = [path for path in paths if path != defaults and path.resolve() not in (TASKS, *plugins)]
            found = [path for path in paths if path.resolve() in plugins and path.resolve() != TASKS]
            paths = list(dict.fromkeys([*task_folders(), *found, defaults, TASKS, *included]))
            include(included)
        return build(paths, **options)

    replace(_index.TaskIndex, "build", with_our_tasks)


def offer_any_budget() -> None:
    """Make `TaskManager` know `TASK_b32768` for any budget of our tasks, not only those that have a file.

    Needed as long as lm-eval knows only tasks with a file; `--gen_kwargs` changes the budget of all tasks of a run.
    """
    from lm_eval.tasks.manager import TaskManager

    def matched(match: Function, self: TaskManager, names: list[str]) -> list[str]:
        budgets = [name for name in names if self.task_index.get(name) is None and _with_any_budget(self, name)]
        matches = sorted({*match(self, names), *budgets})
        if not matches and names[:1] and names[0].startswith("tts_"):
            raise unknown_task(names[0], self.all_tasks)
        return matches

    def known(entry: Function, self: TaskManager, name: str) -> object:
        return entry(self, name) or _with_any_budget(self, name)

    replace(TaskManager, "match_tasks", matched)
    replace(TaskManager, "_entry", known)


def _with_any_budget(manager: TaskManager, name: str) -> object:
    """The task of a name such as `tts_math500_b32768`, made from that without a limit; None if there is no such."""
    from lm_eval.tasks._index import Entry, Kind
    from lm_eval.tasks._yaml_loader import load_yaml

    base, _, budget = name.rpartition("_b")
    entry = manager.task_index.get(base)
    if not (base.startswith("tts_") and entry and entry.kind is Kind.TASK and re.fullmatch(r"[1-9]\d{0,8}", budget)):
        return None
    config = load_yaml(entry.yaml_path, resolve_func=True)
    arguments = config.get("generation_kwargs") or {}
    if re.search(r"_(b|maj)\d+$", base) or not asks_for_thinking(arguments):  # a variant itself, or another's task
        return None
    config |= {"task": name, "generation_kwargs": with_budget(arguments, int(budget))}
    return Entry(name, Kind.TASK, None, config, entry.tags)


def keep_parsed_task_files() -> None:
    """Make `TaskIndex.build` keep what it read from lm-eval's and our task files, and read it again at the next start.

    Only when a file in those folders has changed are they parsed again. Needed until lm-eval keeps its index.
    """
    from lm_eval.tasks._index import TaskIndex

    from lm_eval_ext.harness.task_files import with_kept_fields

    replace(TaskIndex, "build", with_kept_fields)


def list_tasks_without_parsing_them() -> None:
    """Make `TaskManager.list_all_tasks` use the index, where lm-eval parses every file and measures every cell again.

    Needed until lm-eval does so.
    """
    from lm_eval.tasks.manager import TaskManager

    from lm_eval_ext.harness.task_files import tables_of_tasks

    replace(TaskManager, "list_all_tasks", lambda parsing, *args, **kwargs: tables_of_tasks(*args, **kwargs))


def add_template_filters() -> None:
    """Add the filters of our templates to lm-eval's Jinja environment, such as `options` and `lettered`.

    A filter that is already there is kept. Needed until lm-eval has entry points for template filters.
    """
    from lm_eval import utils

    for name, function in TEMPLATE_FILTERS.items():
        utils.env.filters.setdefault(name, function)


def explain_unreachable_datasets() -> None:
    """Make `ConfigurableTask.download` explain in one line how to run our tasks without a network.

    Needed until the errors from `datasets` say so themselves.
    """
    from lm_eval.api.task import ConfigurableTask

    def explained(download: Function, self: ConfigurableTask, *args: object, **kwargs: object) -> None:
        try:
            download(self, *args, **kwargs)
        except (OSError, ValueError) as error:
            if not str(self.config.task).startswith("tts_"):
                raise
            raise DatasetError.unreachable(self.config.task, self.DATASET_PATH, error) from error

    replace(ConfigurableTask, "download", explained)


def keep_questions_within_dates() -> None:
    """Make `ConfigurableTask.download` leave out what `metadata.code` has `from` and `until` for.

    Needed until lm-eval's `process_docs` takes arguments.
    """
    from lm_eval.api.task import ConfigurableTask

    def within(download: Function, self: ConfigurableTask, *args: object, **kwargs: object) -> None:
        download(self, *args, **kwargs)
        code = (self.config.metadata or {}).get("code") or {}
        if not (column := code.get("dated")):
            return
        first, last = (str(code.get(name) or "") for name in ("from", "until"))
        split, rows = self.config.test_split, self.dataset[self.config.test_split]
        days = [str(day)[:10] for day in rows[column]]
        kept = [at for at, day in enumerate(days) if first <= day and (not last or day <= last)]
        if not kept:
            raise DatasetError(f"{self.config.task}: no question from {first or 'the start'} to {last or 'the end'}")
        self.dataset = {**self.dataset, split: rows.select(kept)}

    replace(ConfigurableTask, "download", within)


def give_requests_their_gen_prefix() -> None:
    """Make `ConfigurableTask.construct_requests` store the task's `gen_prefix` in each request.

    Without a chat template, lm-eval appends it to the user's text, where a model class cannot tell them apart. Needed
    until lm-eval stores it in `Instance`.
    """
    from lm_eval.api.task import ConfigurableTask

    def with_prefix(
        construct: Function, self: ConfigurableTask, doc: dict[str, object], ctx: object, **kwargs: object
    ) -> object:
        made = construct(self, doc, ctx, **kwargs)
        prefix = self.doc_to_prefix(doc)
        for instance in made if isinstance(made, list) else [made]:
            instance.gen_prefix = prefix
        return made

    replace(ConfigurableTask, "construct_requests", with_prefix)


def record_the_grader_version() -> None:
    """Make `ConfigurableTask.dump_config` record which version of our grader a task uses, whatever the model class.

    Needed until lm-eval records versions of metrics.
    """
    from lm_eval.api.task import ConfigurableTask

    def with_version(dump: Function, self: ConfigurableTask) -> dict[str, object]:
        config: dict[str, Any] = dump(self)
        if set(MATCHING) & set(self._metric_fn_list):
            extractor = programs_of(self)
            where = {"sandbox": extractor.where} if extractor else {}
            config["metadata"] = {**(config.get("metadata") or {}), "grader_version": GRADER_VERSION, **where}
        return config

    replace(ConfigurableTask, "dump_config", with_version)


def name_output_folders_after_the_pruned_model() -> None:
    """Make `GeneralConfigTracker.log_experiment_args` include the dropped layers in the name of a run's folder.

    Otherwise a dense and a pruned run would share a folder. Needed until a model class can name its run.
    """
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    def log_pruned(
        log: Function,
        self: GeneralConfigTracker,
        model_source: str,
        model_args: ModelArgs,
        *args: object,
        **kwargs: object,
    ) -> None:
        log(self, model_source, model_args, *args, **kwargs)
        if model_source in models():
            from lm_eval.utils import sanitize_model_name

            from lm_eval_ext.harness.arguments import run_name

            self.model_name = run_name(self.model_name, model_args)
            self.model_name_sanitized = sanitize_model_name(self.model_name)

    replace(GeneralConfigTracker, "log_experiment_args", log_pruned)


def list_scores_for_wandb() -> None:
    """Make `WandbLogger._generate_dataset` use the names of a sample's scores, such as `acc`, not those of metrics.

    Our metrics give several scores each, so that W&B's table of samples would end in a KeyError. Needed until lm-eval's
    logger reads the scores that a sample has.
    """
    from lm_eval.loggers.wandb_logger import WandbLogger

    def with_scores(
        generate: Function, self: WandbLogger, data: list[dict[str, Any]], config: dict[str, Any]
    ) -> object:
        known = data[0] if data else {}
        entries = [entry for entry in config["metric_list"] if entry.get("metric") in known]
        if len(entries) < len(config["metric_list"]):
            config = {**config, "metric_list": [{"metric": name} for name in known.get("metrics", ())]}
        return generate(self, data, config)

    replace(WandbLogger, "_generate_dataset", with_scores)


def explain_interruptions() -> None:
    """Make `simple_evaluate` and `evaluate` say in the KeyboardInterrupt that ends our models how to go on.

    `sys.excepthook` prints what it says. Needed until lm-eval's command ends without a traceback then.
    """
    from lm_eval import evaluator

    def while_loading(simple_evaluate: Function, model: object, *args: object, **kwargs: object) -> object:
        try:
            return simple_evaluate(model, *args, **kwargs)
        except KeyboardInterrupt as error:
            if error.args or model not in models():
                raise
            raise KeyboardInterrupt("run the same command again to start over") from error

    def while_evaluating(evaluate: Function, lm: LM, *args: object, **kwargs: object) -> object:
        model = getattr(lm, "lm", lm)  # beneath lm-eval's cache
        try:
            return evaluate(lm, *args, **kwargs)
        except KeyboardInterrupt as error:
            if getattr(model, "NAME", "") not in models():
                raise
            kept = f"finished work is kept in the journal {model.journal}; " if model.journal else ""
            raise KeyboardInterrupt(f"{kept}run the same command again to go on") from error

    replace(evaluator, "simple_evaluate", while_loading)
    replace(evaluator, "evaluate", while_evaluating)


def refuse_budgets_on_other_models() -> None:
    """Make `evaluate` refuse tasks with a thinking budget on models that can't force one, and lm-eval's caches on ours.

    Needed until lm-eval's own models refuse generation arguments that they don't know, and until its cache of answers
    knows which model gave them, and that of requests with which `--gen_kwargs` they were made.
    """
    from lm_eval import evaluator

    def before_evaluating(
        evaluate: Function, lm: LM, task_dict: dict[str, Any], *args: object, **kwargs: object
    ) -> object:
        tasks = task_dict.get("tasks", task_dict)
        check_that_budgets_are_forced(lm, tasks)
        check_that_programs_may_run(tasks, confirmed=bool(kwargs.get("confirm_run_unsafe_code")))
        return evaluate(lm, task_dict, *args, **kwargs)

    def before_loading(simple_evaluate: Function, *args: object, **kwargs: Any) -> object:
        model = args[0] if args else kwargs.get("model")
        name = model if isinstance(model, str) else getattr(model, "NAME", "")
        if kwargs.get("use_cache") and name in models():
            raise ArgumentError(
                "--use_cache: lm-eval's cache gives the answers of whichever model was asked before; leave it out, as "
                f"{name} keeps its own in the journal"
            )
        if kwargs.get("cache_requests") and name in models():
            logger.warning("--cache_requests: without effect on %s, as its requests may be of other gen_kwargs", name)
            kwargs["cache_requests"] = False
        manager, tasks = kwargs.get("task_manager"), kwargs.get("tasks")
        if manager is not None and isinstance(tasks, list) and not kwargs.get("confirm_run_unsafe_code"):
            _refuse_programs([name for name in tasks if isinstance(name, str) and _runs_programs(manager, name)])
        return simple_evaluate(*args, **kwargs)

    replace(evaluator, "evaluate", before_evaluating)
    replace(evaluator, "simple_evaluate", before_loading)


def _runs_programs(manager: TaskManager, name: str) -> bool:
    """Whether a task, or one in a group, runs what the model writes in our sandbox."""
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = manager.task_index.get(name)
    if entry is None or entry.yaml_path is None:
        return False
    config = load_yaml(entry.yaml_path, resolve_func=False)
    members = config["task"] if isinstance(config.get("task"), list) else []
    inside = (_runs_programs(manager, one) for one in members if isinstance(one, str) and one != name)
    return CodeRules.filter_name() in str(config.get("filter_list")) or any(inside)


_MARK = "__lm_eval_tts__"
Function = Callable[..., Any]  # of lm-eval, which has no type information


def replace(owner: object, name: str, wrapper: Function) -> None:
    """Replace a function with a wrapper, once; the wrapper takes the function before the arguments."""
    original = getattr(owner, name)
    done = getattr(original, _MARK, ())
    if wrapper.__qualname__ in done:
        return

    @functools.wraps(original)
    def changed(*args: Any, **kwargs: Any) -> Any:
        return wrapper(original, *args, **kwargs)

    setattr(changed, _MARK, (*done, wrapper.__qualname__))
    static = isinstance(vars(owner).get(name), staticmethod)
    setattr(owner, name, staticmethod(changed) if static else changed)


class DefaultBatchSize(int):
    """The batch size of 1 that lm-eval's command line uses if none was given."""


def mark_the_default_batch_size() -> None:
    """Make `EvaluatorConfig.from_cli` use a marked 1 as the default batch size.

    Needed until lm-eval's default differs from a batch size of 1.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    def marked(build: Function, namespace: argparse.Namespace) -> EvaluatorConfig:
        config = build(namespace)
        file = getattr(namespace, "config", None)
        given = hasattr(namespace, "batch_size") or (file and "batch_size" in config.load_yaml_config(file))
        if not given:
            config.batch_size = DefaultBatchSize(config.batch_size)
        return config

    replace(EvaluatorConfig, "from_cli", marked)


def hide_keys_of_servers() -> None:
    """Make `EvaluatorConfig._configure` replace keys in the arguments of `tts-server`.

    Needed until lm-eval neither logs nor saves secret model arguments.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    def with_hidden_keys(configure: Function, self: EvaluatorConfig) -> EvaluatorConfig:
        configured: EvaluatorConfig = configure(self)
        if self.model == ENGINES["server"].model:
            for arguments in (self.model_args, self.metadata):  # lm-eval copies the arguments to the metadata
                server_arguments.hide(arguments)
        return configured

    replace(EvaluatorConfig, "_configure", with_hidden_keys)


def report_our_errors_in_one_line() -> None:
    """Make `sys.excepthook` print our errors, and Ctrl-C in our models, as one line.

    It doesn't where LM_EVAL_TTS_TRACEBACK is set. Needed until lm-eval's command no longer prints a traceback for
    errors in models and tasks.
    """

    def brief(report: Function, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        explained = isinstance(error, KeyboardInterrupt) and error.args  # Ctrl-C itself has none
        if os.environ.get("LM_EVAL_TTS_TRACEBACK") or not (explained or isinstance(error, TTSError)):
            report(kind, error, trace)
        else:
            print(f"lm-eval-tts: {'interrupted: ' if explained else ''}{error}", file=sys.stderr)

    replace(sys, "excepthook", brief)


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
    model = getattr(lm, "lm", lm)  # beneath lm-eval's cache
    if getattr(model, "NAME", "") in models() or type(model).__name__ == "DummyLM":
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


def check_that_programs_may_run(tasks: Mapping[str, object], *, confirmed: bool) -> None:
    """Check that programs that a model writes may run, and can, before any is written.

    Args:
        tasks: by name.
        confirmed: whether the user has agreed, by lm-eval's own flag.

    Raises:
        ArgumentError: nobody has agreed.
        GradingError: there is no sandbox here.
    """
    running = {name: found for name, task in tasks.items() if (found := programs_of(task))}
    if not running:
        return
    if not confirmed:
        _refuse_programs(list(running))
    for extractor in running.values():
        extractor.check()


def _refuse_programs(tasks: list[str]) -> None:
    if tasks:
        raise ArgumentError(
            f"{', '.join(tasks)}: programs that the model writes would run on this machine, in a sandbox; agree with "
            "--confirm_run_unsafe_code, tts.evaluate(..., run_untrusted_code=True), tasks try --run-untrusted-code, or "
            "run_untrusted_code: true in a manifest"
        )


def programs_of(task: object) -> CodeExtractor | None:
    """What runs the programs of a task; None if its answers are none."""
    filters = [one for chain in getattr(task, "_filters", ()) for one in getattr(chain, "filters", ())]
    made = (
        one().extractor for one in filters if getattr(getattr(one, "func", None), "NAME", "") == CodeRules.filter_name()
    )
    return next(made, None)


def _generation(task: object) -> MutableMapping[str, object]:
    found: MutableMapping[str, object] = getattr(getattr(task, "config", None), "generation_kwargs", None) or {}
    return found
