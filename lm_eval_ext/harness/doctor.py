"""Finds out what is plugged in on this machine, what is not, and what to do about it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from lm_eval_ext.generation.journal import Journal, default_journal
from lm_eval_ext.harness.engines import models
from lm_eval_ext.paths import TASKS, cache_folder

_AUTOLOAD = "lm_eval_ext._autoload"
_AUTOLOADED = _AUTOLOAD in sys.modules  # by the `.pth` file, when the interpreter started
_OLDEST = "0.4.13"
_TIMEOUT = 5.0  # seconds
_PLENTY = 1e9  # bytes that should be free for a journal and a cache


class Finding(NamedTuple):
    """One line of the table.

    Attributes:
        what: what was looked at.
        found: what was found.
        todo: what to do; empty if all is well, or it is only needed for something else.
        broken: whether nothing works without it.
    """

    what: str
    found: str
    todo: str = ""
    broken: bool = False


def findings() -> Iterator[Finding]:
    """Everything that is looked at, in order."""
    yield _python()
    yield from (_checked(one) for one in (_lm_eval, _hooks, _entry_points, _tasks, _model_classes, _grader))
    yield from (_checked(one) for one in (_hf, _vllm, _server, _ray, _gpus))
    yield from (_checked(one) for one in (_cache, _journal, _hub))


def _checked(check: Callable[[], Finding]) -> Finding:
    """A check that fails is a finding too."""
    try:
        return check()
    except Exception as error:  # whatever is wrong with an installation
        what = check.__name__.strip("_").replace("_", " ")
        return Finding(what, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", "see the message", True)


def _python() -> Finding:
    return Finding("Python", f"{sys.version.split()[0]} in {sys.prefix}; lm-eval-tts {version('lm-eval-tts')}")


def _lm_eval() -> Finding:
    found = version("lm_eval")
    old = tuple(map(int, found.split(".")[:3])) < tuple(map(int, _OLDEST.split(".")))
    return Finding("lm-eval", found, f"pip install 'lm-eval>={_OLDEST}'" if old else "", old)


def _hooks() -> Finding:
    """Whether lm-eval, when it is imported, registers what is ours."""
    if _AUTOLOADED and any(getattr(finder, "__module__", "") == _AUTOLOAD for finder in sys.meta_path):
        return Finding("hooks", "on: lm-eval registers ours when it is imported")
    if os.environ.get("LM_EVAL_TTS_AUTOLOAD") == "0":
        return Finding(
            "hooks", "off, by LM_EVAL_TTS_AUTOLOAD=0", "`python -m lm_eval_ext run ...` is lm_eval with ours"
        )
    return Finding(
        "hooks", "off: .pth files are not read here", "use `python -m lm_eval_ext run ...` for `lm_eval run`"
    )


def _entry_points() -> Finding:
    """What lm-eval finds without our hooks, which depends on its version."""
    from lm_eval.api import registry
    from lm_eval.tasks import manager

    code = Path(registry.__file__).read_text("utf-8") + Path(manager.__file__).read_text("utf-8")
    groups = [name for name in ("models", "filters", "metrics", "aggregations", "tasks") if f'"lm_eval.{name}"' in code]
    return Finding("entry points", f"this lm-eval reads those of: {', '.join(groups) or 'nothing (later versions do)'}")


def _tasks() -> Finding:
    from lm_eval.tasks import TaskManager

    ours = [name for name in TaskManager().all_tasks if name.startswith("tts_")]
    if ours:
        return Finding("tasks", f"{len(ours)} in {TASKS}")
    return Finding("tasks", "lm-eval doesn't see ours", f"--include_path {TASKS}")


def _model_classes() -> Finding:
    import lm_eval.models  # noqa: F401  # fills the registry
    from lm_eval.api.registry import model_registry

    missing = [name for name in models() if name not in model_registry]
    found = [name for name in models() if name in model_registry]
    todo = f"missing: {', '.join(missing)}; `python -m lm_eval_ext run ...`" if missing else ""
    return Finding("model classes", ", ".join(found) or "none", todo)


def _grader() -> Finding:
    from lm_eval_ext.grading import GRADER_VERSION
    from lm_eval_ext.grading.grading import grades

    verdicts = grades([("0.5", answer) for answer in (r"\frac{1}{2}", r"\sqrt{25\%}", "0.51")])
    right = [verdict.correct for verdict in verdicts] == [True, True, False]
    said = f"version {GRADER_VERSION}, antlr {version('antlr4-python3-runtime')}, math-verify {version('math-verify')}"
    return Finding("grader", said, "" if right else "grades wrongly here: please report this line", not right)


def _hf() -> Finding:
    return Finding("engine hf", f"torch {version('torch')}, transformers {version('transformers')}")


def _vllm() -> Finding:
    return _optional("engine vllm", "vllm", "for pruned-vllm: pip install 'lm-eval-tts[vllm]'", "vllm")


def _server() -> Finding:
    return _optional("engine server", "aiohttp", "for tts-server: pip install 'lm-eval-tts[server]'", "aiohttp")


def _ray() -> Finding:
    return _optional("Ray", "ray", "for several machines: pip install 'lm-eval-tts[ray]'", "ray")


def _optional(what: str, package: str, todo: str, module: str) -> Finding:
    try:
        found = version(package)
    except PackageNotFoundError:
        return Finding(what, "not installed", todo)
    if importlib.util.find_spec(module) is None:
        return Finding(what, f"{package} {found} has no module {module}", f"pip install --force-reinstall {package}")
    return Finding(what, f"{package} {found}")


def _gpus() -> Finding:
    import torch

    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    return Finding("GPUs", ", ".join(names) or "none: models run on the CPU")


def _cache() -> Finding:
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    return Finding("model cache", f"{place}{_free(place)}")


def _journal() -> Finding:
    path = default_journal()
    if not path.is_file():
        return Finding("journal", f"{path}: none yet{_free(path.parent)}")
    held = Journal(path).summaries()
    writable = os.access(path, os.W_OK)
    todo = "" if writable else f"cannot be written; give journal=FILE, or free {cache_folder()}"
    return Finding("journal", f"{path}: {len(held)} models, {path.stat().st_size / 1e6:.1f} MB", todo)


def _free(folder: Path) -> str:
    """How much room is left, if it is little."""
    there = next(one for one in (folder, *folder.parents) if one.exists())
    free = shutil.disk_usage(there).free
    return "" if free > _PLENTY else f", with only {free / 1e9:.1f} GB free"


def _hub() -> Finding:
    """Whether datasets and models can be downloaded."""
    from huggingface_hub import HfApi, constants, get_token

    where = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Finding("Hub", "off, by HF_HUB_OFFLINE: only what is in the cache or in local folders")
    try:
        HfApi().repo_info("HuggingFaceH4/MATH-500", repo_type="dataset", timeout=_TIMEOUT)
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath
        todo = "for a machine without a network: docs/howto/air-gapped.md, and set HF_HUB_OFFLINE=1"
        return Finding("Hub", f"{where} cannot be reached ({type(error).__name__})", todo)
    login = "logged in" if get_token() else "not logged in, which gated GPQA needs (hf auth login)"
    return Finding("Hub", f"{where} answers; {login}")
