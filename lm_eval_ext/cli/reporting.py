"""What commands that show results share: a wide console, exit codes, errors on one line, and files beside the text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from lm_eval_ext.errors import ArgumentError, TTSError
from lm_eval_ext.paths import write_whole
from lm_eval_ext.redaction import line

if TYPE_CHECKING:
    from rich.console import Console

NO_VERDICT = 2
INTERRUPTED = 130
GOES_ON = "stopped; everything is kept, so run it again to go on"
_LONGEST = 2000  # characters of an error
_WIDTH = 160  # of tables that are written into a file


def exit_with(verdict: Callable[[], int], stopped: str = GOES_ON) -> NoReturn:
    """Exit with a verdict as code. Codes such as 1 mean "lost", so an error of any kind exits with 2.

    Args:
        verdict: returns the exit code.
        stopped: what is said after Ctrl-C.
    """
    try:
        code = verdict()
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:  # whoever reads it wants no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at the end
        code = NO_VERDICT
    except Exception as error:
        kind = "" if isinstance(error, (TTSError, OSError)) else f"{type(error).__name__}: "
        print(f"lm-eval-tts: {kind}{line(error, _LONGEST)}", file=sys.stderr)
        code = NO_VERDICT
    raise typer.Exit(code)


def check_folders(outputs: Mapping[str, Path | None]) -> None:
    """Refuse files that can't be written at the end, before any work.

    Args:
        outputs: the path that was given for each option, such as `json`.

    Raises:
        ArgumentError: a folder doesn't exist, or the path is one.
    """
    for name, path in outputs.items():
        if path is not None and not path.absolute().parent.is_dir():
            raise ArgumentError(f"--{name} {path}: folder {path.parent} does not exist")
        if path is not None and path.is_dir():
            raise ArgumentError(f"--{name} {path}: is a folder; name a file")


def write(outputs: Mapping[str, Path | None], **forms: Callable[[], str]) -> None:
    """Write a result to the files that were asked for.

    Args:
        outputs: the path that was given for each option.
        forms: make the text of each option's file.
    """
    for name, path in outputs.items():
        if path is not None:
            write_whole(path, forms[name]())


def console(*, stderr: bool = False) -> Console:
    """A console as wide as the terminal; where there is none, wide enough for tables."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDTH)
