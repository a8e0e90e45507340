"""Charts: rendered as SVG at build time, so that they work without JavaScript, and as specs for interactive use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, TypedDict

if TYPE_CHECKING:
    import altair

# Of similar brightness, so that each stands out from white and from black; the first is for the dense model.
PALETTE = ("#7f8a99", "#d1495b", "#2f8fb3", "#c77d0a", "#4c9f5e", "#9467bd", "#b5548f", "#8a7a3b", "#3f6fd1", "#c0562b",
           "#1f9e9a", "#7a9a01")  # fmt: skip
WIDTH, HEIGHT = 300, 200


class Chart(NamedTuple):
    """One chart.

    Attributes:
        title: title of the chart.
        svg: the rendered chart.
        spec: its Vega-Lite specification.
    """

    title: str
    svg: str
    spec: dict[str, object]


class Point(NamedTuple):
    """A value with its interval, at `at` on the horizontal axis, of the model or method `series`."""

    series: str
    at: float
    value: float
    low: float | None = None
    high: float | None = None
    dashed: bool = False


class LayerFate(TypedDict):
    """A layer of a model: `kept`, `dropped` or `merged`, and its score from 0 to 1 if the method gave one."""

    model: str
    layer: int
    fate: str
    score: float | None


def colours(series: Iterable[str]) -> dict[str, str]:
    """A colour for each series, in order."""
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(series)}


def lines(title: str, axis: str, points: Sequence[Point], colour: Mapping[str, str], *, log: bool) -> Chart:
    """A line for each series with a band for its intervals; `dashed` points form a separate line."""
    import altair as alt

    rows = [
        {"series": one.series, "at": one.at, "value": one.value, "low": one.low, "high": one.high,
         "line": f"{one.series} {'dashed' if one.dashed else ''}", "kind": "maj@k" if one.dashed else "pass@k"}
        for one in points
    ]  # fmt: skip
    places = sorted({one.at for one in points})
    scale = alt.Scale(type="log", base=2) if log else alt.Scale(nice=False)
    horizontal = alt.X("at:Q", title=axis, scale=scale, axis=alt.Axis(values=places, format="d", labelOverlap=True))
    names = [name for name in colour if any(one.series == name for one in points)]
    coloured = alt.Color("series:N", scale=alt.Scale(domain=names, range=[colour[name] for name in names]), legend=None)
    base = alt.Chart(alt.Data(values=rows)).encode(x=horizontal, color=coloured, detail="line:N")  # type: ignore[no-untyped-call]  # altair's own
    vertical = alt.Y("value:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%", tickCount=5))
    dash = alt.StrokeDash("kind:N", scale=alt.Scale(domain=["pass@k", "maj@k"], range=[[1, 0], [5, 3]]), legend=None)
    tooltip = [alt.Tooltip("series:N", title="model"), alt.Tooltip("at:Q", title=axis),
               alt.Tooltip("value:Q", format=".1%"), alt.Tooltip("low:Q", title="95% from", format=".1%"),
               alt.Tooltip("high:Q", title="to", format=".1%")]  # fmt: skip
    drawn = alt.layer(
        base.mark_area(opacity=0.14).encode(y=alt.Y("low:Q", title=None), y2="high:Q"),
        base.mark_line(strokeWidth=2).encode(y=vertical, strokeDash=dash),
        base.mark_point(filled=True, size=36, opacity=1).encode(y=vertical, tooltip=tooltip),
    ).properties(width=WIDTH, height=HEIGHT)
    return _drawn(title, drawn)


def heat_map(title: str, rows: Sequence[LayerFate], depth: int) -> Chart:
    """Which layers each model dropped, and the method's scores, scaled from the smallest (0) to the largest (1).

    Args:
        title: title of the chart.
        rows: every layer of every model.
        depth: number of layers of the base.
    """
    import altair as alt

    models = list(dict.fromkeys(row["model"] for row in rows))
    base = alt.Chart(alt.Data(values=list(rows))).encode(  # type: ignore[no-untyped-call]  # altair's own
        x=alt.X("layer:O", title="layer", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("model:N", title=None, sort=models, axis=alt.Axis(labelLimit=220)),
        tooltip=["model:N", "layer:O", "fate:N", alt.Tooltip("score:Q", format=".3f")],
    )
    shade = alt.Color("score:Q", scale=alt.Scale(domain=[0, 1], range=["#cfd8e3", "#2f6f9f"]), legend=None)
    fates = alt.Color(
        "fate:N", scale=alt.Scale(domain=["dropped", "merged"], range=["#d1495b", "#c77d0a"]), legend=None
    )
    gone = base.mark_rect(stroke="#d1495b").encode(color=fates).transform_filter("datum.fate !== 'kept'")
    drawn = alt.layer(base.mark_rect(opacity=0.85).encode(color=shade), gone).resolve_scale(color="independent")
    return _drawn(title, drawn.properties(width=min(620, 20 * depth), height=max(24, 22 * len(models))))


def _drawn(title: str, chart: altair.LayerChart | altair.FacetChart) -> Chart:
    import vl_convert

    spec = chart.to_dict(validate=False) | {"config": _config()}
    svg = vl_convert.vegalite_to_svg(spec)
    return Chart(title, svg, spec)


@cache
def _config() -> dict[str, object]:
    """Chart style; `currentColor` makes text and axes follow the page's light or dark theme."""
    quiet = {"labelColor": "currentColor", "titleColor": "currentColor", "labelFontSize": 11, "titleFontSize": 11,
             "titleFontWeight": "normal", "gridColor": "currentColor", "gridOpacity": 0.12,
             "domainColor": "currentColor", "domainOpacity": 0.4, "tickColor": "currentColor",
             "tickOpacity": 0.4}  # fmt: skip
    return {"background": None, "font": "system-ui, sans-serif", "axis": quiet, "view": {"stroke": None}}


def bundle() -> str:
    """The JavaScript for interactive charts: Vega, Vega-Lite and vega-embed in one file."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
