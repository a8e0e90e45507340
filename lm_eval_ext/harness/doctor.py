"""Finds out what is plugged in on this machine, what is not, and what to do about it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from lm_eval_ext.errors import GradingError
from lm_eval_ext.harness.registry import models
from lm_eval_ext.paths import PACKAGE, TASKS
from lm_eval_ext.plugins import own_version

_AUTOLOAD = "lm_eval_ext._autoload"
_AUTOLOADED = _AUTOLOAD in sys.modules  # by the `.pth` file, when the interpreter started
_IMPORTED = "it is imported"
_IMPORTING = 90.0  # seconds that an engine may take to be imported
_TIMEOUT = 5.0  # seconds to wait for the Hub
_DATASET = re.compile(r"^dataset_path: *(\S+/\S+)", re.MULTILINE)
_OTHER_WAY = "`python -m lm_eval_ext run ...` in place of `lm_eval run ...`"


class CheckResult(NamedTuple):
    """One line of the table.

    Attributes:
        what: what was looked at.
        found: what was found.
        todo: what to do; empty if all is well.
        broken: whether nothing works without it.
    """

    what: str
    found: str
    todo: str = ""
    broken: bool = False


def findings() -> Iterator[CheckResult]:
    """Everything that is looked at, in order; a check that fails is a finding, too."""
    for what, check in CHECKS.items():
        try:
            yield check()
        except Exception as error:  # whatever is wrong with an installation
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            yield CheckResult(what, said, "the message says what is wrong", what not in ("device", "datasets"))


def versions() -> CheckResult:
    """Of this package, and of what it requires."""
    here = f"Python {sys.version.split()[0]} in {sys.prefix}; lm-eval-tts {own_version()} in {PACKAGE}"
    needed = list(required())
    if not needed:
        return CheckResult("versions", f"{here}, only imported from a folder, not installed")
    wrong = "; ".join(unmet(needed))
    said = f"lm-eval {version('lm_eval')}; {wrong or f'all {len(needed)} requirements are met'}"
    return CheckResult("versions", f"{here}; {said}", "pip install --upgrade lm-eval-tts" if wrong else "")


def required(extra: str = "") -> Iterator[Requirement]:
    """What this package requires here: always, or for one of its extras. Nothing if it isn't installed."""
    try:
        lines = requires("lm-eval-tts") or []
    except PackageNotFoundError:
        return
    for one in map(Requirement, lines):
        always = one.marker is None or one.marker.evaluate({"extra": ""})
        if always if not extra else not always and one.marker is not None and one.marker.evaluate({"extra": extra}):
            yield one


def unmet(requirements: Iterable[Requirement]) -> Iterator[str]:
    """Those that are not installed, or in another version."""
    for one in requirements:
        try:
            found = version(one.name)
        except PackageNotFoundError:
            yield f"{one.name} is not installed"
            continue
        if not one.specifier.contains(found, prereleases=True):
            yield f"{one.name} is {found}, not {one.specifier}"


def hooks() -> CheckResult:
    """Whether lm-eval, when it is imported, registers what is ours."""
    if _AUTOLOADED and any(getattr(finder, "__module__", "") == _AUTOLOAD for finder in sys.meta_path):
        return CheckResult("hooks", "on: lm-eval registers ours when it is imported")
    off = os.environ.get("LM_EVAL_TTS_AUTOLOAD") == "0"
    return CheckResult(
        "hooks", f"off{', by LM_EVAL_TTS_AUTOLOAD=0' if off else ': .pth files are not read here'}", _OTHER_WAY
    )


def model_classes() -> CheckResult:
    """Which of our models `--model` takes. Asking for a class would import its engine, which may do anything."""
    import lm_eval.models  # noqa: F401  # fills the registry
    from lm_eval.api import registry

    if load := getattr(registry, "load_plugins", None):  # later versions read entry points when a model is asked for
        load("lm_eval.models", registry.model_registry)
    missing = [name for name in models() if name not in registry.model_registry]
    found = ", ".join(name for name in models() if name not in missing) or "none"
    return CheckResult("model classes", found, f"missing: {', '.join(missing)}; {_OTHER_WAY}" if missing else "")


def tasks() -> CheckResult:
    """Whether lm-eval finds ours."""
    from lm_eval.tasks import TaskManager

    ours = [name for name in TaskManager().all_tasks if name.startswith("tts_")]
    found = f"{len(ours)} in {TASKS}" if ours else "lm-eval doesn't see ours"
    return CheckResult("tasks", found, "" if ours else f"{_OTHER_WAY}, or with a model of ours --include_path {TASKS}")


def grader() -> CheckResult:
    """Whether it grades as it should, which depends on the version of antlr."""
    from lm_eval_ext.grading import GRADER_VERSION
    from lm_eval_ext.grading.grading import grades

    pairs = (("0.5", r"\sqrt{25\%}"), ("x(x+1)", "x^2+x"), ("0.5", "0.51"))
    right = [verdict.correct for verdict in grades(pairs)] == [True, True, False]
    said = f"version {GRADER_VERSION}, antlr {version('antlr4-python3-runtime')}, math-verify {version('math-verify')}"
    return CheckResult("grader", said, "" if right else "grades wrongly here: please report this line", not right)


def sandbox() -> CheckResult:
    """How programs that a model writes would be confined; only `tts_code` needs it."""
    from lm_eval_ext.sandbox.launcher import Sandbox

    try:
        with Sandbox(workers=1) as made:
            return CheckResult("sandbox", str(made.mechanism))
    except GradingError as error:
        return CheckResult("sandbox", str(error), "for code benchmarks: see the page Run code benchmarks")


def engine(what: str, packages: str, extra: str = "", purpose: str = "") -> CheckResult:
    """An engine, or what one needs: there, and importable in a process of its own, which may hang or crash."""
    install = f"pip install 'lm-eval-tts[{extra}]'"
    try:
        found = ", ".join(f"{package} {version(package)}" for package in packages.split(", "))
    except PackageNotFoundError:
        return CheckResult(what, "not installed", f"{purpose}: {install}")
    wrong = (next(unmet(required(extra)), None) if extra else None) or import_error(packages)
    todo = f"see the message, or {install} --force-reinstall" if extra else "see the message"
    return CheckResult(what, f"{found}: {wrong}", todo, broken=not extra) if wrong else CheckResult(what, found)


def import_error(modules: str) -> str:
    """Why modules cannot be imported, in a process of its own, which may hang or crash; empty if they can be."""
    command = [sys.executable, "-P", "-c", f"import {modules}; print({_IMPORTED!r})"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_IMPORTING, check=False
        )
    except subprocess.TimeoutExpired:
        return f"cannot be imported: no end after {_IMPORTING:.0f} seconds"
    if done.returncode == 0 and done.stdout.endswith(f"{_IMPORTED}\n"):
        return ""
    lines = done.stderr.strip().splitlines() or [f"it ends Python with exit code {done.returncode}"]
    return f"cannot be imported: {lines[-1][:200]}"


def device() -> CheckResult:
    """The GPUs' names."""
    import torch

    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return CheckResult("device", ", ".join(names) or "no GPU: models run on the CPU")


def datasets() -> CheckResult:
    """Which are on this machine, and whether the Hub answers."""
    import datasets as library
    from huggingface_hub import HfApi, constants

    names = sorted({name for path in TASKS.rglob("*.yaml") for name in _DATASET.findall(path.read_text("utf-8"))})
    read, hub = Path(library.config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE)
    places = ((Path(n), read / n.replace("/", "___"), hub / f"datasets--{n.replace('/', '--')}") for n in names)
    here = (
        f"{sum(any(map(Path.is_dir, some)) for some in places)} of {len(names)} are in the caches, or in folders here"
    )
    if constants.HF_HUB_OFFLINE:
        return CheckResult("datasets", f"{here}; the Hub is off, by HF_HUB_OFFLINE")
    try:
        HfApi().repo_info(names[0], repo_type="dataset", timeout=_TIMEOUT)
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath
        todo = "without a network: set HF_HUB_OFFLINE=1, and see the page Run without a network"
        return CheckResult("datasets", f"{here}; {constants.ENDPOINT} cannot be reached ({type(error).__name__})", todo)
    return CheckResult("datasets", f"{here}; {constants.ENDPOINT} answers")


CHECKS: dict[str, Callable[[], CheckResult]] = {
    "versions": versions, "hooks": hooks, "model classes": model_classes, "tasks": tasks, "grader": grader,
    "sandbox": sandbox,
    "engine hf": lambda: engine("engine hf", "torch, transformers"),
    "engine vllm": lambda: engine("engine vllm", "vllm", "vllm", "for pruned-vllm"),
    "engine server": lambda: engine("engine server", "aiohttp", "server", "for tts-server"),
    "Ray": lambda: engine("Ray", "ray", "ray", "for several GPUs and machines"),
    "device": device, "datasets": datasets,
}  # fmt: skip
