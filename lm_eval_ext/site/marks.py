"""Dashes and marks that tell methods apart without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Mark(NamedTuple):
    """How lines of one method look: their dashes, and the shape at each point."""

    dashes: str = ""
    shape: str = "disc"

    def drawn(self, places: Sequence[tuple[float, float]]) -> str:
        """The marks at some places, as one SVG path; discs and squares are the caps of lines without length."""
        if self.shape in ("disc", "square", "ring"):
            path = "".join(f"M{x} {y}h0" for x, y in places)
            inner = f'<path class="hole" d="{path}"/>' if self.shape == "ring" else ""
            return f'<path class="dots {self.shape}" d="{path}"/>{inner}'
        return f'<path class="shapes" d="{"".join(f"M{x} {y}{_SHAPES[self.shape]}" for x, y in places)}"/>'


_SHAPES = {"triangle": "m0-4.8l4.8 8.4h-9.6z", "diamond": "m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z"}
BASE = Mark()
_KNOWN = {
    "shortgpt": Mark(),
    "reverse": Mark("9 5", "square"),
    "laco": Mark("9 4 2 4", "triangle"),
}
_RECOVERED, _BITS = Mark("1 5", "ring"), Mark("3 3", "diamond")
_OTHERS = (
    Mark("6 3", "square"),
    Mark("12 4", "triangle"),
    Mark("2 4", "disc"),
    Mark("12 3 2 3", "diamond"),
    Mark("7 7", "ring"),
)


def marks_of(methods: Iterable[str]) -> dict[str, Mark]:
    """A mark for each method; an empty method is that of bases."""
    found: dict[str, Mark] = {}
    others = 0
    for method in dict.fromkeys(methods):
        if "recovered" in method:
            found[method] = _RECOVERED
        elif not method:
            found[method] = BASE
        elif method in _KNOWN:
            found[method] = _KNOWN[method]
        elif "bit" in method:
            found[method] = _BITS
        else:
            found[method] = _OTHERS[others % len(_OTHERS)]
            others += 1
    return found
