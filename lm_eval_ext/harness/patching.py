"""How functions of lm-eval are replaced at runtime."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MARK = "__lm_eval_tts__"
Function = Callable[..., Any]  # of lm-eval, which has no type information


def replace(owner: object, name: str, around: Callable[[Function], Function]) -> None:
    """Replace a function with a wrapper, once; `around` makes the wrapper."""
    original = getattr(owner, name)
    done = getattr(original, _MARK, ())
    if around.__qualname__ in done:
        return
    changed = functools.wraps(original)(around(original))
    setattr(changed, _MARK, (*done, around.__qualname__))
    static = isinstance(vars(owner).get(name), staticmethod)
    setattr(owner, name, staticmethod(changed) if static else changed)
