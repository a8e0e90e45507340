"""Plots a recipe: the score of each layer, and which layers are dropped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from lm_eval_ext.pruning.recipe import Recipe

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 620, 280, 16, 36, 36
_KEPT, _DROPPED, _TEXT = "#8d99ae", "#d1495b", "#3b434b"


def plot_scores(recipe: Recipe, path: Path) -> None:
    """Write an SVG of the scores by layer, with dropped layers highlighted."""
    base = recipe.base.rstrip("/").split("/")[-1]
    title = f"{base}, {recipe.method}: {len(recipe.drop)} of {len(recipe.scores)} layers (dropped ones are hatched)"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="6" height="6" fill="{_DROPPED}"/>'
        '<line y2="6" stroke="#fff" stroke-width="2"/></pattern></defs>',
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>',
        *_bars(recipe),
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">layer</text></svg>',
    ]
    path.write_text("".join(parts) + "\n", encoding="utf-8")


def _bars(recipe: Recipe) -> Iterator[str]:
    known = [score for score in recipe.scores if score is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    span, step = (high - low) or 1.0, (_WIDTH - 2 * _LEFT) / len(recipe.scores)
    floor, height = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP

    def y(score: float) -> float:
        return floor - height * (score - low) / span

    for layer, score in enumerate(recipe.scores):
        x = _LEFT + layer * step
        if score is not None:
            top, bottom = min(y(score), y(0)), max(y(score), y(0))
            fill = "url(#hatch)" if layer in recipe.drop else _KEPT
            yield (
                f'<rect x="{x + 1:.1f}" width="{step - 2:.1f}" y="{top:.1f}" height="{bottom - top:.1f}" fill="{fill}">'
                f"<title>layer {layer}: {score:g}</title></rect>"
            )
        if layer % max(1, round(len(recipe.scores) / 20)) == 0:
            yield f'<text x="{x + step / 2:.1f}" y="{floor + 15}" text-anchor="middle">{layer}</text>'
