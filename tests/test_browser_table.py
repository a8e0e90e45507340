"""The overview's table and cards in a real browser: sorted, filtered, folded, and kept in the link."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browsing import CAN_BROWSE, WHY_NOT, address

if TYPE_CHECKING:
    from playwright.sync_api import Page

if not CAN_BROWSE:
    pytest.skip(WHY_NOT, allow_module_level=True)


def first_models(page: Page) -> list[str]:
    return [row.inner_text().strip("▾▸ \n") for row in page.locator("#overview tbody th:visible").all()]


def header(page: Page, name: str) -> Any:
    return page.locator(f"#overview thead th[data-column={name}]")


def test_the_table_is_sorted_by_mouse_and_keyboard_and_keeps_it_in_the_address(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "index.html"))
    assert page.inner_text("#count") == "60 of 60 rows"
    accuracy = header(page, "accuracy")
    accuracy.locator("button").click()
    assert accuracy.get_attribute("aria-sort") == "descending"
    page.click("#fold")  # no longer by base
    values = [float(cell.inner_text().split()[0]) for cell in page.locator("#overview tbody td.acc b").all()]
    assert values == sorted(values, reverse=True)
    header(page, "rank").locator("button").focus()
    page.keyboard.press("Enter")
    assert header(page, "rank").get_attribute("aria-sort") == "ascending" and "sort=rank-ascending" in page.url
    first = first_models(page)
    again = page.url
    page.goto("about:blank")
    page.goto(again)
    assert first_models(page) == first


def test_rows_are_filtered_folded_and_columns_chosen(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "index.html"))
    page.select_option("select[name=method]", "reverse")
    assert page.inner_text("#count") == "5 of 60 rows"
    page.fill("input[name=q]", "qwen3-8b")
    assert page.inner_text("#count") == "1 of 60 rows" and "q=qwen3-8b" in page.url
    page.reload()
    assert page.inner_text("#count") == "1 of 60 rows"
    page.fill("input[name=q]", "")
    page.select_option("select[name=method]", "")
    for name, value, count in (("kind", "quantized", 10), ("off", "2", 15), ("base", "Lab/Small-1.5B", 12)):
        page.select_option(f"select[name={name}]", value)
        assert page.inner_text("#count") == f"{count} of 60 rows", name
        page.select_option(f"select[name={name}]", "")
    page.locator("button.folds").first.click()
    assert page.locator("#overview tbody tr:visible").count() == 60 - 11 and "folded=" in page.url
    folded = page.locator("#overview tr.base").first
    assert re.fullmatch(r"\d+–\d+", folded.locator("td.long span").inner_text())
    assert folded.locator("td.long rect").count() == 11
    page.locator("#columns summary").click()
    page.locator("#columns label", has_text="Bits").click()
    assert not header(page, "bits").is_visible() and "without=bits" in page.url
    page.reload()
    assert not header(page, "bits").is_visible() and page.locator("#overview tbody tr:visible").count() == 60 - 11


@pytest.mark.parametrize("page", [{"viewport": {"width": 360, "height": 800}}], indirect=True)
def test_on_a_phone_the_table_is_cards(page: Page, sixty: Path) -> None:
    page.goto(address(sixty, "index.html"))
    assert not page.locator("#overview").is_visible() and page.locator(".card:visible").count() == 60
    first = page.locator(".card:has(.t2)").first
    box = first.bounding_box()
    assert box and box["width"] <= 360 and "long reasoning kept" in first.inner_text()
    kept = [int(one.inner_text().rstrip("%")) for one in page.locator(".card .t2 b").all()]
    assert len(kept) == 55 and kept == sorted(kept, reverse=True)
    page.select_option("select[name=sort]", "tokens")
    tokens = [int(text.split("\n")[-1].replace(",", "")) for text in page.locator(".card").all_inner_texts()]
    assert tokens == sorted(tokens, reverse=True) and "sort=tokens-descending" in page.url
    page.select_option("select[name=kind]", "quantized")
    assert page.locator(".card:visible").count() == 10
    page.goto("about:blank")
    page.goto(f"{address(sixty, 'index.html')}#sort=nothing-descending")  # a column that there is no more
    assert page.locator(".card:visible").count() == 60
