"""Plots a recipe: the score of each layer or block, and which are dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from lm_eval_ext.pruning.recipe import Recipe
from lm_eval_ext.pruning.selection import kinds_of

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 620, 280, 16, 36, 36
_KEPT, _DROPPED, _TEXT = "#8d99ae", "#d1495b", "#3b434b"


def plot_scores(recipe: Recipe, path: Path) -> None:
    """Write an SVG of the scores by layer, or by kind of block and layer, with what is dropped highlighted."""
    base = recipe.base.rstrip("/").split("/")[-1]
    kinds = kinds_of(recipe.method) or ("",)
    depth = len(recipe.scores) // len(kinds)
    title = f"{base}, {recipe.method}: {recipe.summary} of {depth} layers (hatched)"
    axis = "layer" if len(kinds) == 1 else f"layer: {', then '.join(kinds)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="{_TEXT}">',
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45)"><rect width="6" height="6" fill="{_DROPPED}"/>'
        '<line y2="6" stroke="#fff" stroke-width="2"/></pattern></defs>',
        f'<text x="{_LEFT}" y="20">{escape(title)}</text>',
        *_bars(recipe, kinds, depth),
        f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{axis}</text></svg>',
    ]
    path.write_text("".join(parts) + "\n", encoding="utf-8")


def _bars(recipe: Recipe, kinds: Sequence[str], depth: int) -> Iterator[str]:
    dropped = {"": recipe.drop, "attention": recipe.drop_attention, "mlp": recipe.drop_mlp}
    known = [score for score in recipe.scores if score is not None]
    low, high = min(0.0, *known), max(0.0, *known)
    span, step = (high - low) or 1.0, (_WIDTH - 2 * _LEFT) / len(recipe.scores)
    floor, height = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP

    def y(score: float) -> float:
        return floor - height * (score - low) / span

    for place, score in enumerate(recipe.scores):
        x, kind, layer = _LEFT + place * step, kinds[place // depth], place % depth
        if score is not None:
            top, bottom = min(y(score), y(0)), max(y(score), y(0))
            fill = "url(#hatch)" if layer in dropped[kind] else _KEPT
            yield (
                f'<rect x="{x + 1:.1f}" width="{step - 2:.1f}" y="{top:.1f}" height="{bottom - top:.1f}" fill="{fill}">'
                f"<title>{kind or 'layer'} {layer}: {score:g}</title></rect>"
            )
        if layer % max(1, round(len(recipe.scores) / 20)) == 0:  # so that the labels don't touch
            yield f'<text x="{x + step / 2:.1f}" y="{floor + 15}" text-anchor="middle">{layer}</text>'
