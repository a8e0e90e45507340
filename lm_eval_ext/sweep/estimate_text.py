"""An estimate as a table, and in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lm_eval_ext.sweep.estimate import Estimate, RunCost
from lm_eval_ext.sweep.speed import Speed

if TYPE_CHECKING:
    from rich.table import Table


def as_table(estimate: Estimate, speed: Speed | None) -> Table:
    """One line for each run."""
    from rich.table import Table

    table = Table("run")
    for name in ("tokens at most", "each budget apart", "parameters", "FLOPs", *(["GPU hours"] if speed else [])):
        table.add_column(name, justify="right")
    table.add_column("not counted")
    for one in estimate.runs:
        table.add_row(one.run, *_figures(one, speed), ", ".join(one.unknown))
    return table


def _figures(one: RunCost, speed: Speed | None) -> list[str]:
    """The numbers of a run; question marks if nothing of it is counted."""
    hours = [_or_unknown(speed.hours(one.tokens, one.operations), ",.2f")] if speed else []
    costs = [f"{one.tokens:,}", f"{one.apart:,}", _or_unknown(one.operations, ".1e"), *hours]
    if one.unknown and not one.tokens:
        costs = ["?"] * len(costs)
    return [*costs[:2], _or_unknown(one.parameters, ","), *costs[2:]]


def as_sentences(estimate: Estimate, speed: Speed | None) -> str:
    """The whole in words."""
    saved = 1 - estimate.tokens / estimate.apart if estimate.apart else 0.0
    said = [f"{_count(len(estimate.runs))}: at most {estimate.tokens:,} tokens; shared traces save {saved:.0%}."]
    if estimate.operations is not None:
        said.append(f"{estimate.operations:.1e} floating-point operations at most.")
    if speed is not None:
        hours = speed.hours(estimate.tokens, estimate.operations)
        unknown = "GPU hours are unknown, because a model's size is out of reach; give --speed."
        said.append(unknown if hours is None else f"At most {_hours(hours)} GPU hours {speed.said}.")
    if estimate.uncounted:
        said.append(f"Tasks that aren't counted are in {_count(estimate.uncounted)}.")
    return " ".join([*said, *_of_finished(estimate)])


def _of_finished(estimate: Estimate) -> list[str]:
    """What finished runs say of the others."""
    if not estimate.seconds:
        return []
    done = len(estimate.seconds)
    mean = sum(estimate.seconds.values()) / done
    left = (len(estimate.runs) - done) * mean / 3600
    said = [f"{done} {'is' if done == 1 else 'are'} done, in {mean:,.0f} s each: {_hours(left)} hours are left."]
    if estimate.used is not None:
        expected = round(estimate.used * estimate.tokens)
        said.append(f"They took {estimate.used:.0%} of their most tokens, which makes {expected:,} for all runs.")
    return said


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 1 else f"{hours:.2g}"


def _or_unknown(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _count(runs: int) -> str:
    return "1 run" if runs == 1 else f"{runs} runs"
