"""Renders Jinja templates of task YAMLs like lm-eval, but in a sandbox, because they are untrusted.

A worker process renders them, so that a template that loops or fills the memory is killed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.errors import TaskError
from lm_eval_ext.template_filters import TEMPLATE_FILTERS
from lm_eval_ext.workers import Workers

if TYPE_CHECKING:
    from jinja2 import Environment

SECONDS = 10.0  # of CPU time for all questions of a benchmark


def render_all(template: str, docs: Sequence[Mapping[str, object]]) -> list[str]:
    """Render a template for each question; a field name renders as that field.

    Raises:
        TaskError: it accesses more than the questions, writes a list or an object, fails, or takes too long.
    """
    (outcome,) = _workers.run(_rendered_or_why, [(template, [dict(doc) for doc in docs])], seconds=SECONDS)
    if outcome.value is None:
        raise TaskError(f"exceeds a limit ({outcome.failure}); a template has {SECONDS:g} s for all questions")
    texts, why = outcome.value
    if why:
        raise TaskError(why)
    return texts


def _warm_up() -> None:
    from jinja2 import sandbox  # noqa: F401  # an import that would count against the first template's time


_workers = Workers(_warm_up)


def _rendered_or_why(template: str, docs: Sequence[Mapping[str, object]]) -> tuple[list[str], str]:
    from jinja2.exceptions import SecurityError

    try:
        return [_rendered(template, doc) for doc in docs], ""
    except SecurityError as error:
        return [], f"accesses more than the question's fields: {' '.join(str(error).split())[:150]}"
    except Exception as error:  # anything an expression in a template raises
        return [], " ".join(f"cannot be rendered: {error}".split())[:200]


def _rendered(template: str, doc: Mapping[str, object]) -> str:
    value = _text_of(doc[template]) if template in doc else _environment().from_string(template).render(**doc)
    return "" if value is None else str(value)


def _text_of(value: object) -> object:
    """What a template writes; a list or an object would be written in Python's syntax, which nobody means."""
    if isinstance(value, (list, tuple, dict)):
        kind = "an object" if isinstance(value, dict) else "a list"
        raise TypeError(
            f"{str(value)[:60]} is {kind}, such as turns or parts; allowed: text; use one item of it, or join them"
        )
    return value


def _environment() -> Environment:
    """lm-eval's environment, with a sandbox."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_text_of
    )
    environment.filters |= TEMPLATE_FILTERS
    return environment


def unsafe_name(template: str) -> str:
    """The first private attribute used in a template, such as `__class__`; empty if there is none.

    Raises:
        jinja2.TemplateSyntaxError: it cannot be parsed.
    """
    from jinja2 import nodes
    from jinja2.sandbox import SandboxedEnvironment

    tree = SandboxedEnvironment().parse(template)
    attributes = [str(node.attr) for node in tree.find_all(nodes.Getattr)]
    items = [str(node.value) for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return next((name for name in [*attributes, *items] if name.startswith("__")), "")
