"""Finds out what is plugged in on this machine, what is not, and what to do about it."""

from __future__ import annotations

import os
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
_OTHER_WAY = "`python -m lm_eval_ext run ...` in place of `lm_eval run ...`"


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in order."""
    for check in (_python, _dependencies, _lm_eval, _hooks, _entry_points, _tasks, _model_classes, _grader):
        yield from _checked(check, broken=True)
    for on_machine in machine.CHECKS:
        yield from _checked(on_machine, broken=False)


def _checked(check: Check, *, broken: bool) -> Iterator[Finding]:
    """What a check finds; one that fails is a finding too."""
    try:
        found = check()
        yield from [found] if isinstance(found, Finding) else found
    except KeyboardInterrupt:
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
