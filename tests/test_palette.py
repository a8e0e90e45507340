"""The site's colours: contrast of text and marks, and distances for colour-blind eyes."""

from __future__ import annotations

import math
import re
from itertools import combinations

import pytest

from lm_eval_ext.paths import LEADERBOARD

CSS = (LEADERBOARD / "assets" / "site.css").read_text("utf-8")
# Simulation of missing cones in full strength: Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for
# Simulation of Color Vision Deficiency".
EYES = {
    "usual": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritan": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
SETS = (("know", "long"), ("knowp", "longp"), ("ink", "bits", "one", "two", "three"), ("right", "lost", "never"))
TEXT = ("ink", "quiet", "link", "know", "long", "knowp", "longp", "bad", "right")
MARKS = ("rule", "one", "two", "three", "bits", "lost", "know", "long", "knowp", "longp")


def palette(theme: str) -> dict[str, str]:
    block = CSS.split(":root {")[1] if theme == "light" else CSS.split(':root[data-theme="dark"] {')[1]
    return dict(re.findall(r"--([\w]+): (#[0-9a-f]{6});", block.split("}")[0]))


def linear(colour: str) -> list[float]:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    luminance = (0.2126, 0.7152, 0.0722)
    high, low = sorted(
        (sum(w * part for w, part in zip(luminance, linear(colour), strict=True)) for colour in (one, other)),
        reverse=True,
    )
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, eye: str) -> tuple[float, float, float]:
    seen = [min(1.0, max(0.0, sum(m * x for m, x in zip(row, linear(colour), strict=True)))) for row in EYES[eye]]
    to_xyz = (((0.4124, 0.3576, 0.1805), 0.9505), ((0.2126, 0.7152, 0.0722), 1), ((0.0193, 0.1192, 0.9505), 1.089))
    xyz = [sum(m * x for m, x in zip(row, seen, strict=True)) / white for row, white in to_xyz]
    x, y, z = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_and_marks_stand_out(theme: str) -> None:
    colours = palette(theme)
    for ground in ("back", "panel"):
        assert {
            name: contrast(colours[name], colours[ground])
            for name in TEXT
            if contrast(colours[name], colours[ground]) < 4.5
        } == {}
    assert {name for name in MARKS if contrast(colours[name], colours["back"]) < 3} == set()
    assert contrast(colours["onright"], colours["right"]) >= 4.5 and contrast(colours["onlost"], colours["lost"]) >= 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("eye", EYES)
def test_colours_of_one_picture_differ_for_all_eyes(theme: str, eye: str) -> None:
    colours = palette(theme)
    distances = {
        pair: math.dist(*(lab(colours[name], eye) for name in pair))
        for names in SETS
        for pair in combinations(names, 2)
    }
    assert {pair: round(distance) for pair, distance in distances.items() if distance < 20} == {}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_more_taken_away_is_further_from_the_ground(theme: str) -> None:
    colours = palette(theme)
    found = [contrast(colours[name], colours["back"]) for name in ("one", "two", "three")]
    assert found == sorted(found)
    shades = [lab(colours[f"h{level}"], "usual")[0] for level in range(9)]
    assert shades == sorted(shades, reverse=theme == "light")
