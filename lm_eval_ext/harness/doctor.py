"""Finds out what is plugged in on this machine, what is not, and what to do about it."""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.version import Version

from lm_eval_ext.harness import machine
from lm_eval_ext.harness.engines import models
from lm_eval_ext.harness.machine import Check, Finding, required, unmet
from lm_eval_ext.paths import PACKAGE, TASKS
from lm_eval_ext.version import own_version

_AUTOLOAD = "lm_eval_ext._autoload"
_AUTOLOADED = _AUTOLOAD in sys.modules  # by the `.pth` file, when the interpreter started
_OLDEST = "0.4.13"
# Names of lm-eval that it may move at any time, and what doesn't work without them; most are replaced at runtime.
INTERNALS = {
    "lm_eval.__main__:cli_evaluate": "`python -m lm_eval_ext run`",
    "lm_eval._cli.ls:List._add_args": "`lm_eval ls models`",
    "lm_eval._cli.ls:List._execute": "`lm_eval ls models`",
    "lm_eval._cli.utils:split_top_level": "model arguments",
    "lm_eval.api.task:ConfigurableTask.construct_requests": "tasks that begin the model's answer (gen_prefix)",
    "lm_eval.api.task:ConfigurableTask.download": "a short error without a network",
    "lm_eval.api.task:ConfigurableTask.dump_config": "the grader's version in results",
    "lm_eval.config.evaluate_config:EvaluatorConfig._configure": "hiding keys of servers",
    "lm_eval.config.evaluate_config:EvaluatorConfig.from_cli": "our default batch size",
    "lm_eval.api.registry:get_model": "a hint at a misspelt model",
    "lm_eval.config.evaluate_config:EvaluatorConfig.process_tasks": "a hint at a misspelt task",
    "lm_eval.evaluator:get_git_commit_hash": "no word of git outside of a repository",
    "lm_eval.evaluator:simple_evaluate": "one line after Ctrl-C",
    "lm_eval.loggers.utils:get_commit_from_path": "no word of git outside of a repository",
    "lm_eval.evaluator:evaluate": "refusing budgets on models that can't force one",
    "lm_eval.loggers.evaluation_tracker:GeneralConfigTracker.log_experiment_args": "folders named after pruned models",
    "lm_eval.loggers.wandb_logger:WandbLogger._generate_dataset": "samples in W&B",
    "lm_eval.models.utils:resolve_max_length": "pruned-hf",
    "lm_eval.models.huggingface:HFLM._create_model": "pruned-hf",
    "lm_eval.models.huggingface:HFLM._get_config": "pruned-hf",
    "lm_eval.tasks._index:Entry": "kept lists of tasks",
    "lm_eval.tasks._index:Kind": "any thinking budget by name",
    "lm_eval.tasks._index:TaskIndex.build": "our tasks",
    "lm_eval.tasks._index:load_yaml": "kept lists of tasks",
    "lm_eval.tasks._yaml_loader:load_yaml": "any thinking budget by name",
    "lm_eval.tasks._yaml_loader:_import_func_in_yml": "`tasks check` of functions beside a task",
    "lm_eval.tasks.manager:TaskManager._entry": "any thinking budget by name",
    "lm_eval.tasks.manager:TaskManager.match_tasks": "any thinking budget by name",
    "lm_eval.tasks.manager:TaskManager.list_all_tasks": "a fast `lm_eval ls tasks`",
    "lm_eval.utils:env": "the filters of our prompts",
    "lm_eval.utils:get_rolling_token_windows": "tts-server",
    "lm_eval.utils:handle_arg_string": "model arguments",
    "lm_eval.utils:make_disjoint_window": "tts-server",
    "lm_eval.utils:sanitize_model_name": "folders named after pruned models",
    "lm_eval.utils:setup_logging": "`import lm_eval_ext`",
}
_OTHER_WAY = "`python -m lm_eval_ext run ...` in place of `lm_eval run ...`"


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in order."""
    for check in (_python, _dependencies, _lm_eval, _internals, _hooks, _entry_points, _tasks, _model_classes, _grader):
        yield from _checked(check, broken=True)
    for on_machine in machine.CHECKS:
        yield from _checked(on_machine, broken=False)


def _checked(check: Check, *, broken: bool) -> Iterator[Finding]:
    """What a check finds; one that fails is a finding too."""
    try:
        found = check()
        yield from [found] if isinstance(found, Finding) else found
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever is wrong with an installation; some packages exit when imported
        what = check.__name__.strip("_").replace("_", " ")
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        yield Finding(what, said, "the message says what is wrong", broken)


def _python() -> Finding:
    return Finding("Python", f"{sys.version.split()[0]} in {sys.prefix}; lm-eval-tts {own_version()} in {PACKAGE}")


def _dependencies() -> Finding:
    needed = list(required())
    if not needed:
        return Finding("dependencies", "unknown, because lm-eval-tts is not installed, only imported from a folder")
    wrong = list(unmet(needed))
    said = "; ".join(wrong) or f"all {len(needed)} are there, and none is too old"
    return Finding("dependencies", said, "pip install --upgrade lm-eval-tts" if wrong else "")


def _lm_eval() -> Finding:
    found = version("lm_eval")
    old = Version(found) < Version(_OLDEST)
    return Finding("lm-eval", found, f"pip install 'lm-eval>={_OLDEST}'" if old else "", old)


def _internals() -> Finding:
    """Whether lm-eval has all that we use of it and that it doesn't offer to others."""
    lost = [f"{name.replace(':', '.')} ({what})" for name, what in INTERNALS.items() if not _is_there(name)]
    if not lost:
        return Finding("internals", f"lm-eval has all {len(INTERNALS)} that are used here")
    said = f"lm-eval {version('lm_eval')} lacks, and without it doesn't work: {', '.join(lost)}"
    return Finding("internals", said, f"pip install --upgrade lm-eval-tts, or pip install lm-eval=={_OLDEST}")


def _is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except AttributeError:
        return False
    except ImportError as error:  # a dependency that is missing is told of elsewhere
        return not (error.name or "").startswith("lm_eval")
    return True


def _hooks() -> Finding:
    """Whether lm-eval, when it is imported, registers what is ours."""
    if _AUTOLOADED and any(getattr(finder, "__module__", "") == _AUTOLOAD for finder in sys.meta_path):
        return Finding("hooks", "on: lm-eval registers ours when it is imported")
    if os.environ.get("LM_EVAL_TTS_AUTOLOAD") == "0":
        return Finding("hooks", "off, by LM_EVAL_TTS_AUTOLOAD=0", _OTHER_WAY)
    return Finding("hooks", "off: .pth files are not read here", _OTHER_WAY)


def _entry_points() -> Finding:
    """What lm-eval finds without our hooks, which depends on its version."""
    said = ", ".join(_groups()) or "nothing (later versions do)"
    return Finding("entry points", f"this lm-eval reads those of: {said}")


def _groups() -> list[str]:
    from lm_eval.api import registry
    from lm_eval.tasks import manager

    code = Path(registry.__file__).read_text("utf-8") + Path(manager.__file__).read_text("utf-8")
    return [name for name in ("models", "filters", "metrics", "aggregations", "tasks") if f'"lm_eval.{name}"' in code]


def _tasks() -> Finding:
    from lm_eval.tasks import TaskManager

    ours = [name for name in TaskManager().all_tasks if name.startswith("tts_")]
    if ours:
        return Finding("tasks", f"{len(ours)} in {TASKS}")
    included = f"with a model of ours, --include_path {TASKS}" if "models" in _groups() else _OTHER_WAY
    return Finding("tasks", "lm-eval doesn't see ours", included)


def _model_classes() -> Finding:
    found = [name for name in models() if _is_known(name)]
    missing = [name for name in models() if name not in found]
    todo = f"missing: {', '.join(missing)}; {_OTHER_WAY}" if missing else ""
    return Finding("model classes", ", ".join(found) or "none", todo)


def _is_known(name: str) -> bool:
    """Whether `--model` takes it. Asking for the class would import its engine, which may do anything."""
    import lm_eval.models  # noqa: F401  # fills the registry
    from lm_eval.api import registry

    if load := getattr(registry, "load_plugins", None):  # later versions read entry points when a model is asked for
        load("lm_eval.models", registry.model_registry)
    return name in registry.model_registry


def _grader() -> Finding:
    from lm_eval_ext.grading import GRADER_VERSION
    from lm_eval_ext.grading.grading import grades

    pairs = (("0.5", r"\sqrt{25\%}"), ("x(x+1)", "x^2+x"), ("0.5", "0.51"))
    right = [verdict.correct for verdict in grades(pairs)] == [True, True, False]
    said = f"version {GRADER_VERSION}, antlr {version('antlr4-python3-runtime')}, math-verify {version('math-verify')}"
    return Finding("grader", said, "" if right else "grades wrongly here: please report this line", not right)
