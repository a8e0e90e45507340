"""Places on a chart's horizontal axis, with their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence


def budget_ticks(budgets: Sequence[float]) -> list[tuple[float, str]]:
    """A tick for each budget.

    >>> budget_ticks([512, 2048])
    [(512, '512'), (2048, '2k')]
    """
    return [(at, f"{at / 1024:g}k" if at >= 1024 and at % 1024 == 0 else f"{at:,.0f}") for at in budgets]


def decimal_ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Ticks at 1, 2 and 5 times powers of ten, or at powers alone over a wide range."""
    least, most = min(values), max(values)
    first, last = math.floor(math.log10(least)), math.ceil(math.log10(most))
    factors = (1, 2, 5) if last - first <= 3 else (1,)
    ticks = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [tick for tick in ticks if least / 1.3 <= tick <= most * 1.3]
    return [(tick, scaled(tick)) for tick in (inside if len(inside) > 1 else (least, most))]


def scaled(value: float) -> str:
    """A number in few characters, with a prefix of the SI.

    >>> scaled(4.3e12), scaled(1470)
    ('4.3T', '1.47k')
    """
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
