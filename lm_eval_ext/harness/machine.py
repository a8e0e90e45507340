"""What this machine has for runs: engines, GPUs, caches, the journal, and a way to models and datasets."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from lm_eval_ext.generation.journal import default_journal
from lm_eval_ext.paths import TASKS, cache_folder

_IMPORTED = "it is imported"
_IMPORTING = 90.0  # seconds that an engine may take to be imported
_TIMEOUT = 5.0  # seconds
_AT_ONCE = 8  # requests to the Hub
_PLENTY = 1e9  # bytes that should be free for a journal and a cache
_DATASET = re.compile(r"^dataset_path: *(\S+/\S+)", re.MULTILINE)


class Finding(NamedTuple):
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


def engine_hf() -> Finding:
    """The engine that is always there."""
    found = f"torch {version('torch')}, transformers {version('transformers')}"
    if failed := _import_error("torch, transformers"):
        return Finding("engine hf", f"{found}: {failed}", "see the message", broken=True)
    return Finding("engine hf", found)


def engine_vllm() -> Finding:
    """vLLM, if it is installed."""
    return _optional("engine vllm", "vllm", "vllm", "for pruned-vllm")


def engine_server() -> Finding:
    """What speaks to servers, if it is installed."""
    return _optional("engine server", "aiohttp", "server", "for tts-server")


def cluster() -> Finding:
    """Ray, if it is installed."""
    return _optional("Ray", "ray", "ray", "for several GPUs and machines")


def _optional(what: str, package: str, extra: str, purpose: str) -> Finding:
    install = f"pip install 'lm-eval-tts[{extra}]'"
    try:
        found = f"{package} {version(package)}"
    except PackageNotFoundError:
        return Finding(what, "not installed", f"{purpose}: {install}")
    if wrong := next(unmet(required(extra)), None):
        return Finding(what, wrong, install)
    if failed := _import_error(package):
        return Finding(
            what, f"{found} cannot be imported: {failed}", f"see the message, or {install} --force-reinstall"
        )
    return Finding(what, found)


def _import_error(modules: str) -> str:
    """Why modules cannot be imported, in a process of its own, which may hang or crash; empty if they can be."""
    command = [sys.executable, "-P", "-c", f"import {modules}; print({_IMPORTED!r})"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_IMPORTING, check=False
        )
    except subprocess.TimeoutExpired:
        return f"no end after {_IMPORTING:.0f} seconds"
    if done.returncode == 0 and done.stdout.endswith(f"{_IMPORTED}\n"):
        return ""
    lines = done.stderr.strip().splitlines() or [f"it ends Python with exit code {done.returncode}"]
    return lines[-1][:200]


def gpus() -> Finding:
    """Their names."""
    import torch

    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(number) for number in range(count)]
    return Finding("GPUs", ", ".join(names) or "none: models run on the CPU")


def model_cache() -> Finding:
    """Where the Hub's files are kept."""
    from huggingface_hub import constants

    return _folder("model cache", Path(constants.HF_HUB_CACHE), "set HF_HOME to a folder that can be")


def dataset_cache() -> Finding:
    """Where `datasets` keeps what it has read."""
    import datasets

    return _folder("dataset cache", Path(datasets.config.HF_DATASETS_CACHE), "set HF_HOME to a folder that can be")


def own_cache() -> Finding:
    """Where recipes, the list of tasks and the journal are kept."""
    return _folder("own cache", cache_folder(), "set XDG_CACHE_HOME to a folder that can be")


def _folder(what: str, place: Path, todo: str) -> Finding:
    there = next(one for one in (place, *place.parents) if one.exists())
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        return Finding(what, f"{place} cannot be written", todo)
    free = shutil.disk_usage(there).free
    little = f", with only {free / 1e9:.1f} GB free" if free < _PLENTY else ""
    return Finding(what, f"{place}{little}", "make room" if little else "")


def journal() -> Finding:
    """Where finished texts are kept."""
    path = default_journal()
    try:
        size = path.stat().st_size
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=_TIMEOUT)) as opened:
            held = opened.execute("SELECT count(DISTINCT model) FROM completions").fetchone()[0] if size else 0
    except FileNotFoundError:
        return Finding("journal", f"{path}: none yet")
    except (OSError, sqlite3.Error) as error:
        return Finding("journal", f"{path}: {error}", "give journal=FILE, or journal=off")
    todo = "" if os.access(path, os.W_OK) else "cannot be written; give journal=FILE, or journal=off"
    return Finding("journal", f"{path}: {held} models, {size / 1e6:.1f} MB", todo)


def hub_and_datasets() -> Iterator[Finding]:
    """Whether models and datasets can be downloaded, or else which datasets are on this machine."""
    from huggingface_hub import constants

    reached = hub()
    yield reached
    names = sorted({name for path in TASKS.rglob("*.yaml") for name in _DATASET.findall(path.read_text("utf-8"))})
    offline = constants.HF_HUB_OFFLINE or reached.todo
    yield _datasets_here(names) if offline else _datasets_there(names)


def hub() -> Finding:
    """Whether the Hub answers."""
    from huggingface_hub import HfApi, constants, get_token

    where = constants.ENDPOINT
    if constants.HF_HUB_OFFLINE:
        return Finding("Hub", "off, by HF_HUB_OFFLINE: only what is in the cache or in local folders")
    try:
        HfApi().repo_info("HuggingFaceH4/MATH-500", repo_type="dataset", timeout=_TIMEOUT)
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath
        todo = "without a network: set HF_HUB_OFFLINE=1, and see the page Run without a network"
        return Finding("Hub", f"{where} cannot be reached ({type(error).__name__})", todo)
    return Finding("Hub", f"{where} answers; {'logged in' if get_token() else 'not logged in'}")


def _datasets_there(names: list[str]) -> Finding:
    """Whether each can be downloaded by this user."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        refused = {name: why for name, why in zip(names, pool.map(_refusal, names), strict=True) if why}
    if not refused:
        return Finding("datasets", f"all {len(names)} can be downloaded")
    said = ", ".join(f"{name} ({why})" for name, why in refused.items())
    todo = "accept the terms of gated ones on the Hub, and log in: hf auth login"
    return Finding("datasets", f"{len(names) - len(refused)} of {len(names)} can be downloaded; not {said}", todo)


def _refusal(name: str) -> str:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    try:  # a file that every data set has, and that only those see who have accepted the terms
        get_hf_file_metadata(hf_hub_url(name, ".gitattributes", repo_type="dataset"), timeout=_TIMEOUT)
    except EntryNotFoundError:
        return ""
    except Exception as error:  # huggingface_hub's, and those of the HTTP library beneath
        return type(error).__name__.removesuffix("Error")
    return ""


def _datasets_here(names: list[str]) -> Finding:
    """Which are in the caches, or in a folder that `datasets` would find."""
    import datasets
    from huggingface_hub import constants

    read, hub_cache = Path(datasets.config.HF_DATASETS_CACHE), Path(constants.HF_HUB_CACHE)
    places = {
        name: (Path(name), read / name.replace("/", "___"), hub_cache / f"datasets--{name.replace('/', '--')}")
        for name in names
    }
    here = [name for name in names if any(place.is_dir() for place in places[name])]
    missing = "" if len(here) == len(names) else "`lm-eval-tts tasks check NAME` tells for a benchmark"
    return Finding("datasets", f"{len(here)} of {len(names)} are in the caches, or in folders here", missing)


Check = Callable[[], Finding | Iterator[Finding]]
CHECKS: tuple[Check, ...] = (
    engine_hf, engine_vllm, engine_server, cluster, gpus, model_cache, dataset_cache, own_cache, journal,
    hub_and_datasets,
)  # fmt: skip
