"""Paths of the registry folders (beside the package in a checkout, inside it in a wheel) and of the cache."""

import os
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    packaged = PACKAGE / name
    return packaged.resolve() if packaged.is_dir() else PACKAGE.parent / name


TASKS = _folder("tasks")
PRUNED_MODELS = _folder("pruned_models")
LEADERBOARD = _folder("leaderboard")
TINY_CHAIN = PRUNED_MODELS / "tiny-chain"  # the default model


def located(model: str) -> str:
    """The folder of the embedded model if it is named; else the name or folder as it was given.

    >>> located("Qwen/Qwen3-8B")
    'Qwen/Qwen3-8B'
    """
    return str(TINY_CHAIN) if model == TINY_CHAIN.name else model


def named(model: str) -> str:
    """The name of the embedded model if it is given by its folder; else the name or folder as it was given."""
    return TINY_CHAIN.name if model == str(TINY_CHAIN) else model


def cache_folder() -> Path:
    """Folder where expensive results are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "lm-eval-tts"


def _home() -> Path:
    """The user's folder; one for temporary files where there is none, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(tempfile.gettempdir())
