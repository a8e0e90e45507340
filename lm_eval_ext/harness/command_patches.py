"""Runtime patches of the command line of lm-eval 0.4.13, one function each, as in `patches.py`."""

from __future__ import annotations

import argparse
import difflib
import gc
import os
import sys
from types import TracebackType

from lm_eval_ext.errors import ArgumentError, TaskError, TTSError
from lm_eval_ext.harness import secrets
from lm_eval_ext.harness.engines import ENGINES, models
from lm_eval_ext.harness.names import model_names, near_tasks
from lm_eval_ext.harness.patching import Function, replace


class DefaultBatchSize(int):
    """The batch size of 1 that lm-eval's command line uses if none was given."""


def mark_the_default_batch_size() -> None:
    """Make `EvaluatorConfig.from_cli` use a marked 1 as the default batch size.

    Needed until lm-eval's default differs from a batch size of 1.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    def around(build: Function) -> Function:
        def marked(namespace: argparse.Namespace) -> EvaluatorConfig:
            config = build(namespace)
            file = getattr(namespace, "config", None)
            given = hasattr(namespace, "batch_size") or (file and "batch_size" in config.load_yaml_config(file))
            if not given:
                config.batch_size = DefaultBatchSize(config.batch_size)
            return config

        return marked

    replace(EvaluatorConfig, "from_cli", around)


def hide_keys_of_servers() -> None:
    """Make `EvaluatorConfig._configure` replace keys in the arguments of `tts-server`.

    Needed until lm-eval neither logs nor saves secret model arguments.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    def around(configure: Function) -> Function:
        def with_hidden_keys(self: EvaluatorConfig) -> EvaluatorConfig:
            configured: EvaluatorConfig = configure(self)
            if self.model == ENGINES["server"].model:
                for arguments in (self.model_args, self.metadata):  # lm-eval copies the arguments to the metadata
                    secrets.hide(arguments)
            return configured

        return with_hidden_keys

    replace(EvaluatorConfig, "_configure", around)


def suggest_near_tasks() -> None:
    """Make `EvaluatorConfig.process_tasks` name the task that was meant, where that or the given one is ours.

    Needed until lm-eval does so, in one line.
    """
    from lm_eval.config.evaluate_config import EvaluatorConfig

    def around(process: Function) -> Function:
        def suggesting(self: EvaluatorConfig, *args: object, **kwargs: object) -> object:
            try:
                return process(self, *args, **kwargs)
            except ValueError as error:
                beginning, _, missing = str(error).partition("Tasks not found: ")
                near = {} if beginning or not missing else near_tasks(missing.split(", "), self.include_path)
                if not any(name.startswith("tts_") for pair in near.items() for name in pair):
                    raise
                meant = [f"{name} (did you mean {task}?)" if task else name for name, task in near.items()]
                raise TaskError(f"--tasks: unknown {', '.join(meant)}; `lm_eval ls tasks` lists all tasks") from error

        return suggesting

    replace(EvaluatorConfig, "process_tasks", around)


def suggest_our_models() -> None:
    """Make `get_model` name our model that was meant. Needed until lm-eval does so, in one line."""
    from lm_eval.api import registry

    def around(get: Function) -> Function:
        def suggesting(model_name: str) -> object:
            try:
                return get(model_name)
            except ValueError as error:
                near = difflib.get_close_matches(str(model_name), registry.model_registry, 1)
                if not near or near[0] == model_name or near[0] not in models():
                    raise
                raise ArgumentError(
                    f"--model {model_name}: unknown (did you mean {near[0]}?); `lm_eval ls models` lists all models"
                ) from error

        return suggesting

    replace(registry, "get_model", around)


def list_models() -> None:
    """Add `lm_eval ls models`. Needed until lm-eval itself lists more than tasks (0.4.13 does not)."""
    from lm_eval._cli.ls import List

    def with_choice(add: Function) -> Function:
        def added(self: List) -> None:
            add(self)
            what = next(action for action in self._parser._actions if action.dest == "what")
            what.choices = list(dict.fromkeys([*what.choices, "models"]))

        return added

    def with_models(execute: Function) -> Function:
        def listed(self: List, given: argparse.Namespace) -> None:
            if given.what == "models":
                print("\n".join(model_names()))
            else:
                gc.disable()  # a fifth of the time, for a list that is printed once
                execute(self, given)

        return listed

    replace(List, "_add_args", with_choice)
    replace(List, "_execute", with_models)


def report_our_errors_in_one_line() -> None:
    """Make `sys.excepthook` print our errors, and Ctrl-C in our models, as one line.

    It doesn't where LM_EVAL_TTS_TRACEBACK is set. Needed until lm-eval's command no longer prints a traceback for
    errors in models and tasks.
    """

    def around(report: Function) -> Function:
        def brief(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
            explained = isinstance(error, KeyboardInterrupt) and error.args  # Ctrl-C itself has none
            if os.environ.get("LM_EVAL_TTS_TRACEBACK") or not (explained or isinstance(error, TTSError)):
                report(kind, error, trace)
            else:
                print(f"lm-eval-tts: {'interrupted: ' if explained else ''}{error}", file=sys.stderr)

        return brief

    replace(sys, "excepthook", around)
