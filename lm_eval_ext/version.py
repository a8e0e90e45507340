"""The version of this package, and of those that it works with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

UNKNOWN = "unknown (not installed)"


def own_version() -> str:
    """This package's version; `UNKNOWN` if it is imported from a folder that is not installed."""
    try:
        return version("lm-eval-tts")
    except PackageNotFoundError:
        return UNKNOWN


def software(*others: str) -> dict[str, str]:
    """The versions of this package and of others, by name."""
    return {"lm-eval-tts": own_version(), **{name: version(name) for name in others}}
