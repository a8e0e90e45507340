"""The cost of an evaluation as a table and a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lm_eval_ext.authoring.cost import ANSWER, Cost

if TYPE_CHECKING:
    from rich.table import Table


def as_table(costs: Sequence[Cost]) -> Table:
    """One line for each benchmark."""
    from rich.table import Table

    table = Table("benchmark", "thinking budgets")
    for name in ("questions", "samples", "tokens at most"):
        table.add_column(name, justify="right")
    for one in costs:
        table.add_row(one.benchmark, _budgets(one), *map(_number, (one.questions, one.samples, one.tokens)))
    return table


def as_sentence(costs: Sequence[Cost], speed: float) -> str:
    """The whole in words: tokens and hours at a speed in tokens per second."""
    total = sum(one.tokens or 0 for one in costs)
    unknown = [one.benchmark for one in costs if one.tokens is None]
    text = (
        f"At most {total:,} tokens (budgets of one benchmark share their traces; {ANSWER:,} for each answer): "
        f"{total / speed / 3600:,.1f} hours at {speed:,.0f} tokens/s."
    )
    return f"{text} Not counted, as the number of questions is unknown: {', '.join(unknown)}." if unknown else text


def _budgets(cost: Cost) -> str:
    return ", ".join("none" if one is None else f"{one:,}" for one in cost.budgets)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
