"""Plots a recipe: the score of each layer, and which layers are dropped."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from lm_eval_ext.pruning.recipe import Recipe


def can_plot() -> bool:
    """Whether the plotting libraries (extra `leaderboard`) are installed."""
    return all(importlib.util.find_spec(name) for name in ("altair", "vl_convert"))


def plot_scores(recipe: Recipe, path: Path) -> None:
    """Write an SVG of the scores by layer, with dropped layers highlighted."""
    import altair

    rows = [
        {"layer": layer, "score": score, "fate": "dropped" if layer in recipe.drop else "kept"}
        for layer, score in enumerate(recipe.scores)
        if score is not None
    ]
    title = (
        f"{recipe.base.rstrip('/').split('/')[-1]}, {recipe.method}: {len(recipe.drop)} of {len(recipe.scores)} layers"
    )
    chart = altair.Chart(
        altair.Data(values=rows),  # type: ignore[no-untyped-call]  # altair's own
        title=title,
        width=560,
        height=220,
    )
    colours = altair.Scale(domain=["kept", "dropped"], range=["#8d99ae", "#d1495b"])
    bars = chart.mark_bar().encode(x="layer:O", y="score:Q", color=altair.Color("fate:N", scale=colours, title=None))
    bars.save(str(path))
