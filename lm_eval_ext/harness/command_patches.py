"""Runtime patches of the command line of lm-eval 0.4.13, one function each, as in `patches.py`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
from types import TracebackType

from lm_eval_ext.errors import TTSError
from lm_eval_ext.harness import secrets
from lm_eval_ext.harness.engines import ENGINES
from lm_eval_ext.harness.names import model_names
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
