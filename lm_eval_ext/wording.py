"""How numbers are said wherever people read them: budgets, sizes, shares, intervals, layers, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lm_eval_ext.statistics.intervals import Interval

_PREFIXES = ("", "k", "M", "G", "T", "P")


def limit(budget: int | None, unit: str = "tokens") -> str:
    """A budget in words.

    >>> limit(4096), limit(None), limit(4096, "thinking tokens")
    ('4,096 tokens', 'no limit', '4,096 thinking tokens')
    """
    return "no limit" if budget is None else f"{budget:,} {unit}".strip()


def short_name(model: str) -> str:
    """A model's name without its organisation, or the name of the folder in which it is.

    >>> short_name("Org/Model-8B"), short_name("/models/Model-8B/")
    ('Model-8B', 'Model-8B')
    """
    return model.rstrip("/").split("/")[-1]


def scaled(value: float, unit: str = "") -> str:
    """A number in few characters, with a prefix of the SI.

    >>> scaled(4.3e12), scaled(1470), scaled(2.5e9, "B"), scaled(7e19)
    ('4.3T', '1.47k', '2.5 GB', '70,000P')
    """
    power = 0
    while abs(value) >= 1000 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{number}{' ' if unit else ''}{_PREFIXES[power]}{unit}"


def share(value: float) -> str:
    """A share as a percentage."""
    return f"{100 * value:.1f}%"


def ranged(interval: Interval | None) -> str:
    """A percentage with its interval."""
    if interval is None:
        return "not measurable"
    return f"{100 * interval.estimate:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})"


def ranges(numbers: Sequence[int], between: str = ", ") -> str:
    """Ascending whole numbers, such as those of layers, in few characters.

    >>> ranges([3, 25, 26, 27]), ranges([25, 26, 30], "+")
    ('3, 25-27', '25-26+30')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return between.join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def number_listed(ranges: str) -> int:
    """How many numbers are written as ranges.

    >>> number_listed("25-26+30")
    3
    """
    ends = [part.partition("-") for part in ranges.split("+")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first to the left, the others to the right."""
    widths = [max(len(line[column]) for line in (header, *rows)) for column in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first, *others = cells
        return "  ".join([first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))])

    return "\n".join(line(cells).rstrip() for cells in (header, *rows))


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown.

    >>> print(markdown_table(["task", "score"], [["a|b", "0.5"]]))
    | task | score |
    | --- | --- |
    | a\\|b | 0.5 |
    """
    lines = (header, ["---"] * len(header), *rows)
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
