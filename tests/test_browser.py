"""The site in a real browser, opened from disk: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lm_eval_ext.analysis.comparison import difference
from lm_eval_ext.api_results import build_site
from lm_eval_ext.runs.catalogue import read_catalogue
from lm_eval_ext.runs.load import load
from lm_eval_ext.testbed.lm_eval_output import write_board, write_output

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None or importlib.util.find_spec("playwright") is None:
    pytest.skip("needs Chromium and the extra `browser` (make test-browser)", allow_module_level=True)

PAGES = ("index.html", "budgets.html", "votes.html", "depth.html", "compare.html", "about.html", "run")
HOSTILE = "</script><script>window.bad=1</script><img src=x onerror='window.bad=1'>\"'javascript:window.bad=1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    return build_site([write_board(folder / "results")], folder / "out").parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox; the rest keeps it from the network.
        quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page that must neither complain nor ask the network for anything."""
    context = browser.new_context(**getattr(request, "param", {}))
    opened = context.new_page()
    complaints: list[str] = []
    opened.on("console", lambda said: complaints.append(said.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on(
        "request", lambda asked: complaints.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    yield opened
    context.close()
    assert complaints == []


def address(site: Path, name: str) -> str:
    path = next(site.glob("runs/*shortgpt-2*/index.html")) if name == "run" else site / name
    return path.as_uri()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "page",
    [{"color_scheme": "light"}, {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}}],
    ids=["desktop", "dark phone"],
    indirect=True,
)
def test_pages_are_accessible_and_fit(name: str, page: Page, site: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.goto(address(site, name))
    page.wait_for_timeout(100)
    found: Any = Axe().run(page, options={"preload": False}).response  # or it asks for the style sheet
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in serious] == []
    width = page.viewport_size["width"] if page.viewport_size else 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_javascript_all_numbers_and_charts_are_there(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    assert page.locator("#overview tbody tr").count() == 5 and "72.2" in page.inner_text("#overview")
    for name, charts in (("budgets.html", 1), ("votes.html", 1), ("depth.html", 5), ("about.html", 5)):
        page.goto(address(site, name))
        assert page.locator(".chart svg").count() == charts, name
        assert all(
            box and box["height"] > 50 for box in (one.bounding_box() for one in page.locator(".chart svg").all())
        )
    page.goto(address(site, "run"))
    assert page.locator(".grid svg").count() == 9 and "Difference to dense" in page.inner_text("main")


def first_models(page: Page) -> list[str]:
    return [row.inner_text().split("\n")[0] for row in page.locator("#overview tbody th:visible").all()]


def test_tables_sort_by_mouse_and_keyboard_and_keep_it_in_the_address(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    header = page.locator("#overview thead th", has_text="AIME 2024")
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "descending" and first_models(page)[0] == "Model-8B dense"
    header.locator("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending" and first_models(page)[0] == "Model-8B shortgpt -2"
    page.goto("about:blank")
    page.go_back()
    assert first_models(page)[0] == "Model-8B shortgpt -2"
    again = page.url
    page.goto("about:blank")
    page.goto(again)
    assert first_models(page)[0] == "Model-8B shortgpt -2"


def test_rows_are_filtered(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    page.select_option("select[name=method]", "reverse")
    assert first_models(page) == ["Model-8B reverse -1", "Model-8B reverse -2"]
    page.fill("input[name=q]", "-2")
    assert first_models(page) == ["Model-8B reverse -2"] and "q=-2" in page.url
    page.reload()
    assert first_models(page) == ["Model-8B reverse -2"] and page.inner_text(".filters output") == "1 of 5"


def test_charts_answer_to_the_pointer(page: Page, site: Path) -> None:
    page.goto(address(site, "budgets.html"))
    page.hover(".chart .drawing")
    page.wait_for_selector(".chart[data-ready]")
    page.locator(".chart .mark-symbol path").first.hover()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "thinking tokens" in page.inner_text("#vg-tooltip-element")


def test_the_theme_can_be_chosen_and_stays(page: Page, site: Path) -> None:
    page.goto(address(site, "index.html"))
    before = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.goto(address(site, "about.html"))
    assert before != after == page.evaluate("getComputedStyle(document.documentElement).backgroundColor")


def test_samples_are_read_in_parts_and_gated_ones_not_at_all(page: Page, site: Path) -> None:
    page.goto(address(site, "run"))
    page.wait_for_selector(".sample")
    page.select_option("#browse select[name=task]", "tts_math500_b8192")
    page.wait_for_selector("#browse output:has-text('part 1 of 5')")
    page.click("#browse button[name=on]")
    page.wait_for_selector("#browse output:has-text('part 2 of 5')")
    assert "Question 25" in page.inner_text("#samples-shown") and "part=1" in page.url
    page.select_option("#browse select[name=show]", "wrong")
    page.wait_for_selector(".sample h3:has-text('100%')", state="detached")
    page.select_option("#browse select[name=task]", "tts_gpqa_diamond_b8192")
    page.wait_for_selector("text=Gated: not shown")
    assert "What is it" not in page.inner_text("#samples-shown") and "answer" not in page.inner_text("#samples-shown")


def test_any_two_runs_are_compared(page: Page, site: Path) -> None:
    page.goto(address(site, "compare.html"))
    page.wait_for_selector("#comparison table")
    labels = page.locator("#compare select[name=b] option").all_inner_texts()
    page.select_option("#compare select[name=b]", label=next(label for label in labels if "shortgpt -2" in label))
    page.wait_for_selector("caption:has-text('shortgpt -2')")
    row = page.locator("#comparison tbody tr", has_text="tts_aime24_b8192").inner_text().split("\t")
    assert row[1] == "30" and row[4] == "+60.0" and "b=" in page.url
    sources = load([site.parent / "results"], read_catalogue())
    dense, pruned = (
        next(one.run for one in sources if one.run.label == label).tasks["tts_aime24_b8192"]
        for label in ("dense", "shortgpt -2")
    )
    found = difference(dense, pruned)
    assert row[5] == f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"


def test_hostile_text_stays_text(page: Page, tmp_path: Path) -> None:
    tasks = {"tts_aime24_b512": [[True], [False]], "tts_aime24_b1024": [[True], [True]]}
    for number, dropped in enumerate([(), (3,)]):
        write_output(
            tmp_path / "out" / str(number), tasks,
            base=HOSTILE, method=HOSTILE, dropped=dropped, text=f"{HOSTILE}\ud800</think>{HOSTILE}%s{'x' * 10_000_000}",
        )  # fmt: skip
    out = build_site([tmp_path / "out"], tmp_path / "site").parent
    paths = [*out.glob("*.html"), *out.glob("runs/*/index.html")]
    assert len(paths) == 8
    for path in paths:
        page.goto(path.as_uri())
        page.wait_for_timeout(150)
        for chart in page.locator(".chart .drawing").all():
            chart.hover()
        page.wait_for_timeout(150)
        assert page.evaluate("window.bad") is None, path
    assert "characters are not shown" in page.inner_text("#samples-shown")
    assert all(path.stat().st_size < 500_000 for path in out.rglob("*") if path.is_file() and path.name != "charts.js")
