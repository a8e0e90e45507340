"""The site in a real browser, opened from disk: Debian's Chromium, driven by Playwright.

`python -m benchmarks.site_shots` looks at sites of other sizes, and makes a sheet of pictures.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.lm_eval_output import scores, write_output
from lm_eval_ext.api import build_site, compare
from lm_eval_ext.errors import ResultsError
from lm_eval_ext.site.rendering import NAVIGATION
from tests.browsing import CAN_BROWSE, WHY_NOT, address

if TYPE_CHECKING:
    from playwright.sync_api import Page

if not CAN_BROWSE:
    pytest.skip(WHY_NOT, allow_module_level=True)


PAGES = (*(path for path, _ in NAVIGATION), "run")
HOSTILE = "</script><script>window.bad=1</script><img src=x onerror='window.bad=1'>\"'javascript:window.bad=1"
SIZES = [(1440, "light"), (768, "dark"), (360, "light"), (360, "dark")]


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "page",
    [{"color_scheme": scheme, "viewport": {"width": width, "height": 844}} for width, scheme in SIZES],
    ids=[f"{width} {scheme}" for width, scheme in SIZES],
    indirect=True,
)
def test_pages_are_accessible_and_fit(name: str, page: Page, site: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.goto(address(site, name))
    page.wait_for_timeout(150)
    # axe finds nothing at all; `preload` would ask for the style sheet.
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "preload": False}
    found: Any = Axe().run(page, options=rules).response
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found["violations"]] == []
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    "page",
    [{"color_scheme": scheme, "viewport": {"width": 375, "height": 812}} for scheme in ("light", "dark")],
    ids=["light", "dark"],
    indirect=True,
)
def test_as_published_on_a_phone(page: Page, site: Path) -> None:
    page.goto(address(site, "published.html"))
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    colours = "['know', 'long'].map(name => getComputedStyle(document.querySelector(`h1 .${name}`)).color)"
    here = page.evaluate(colours)
    page.goto(address(site, "index.html"))
    there = page.evaluate(
        "['know', 'long'].map(name => getComputedStyle(document.querySelector(`thead .bar.${name}`)).color)"
    )
    assert len({*here, *there}) == 4  # another tier, in other colours


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript_all_numbers_and_charts_are_there(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    assert page.locator("#overview tbody tr").count() == 5 and "72.2" in page.inner_text("#overview")
    assert page.locator(".db .row svg").count() == 4
    for name, charts in (("budgets.html", 1), ("votes.html", 2), ("depth.html", 4), ("paper.html", 5)):
        page.goto(address(site, name))
        shown = [one for one in page.locator("svg.panel").all() if one.is_visible()]
        assert len(shown) == charts, name
        assert all(box and box["height"] > 50 for box in (one.bounding_box() for one in shown))
    page.goto(address(site, "questions.html"))
    assert page.locator(".hr svg.cells").count() == 5
    page.goto(address(site, "run"))
    assert page.locator(".grid svg").count() == 9 and "Difference to the base" in page.inner_text("main")


def test_models_are_chosen_and_points_say_what_they_are(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "budgets.html"))
    chart = page.locator("svg.panel.broad").first
    shown = chart.locator(".line:not(.off):not(.paper)")
    before = shown.count()
    assert before < 12, "of many models only some are shown at first"
    page.locator(".pick:has(input:not(:checked))").first.click()
    assert shown.count() == before + 1 and "models=" in page.url
    assert 0 < chart.locator(".end:not(.off):not(.paper)").count() <= 6
    places = sorted(float(text.get_attribute("y") or 0) for text in chart.locator(".end:not(.off) .value").all())
    assert all(later - earlier >= 14.5 for earlier, later in itertools.pairwise(places))
    page.reload()
    assert shown.count() == before + 1
    spot = page.evaluate(
        """() => { const svg = document.querySelector('svg.panel.broad'), box = svg.getBoundingClientRect();
        const [x, y] = svg.querySelector('.line.ink').dataset.points.split('|')[2].split(',');
        const scale = box.width / svg.viewBox.baseVal.width; return [box.left + x * scale, box.top + y * scale]; }"""
    )
    page.mouse.move(*spot)
    page.wait_for_selector(".tip:visible")
    assert "2,048 tokens:" in page.inner_text(".tip:visible") and "questions" in page.inner_text(".tip:visible")
    page.locator(".drawing").first.focus()
    page.keyboard.press("ArrowRight")
    assert "512 tokens:" in page.inner_text(".tip:visible")
    page.select_option("form.goto select", label="Qwen3-8B")
    page.wait_for_url("**/budgets-qwen3-8b.html")
    page.uncheck("#paper")
    assert not page.locator(".paper").first.is_visible()


def test_charts_and_numbers_can_be_saved(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "cost.html"))
    get = page.locator(".get").first
    for title, start in (("SVG", b"<svg"), ("PNG", b"\x89PNG"), ("Data as CSV", b"model,")):
        with page.expect_download() as saved:
            get.locator("button", has_text=title).click()
        assert Path(saved.value.path()).read_bytes().startswith(start)
    header, first, *_ = Path(saved.value.path()).read_text("utf-8").splitlines()
    assert header == 'model,budget,tokens per answer,accuracy,"accuracy, low","accuracy, high"'
    values = [float(part) for part in first.split(",")[-3:]]
    assert values[1] < values[0] < values[2] <= 1
    page.goto(address(sixty, "index.html"))
    for place, columns in (("#kept", 7), ("#models", 21)):
        with page.expect_download() as saved:
            page.locator(f"{place} .get button", has_text="Data as CSV").click()
        lines = list(csv.reader(Path(saved.value.path()).read_text("utf-8").splitlines()))
        assert {len(line) for line in lines} == {columns} and lines[1][0 if place == "#kept" else 1].startswith(
            ("Llama", "Mistral", "Qwen", "Small")
        )
    with page.expect_download() as saved:
        page.locator("#kept .get button", has_text="SVG").click()
    text = Path(saved.value.path()).read_text("utf-8")
    assert "var(--" not in text and "Qwen3-8B" in text


def test_a_question_is_opened_from_the_heat_map(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "questions.html"))
    cells = page.locator("svg.cells").first
    box = cells.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 5.5 / 30, box["y"] + 5)
    page.wait_for_selector("#question h2")
    assert "place 6 of 30" in page.inner_text("#question h2") and "question=" in page.url
    page.wait_for_selector("#question :text('Gold answer: 4')")
    assert "of 8" in page.inner_text("#question .st >> nth=0")
    page.locator("#heat").press("ArrowRight")
    page.wait_for_selector("#question h2:has-text('place 7 of 30')")
    page.wait_for_selector("text=Two traces side by side")
    page.click("text=Two traces side by side")
    page.wait_for_selector(".trace .cut")
    assert page.locator(".trace .cut").count() == 5


def test_percentages_are_rounded_as_python_does(page: Page, site: Path) -> None:
    page.goto(address(site, "compare.html"))
    shares = [number / of for of in (8, 400, 2000, 4000) for number in range(of + 1)]
    for digits in (0, 1, 2):
        shown = page.evaluate("([some, digits]) => some.map((one) => percent(one, digits))", [shares, digits])
        assert shown == [f"{100 * one:.{digits}f}" for one in shares]


def test_any_two_models_are_compared_as_the_command_does(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "compare.html"))
    page.wait_for_selector(".vd .word")
    labels = page.locator("#compare select[name=b] option").all_inner_texts()
    runs = {path.name: path for path in (sixty.parent / "results").glob("*/*") if path.is_dir()}
    for label in ("Qwen3-8B 8 bits", "Qwen3-8B \u22121 layer laco", "Small-1.5B \u22122 layers shortgpt"):
        base = label.split(" ")[0]
        page.select_option("#compare select[name=a]", label=base)
        page.select_option("#compare select[name=b]", label=next(one for one in labels if one == label))
        page.wait_for_selector(f".trace, .verdict h1:has-text('{base}')")
        asked = re.findall(r"[ab]=([^&]+)", page.url)
        found = compare(runs[asked[0]], runs[asked[1]], keep=0.95)
        page.wait_for_function(f"document.querySelector('.vd .word').textContent.toLowerCase() === '{found.verdict}'")
        judged = {one.row.benchmark: one for one in found.gated}
        shown = page.evaluate(
            """async ([a, b]) => { const load = (key) => loadScript(`data/scores/${key}.js`, `scores ${key}`);
            const pairs = pairsOf(await load(a), await load(b));
            const gated = [...byBenchmark(pairs).values()].map((some) => some.at(-1));
            const found = statistics.gate(gated, 0.95);
            return gated.map((pair, at) => [pair.base.benchmark, found.rows[at], found.kept[at],
              statistics.difference(pair.candidate, pair.base),
              statistics.detectable(pair.candidate, pair.base)]); }""",
            asked,
        )
        assert len(shown) == len(judged) == 4
        for benchmark, verdict, kept, difference, detectable in shown:
            row = judged[benchmark]
            assert verdict == row.verdict and kept == pytest.approx(list(row.row.kept or ()), abs=1e-9), benchmark
            assert difference == pytest.approx(list(row.row.difference), abs=1e-9)
            assert detectable == pytest.approx(row.sensitivity.detectable, abs=1e-9)
    gains = page.evaluate(
        """async ([a, b]) => { const load = (key) => loadScript(`data/scores/${key}.js`, `scores ${key}`);
        const grouped = byBenchmark(pairsOf(await load(a), await load(b)));
        const some = grouped.get('tts_aime24'), [small, large] = [some[0], some.at(-1)];
        return statistics.contrast([large.candidate, small.candidate, large.base, small.base], [1, -1, -1, 1]); }""",
        asked,
    )
    expected = next(one.difference for one in found.gains if one.benchmark == "tts_aime24")
    assert gains == pytest.approx(list(expected), abs=1e-9)
    page.click("button[name=swap]")
    page.wait_for_function("document.querySelector('.vd .word') !== null")


def test_of_a_model_that_only_guesses_nothing_is_kept(page: Page, tmp_path: Path) -> None:
    for dropped, right in (((), 0.9), ((3,), 0.05)):
        tasks = {"mmlu": scores(right, 60, 3), "tts_aime24_b512": scores(right, 30, 3)}
        write_output(tmp_path / f"out{len(dropped)}", tasks, dropped=dropped)
    found = compare(tmp_path / "out0", tmp_path / "out1", keep=0.95)
    folder = build_site([tmp_path / "out0", tmp_path / "out1"], tmp_path / "site").parent
    page.goto(address(folder, "compare.html"))
    page.wait_for_selector(".vd .word")
    kept = page.evaluate(
        """async () => { const load = (key) => loadScript(`data/scores/${key}.js`, `scores ${key}`);
        const [a, b] = ["a", "b"].map((name) => document.getElementById("compare").elements[name].value);
        const pairs = pairsOf(await load(a), await load(b));
        return pairs.map((pair) => [pair.base.benchmark, statistics.ratio(pair.candidate, pair.base)]); }"""
    )
    rows = {row.benchmark: row.kept for row in found.rows}
    assert rows["mmlu"] == (0, 0, 0) and len(kept) == len(rows)
    assert all(tuple(shown) == pytest.approx(rows[name], abs=1e-9) for name, shown in kept)


def test_without_a_benchmark_of_the_base_there_is_no_verdict(page: Page, tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": scores(0.6, 30, 3), "tts_math500_b512": scores(0.8, 60, 3)}
    write_output(tmp_path / "base", tasks)
    write_output(tmp_path / "small", {"tts_aime24_b512": tasks["tts_aime24_b512"]}, dropped=(3,))
    with pytest.raises(ResultsError, match="has no results of tts_math500, which the base has, so there is no verdict"):
        compare(tmp_path / "base", tmp_path / "small", keep=0.5)
    folder = build_site([tmp_path / "base", tmp_path / "small"], tmp_path / "site").parent
    page.goto(address(folder, "compare.html"))
    page.wait_for_selector(".vd .word")
    assert "exit code 2" in page.inner_text(".vd") and "has no results of MATH500" in page.inner_text(".verdict")
    assert page.locator(".gate > div").count() == 1  # what both have is shown
    page.select_option("#compare select[name=keep]", "0.5")
    page.click("button[name=swap]")  # what only the smaller one lacks is no reason the other way round
    page.wait_for_selector(".vd.kept")


@pytest.mark.parametrize("asked", [{"temperature": 0.6}, {"repetition_penalty": 1.1}])
def test_the_page_opens_with_a_base_and_a_smaller_model_run_alike(
    asked: dict[str, float], page: Page, tmp_path: Path
) -> None:
    tasks = {"tts_aime24_b512": scores(0.6, 30, 3)}
    for dropped in ((), (3,)):
        write_output(tmp_path / f"out{len(dropped)}", tasks, dropped=dropped, gen_kwargs=asked)
    folder = build_site([tmp_path / "out0", tmp_path / "out1"], tmp_path / "site").parent
    page.goto(address(folder, "compare.html"))
    page.wait_for_selector(".vd .word")
    chosen = [page.locator(f"#compare select[name={name}] option:checked").inner_text() for name in "ab"]
    assert "1 layer" not in chosen[0] and "1 layer" in chosen[1]


def test_two_traces_show_the_cuts_and_what_was_lost(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "compare.html"))
    page.wait_for_selector("section:has-text('Questions won and lost') button")
    page.locator("section:has-text('Questions won and lost') button").first.click()
    page.wait_for_selector(".trace .cut, #pair .note")
    assert "One question, two traces" in page.inner_text("#pair")


def test_the_theme_can_be_chosen_and_stays(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.goto(address(site, "about.html"))
    assert before != after == page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_samples_are_read_in_parts_filtered_and_gated_ones_not_shown(page: Page, site: Path) -> None:
    page.goto(address(site, "run"))
    page.wait_for_selector(".sample")
    page.select_option("#browse select[name=group]", "tts_math500")
    page.wait_for_selector("#browse output:has-text('part 1 of 5')")
    page.click("#browse button[name=on]")
    page.wait_for_selector("#browse output:has-text('part 2 of 5')")
    assert "Question 25" in page.inner_text("#samples-shown") and "part=1" in page.url
    page.select_option("#browse select[name=show]", "right")
    page.wait_for_selector("#browse output:has-text('of 120 questions')")
    assert all(
        "100% correct" in text for text in page.locator(".sample summary:has-text('Question')").all_inner_texts()
    )
    page.select_option("#browse select[name=show]", "")
    page.select_option("#browse select[name=group]", "tts_gpqa_diamond")
    page.wait_for_selector("text=Gated: not shown")
    assert "What is it" not in page.inner_text("#samples-shown") and "answer" not in page.inner_text("#samples-shown")


def test_hostile_text_stays_text(page: Page, tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": [[True], [False]], "tts_aime24_b1024": [[True], [True]]}
    for number, dropped in enumerate([(), (3,)]):
        write_output(
            tmp_path / "out" / str(number), tasks,
            base=HOSTILE, method=HOSTILE, dropped=dropped, text=f"{HOSTILE}\ud800</think>{HOSTILE}%s{'x' * 10_000_000}",
        )  # fmt: skip
    out = build_site([tmp_path / "out"], tmp_path / "site").parent
    paths = [*out.glob("*.html"), *out.glob("runs/*/index.html")]
    assert len(paths) == len(NAVIGATION) + 1 + 2
    for path in paths:
        page.goto(path.as_uri())
        page.wait_for_timeout(150)
        for chart in page.locator(".drawing").all():
            chart.hover()
        if path.name.startswith("questions"):
            page.locator("svg.cells").first.click()
            page.wait_for_selector("#question:has-text('Gold answer')")
        if path.name == "compare.html":
            page.wait_for_selector(".vd .word")
            page.goto("about:blank")
            page.goto(f"{path.as_uri()}#group=tts_aime24&question=0")
            page.wait_for_selector(".trace .cut, #pair .note")
        page.wait_for_timeout(150)
        assert page.evaluate("window.bad") is None, path
    assert all(path.stat().st_size < 500_000 for path in out.rglob("*") if path.is_file())
    listed = json.loads((out / "data" / "models.js").read_text("utf-8").removeprefix("lmtts.models(").rstrip(";\n)"))
    assert len(listed["models"]) == 2
