"""Readers point, click, sort and print in headless Chromium, with and without script."""

from __future__ import annotations

import csv
import io
import re

import pytest
from browser import CHROMIUM, Visit, chromium
from synthetic_page import PLANTS

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]

NAMES = [plant.recipe for plant in PLANTS]
SCHEMES = [
    (1400, "light"),
    pytest.param(1400, "dark", marks=pytest.mark.long),
    pytest.param(400, "light", marks=pytest.mark.long),
    (400, "dark"),
]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def file(html, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(browser, file):
    with Visit(browser, file) as visit:
        yield visit


@pytest.fixture
def page(shared):
    """Give the page with nothing highlighted, nothing filtered and the study's axes."""
    yield shared.page
    shared.page.keyboard.press("Escape")
    shared.page.fill("#filter", "")
    shared.page.click("#axis-reset")


def mark(page, name):
    return page.locator(f'#front-chart [role="button"][aria-label^="{name}:"]')


def order(page):
    return page.locator("table.candidates tbody:visible .name").all_inner_texts()


def test_nothing_is_fetched_and_the_console_is_silent(shared):
    assert shared.said == []
    assert [url.partition(":")[0] for url in shared.asked] == ["file"]


def test_the_policy_refuses_any_other_script(browser, html, tmp_path):
    path = tmp_path / "broken.html"
    path.write_text(html.replace("<main>", "<main><script>window.evil = 1</script>", 1))
    with Visit(browser, path) as visit:
        assert visit.page.evaluate("window.evil") is None
        assert any("Content Security Policy" in text for text in visit.said)


def test_every_candidate_with_both_numbers_is_a_mark(page):
    drawn = page.locator("#front-chart [data-mark]").count()
    assert drawn == len(NAMES) - 1
    assert "int4-simulated" in page.inner_text("#front-missing")


def test_other_axes_move_the_marks_and_rename_the_figure(page):
    before = mark(page, "prune0.7").bounding_box()
    page.select_option("#axis-x", label="Latency, median")
    page.wait_for_function("document.querySelector('#front-title').textContent.includes('atency')")
    page.wait_for_selector('#front-chart text:has-text("Latency, median, ms")')
    after = mark(page, "prune0.7").bounding_box()
    assert after["x"] != before["x"]
    page.click("#axis-reset")
    page.wait_for_selector('#front-chart text:has-text("File size")')
    assert mark(page, "prune0.7").bounding_box()["x"] == pytest.approx(before["x"], abs=1)


def test_the_marks_stand_where_the_static_figure_has_them(page):
    static = page.locator("#front0-wide")
    names = static.locator("text[data-c]").all_text_contents()
    live = page.locator("#front-chart .mark-text.role-mark text").all_text_contents()
    assert sorted(live) == sorted(names)


def test_pointing_shows_numbers_intervals_and_steps(page):
    mark(page, "prune0.5").hover()
    told = page.inner_text("#tip").replace("\xa0", " ")
    assert told.startswith("prune0.5\n")
    assert "24.3 % (23.7 to 24.9)" in told
    assert "561 kB" in told
    assert "prune.channels: ratio 0.5 → 0.5" in told
    page.mouse.move(5, 5)
    assert not page.is_visible("#tip")


def test_a_click_highlights_table_plots_and_sections_and_escape_clears(page):
    mark(page, "cluster16").click()
    number = NAMES.index("cluster16")
    lit = page.locator(".lit")
    assert set(lit.evaluate_all("nodes => nodes.map(n => n.dataset.c)")) == {str(number)}
    kinds = set(lit.evaluate_all("nodes => nodes.map(n => n.tagName.toLowerCase())"))
    assert {"tbody", "tr", "path", "figure", "li"} <= kinds
    assert page.locator("#robustness .lit").count() > 3
    assert page.inner_text("#details-name") == "cluster16"
    assert "22.6" in page.inner_text("#details-facts")
    page.keyboard.press("Escape")
    assert page.locator(".lit").count() == 0
    assert not page.is_visible("#details")


def test_a_row_highlights_the_front(page):
    page.click('.pick:has-text("prune0.3")')
    chosen = mark(page, "prune0.3")
    assert chosen.get_attribute("aria-pressed") == "true"
    dim = page.locator("#front-chart .mark-symbol path[opacity='0.2']").count()
    assert dim >= len(NAMES) - 3
    page.click("#details-clear")
    assert chosen.get_attribute("aria-pressed") == "false"


def test_a_row_of_another_section_highlights_too(page):
    page.click('#calibration tbody th:has-text("prune0.7") >> nth=0')
    assert page.inner_text("#details-name") == "prune0.7"


def test_the_keyboard_reaches_marks_and_comes_back(page):
    page.focus("#axis-reset")
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first != second
    assert page.is_visible("#tip")
    page.keyboard.press("Enter")
    assert second.startswith(page.inner_text("#details-name") + ":")
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.closest('#front-chart')")
    page.click("#details-clear")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == second


def test_focus_is_seen_on_every_control(page):
    for selector in ("#axis-x", "#axis-reset", "#filter", "#copy-tsv", ".sort", ".pick", "nav a"):
        page.locator(selector).first.focus()
        page.keyboard.press("Shift")  # from now on focus came from the keyboard
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+Tab")
        style = "getComputedStyle(document.activeElement)"
        width = page.evaluate(f"parseFloat({style}.outlineWidth)")
        kind = page.evaluate(f"{style}.outlineStyle")
        assert kind != "none", selector
        assert width >= 2, selector


def test_headings_sort_both_ways_and_missing_numbers_stand_last(page):
    size = page.locator('table.candidates thead th:has-text("File size")')
    size.locator("button").click()
    assert size.get_attribute("aria-sort") == "ascending"
    known = sorted((p for p in PLANTS if p.size), key=lambda p: p.size)
    assert order(page)[: len(known)] == [p.recipe for p in known]
    assert order(page)[-1] == "int4-simulated"
    size.locator("button").press("Enter")
    assert size.get_attribute("aria-sort") == "descending"
    assert order(page)[0] == "baseline"
    assert order(page)[-1] == "int4-simulated"
    size.locator("button").press("Enter")
    assert size.get_attribute("aria-sort") is None
    assert order(page) == NAMES


def test_the_filter_knows_names_tags_and_steps(page):
    page.fill("#filter", "int8")
    assert order(page) == ["int8", "prune0.5-int8"]
    assert page.inner_text("#count") == f"2 of {len(NAMES)} shown"
    page.fill("#filter", "levels 16")
    assert order(page) == ["cluster16"]
    page.fill("#filter", "breaks rule")
    assert order(page) == ["prune0.7", "int4-simulated"]
    page.fill("#filter", "")
    assert order(page) == NAMES
    assert page.inner_text("#count") == ""


@pytest.mark.parametrize(("button", "separator"), [("#copy-tsv", "\t"), ("#copy-csv", ",")])
def test_the_copied_table_has_the_numbers_as_measured(browser, file, button, separator):
    permissions = ["clipboard-read", "clipboard-write"]
    with Visit(browser, file, permissions=permissions) as visit:
        visit.page.fill("#filter", "prune0.5")
        visit.page.click(button)
        visit.page.wait_for_selector('#copied:has-text("Copied")')
        text = visit.page.evaluate("navigator.clipboard.readText()")
    lines = list(csv.DictReader(io.StringIO(text), delimiter=separator))
    assert [line["candidate"] for line in lines] == ["resnet20/prune0.5", "resnet20/prune0.5-int8"]
    assert float(lines[0]["Top-1 accuracy, clean images [fraction]"]) == 0.924
    assert float(lines[0]["File size [bytes]"]) == 561_000


@pytest.mark.parametrize(("width", "scheme"), SCHEMES)
def test_the_page_is_accessible_and_fits(browser, file, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with Visit(browser, file, width, color_scheme=scheme) as visit:
        visit.page.locator(".pick").nth(2).click()
        found = Axe().run(visit.page)
        assert [v["id"] for v in found.response["violations"]] == []
        size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert visit.page.evaluate(size) == [width, width]
        assert visit.said == []


def test_dark_figures_are_recolored(browser, file):
    color = "getComputedStyle(document.querySelector('#front-chart [fill=\"#0072b2\"]')).fill"
    for scheme, wanted in (("light", "rgb(0, 114, 178)"), ("dark", "rgb(86, 180, 233)")):
        with Visit(browser, file, color_scheme=scheme) as visit:
            assert visit.page.evaluate(color) == wanted


def test_without_script_everything_is_there_and_no_control_is_dead(browser, file):
    with Visit(browser, file, java_script_enabled=False) as visit:
        text = visit.page.inner_text("body")
        assert "is the choice under the rules of this study" in text
        assert "4-bit files cannot be exported" in text
        for dead in ("#table-tools", "#front-live", "#details"):
            assert not visit.page.is_visible(dead)
        assert visit.page.locator("button:visible").count() == 0
        assert visit.page.is_visible("#front0-wide")


def test_print_shows_static_figures_and_opened_details(browser, file, tmp_path):
    with Visit(browser, file) as visit:
        visit.page.locator(".pick").nth(1).click()
        visit.page.emulate_media(media="print")
        assert visit.page.is_visible("#front0-wide")
        for hidden in ("#front-live", "#table-tools", "#details", "nav"):
            assert not visit.page.is_visible(hidden)
        assert visit.page.locator("details:not([open]) table").first.is_visible()
        visit.page.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 718
        pdf = visit.page.pdf(format="A4")
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    assert 5 < pages < 60


def test_pages_without_the_decompressor_keep_the_static_figure(browser, html, tmp_path):
    path = tmp_path / "old.html"
    path.write_text(html, encoding="utf-8")
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("delete window.DecompressionStream")
    page.goto(path.as_uri())
    page.wait_for_selector("html.scripted")
    assert page.is_visible("#front0-wide")
    assert not page.is_visible("#front-live")
    page.locator(".pick").nth(1).click()
    assert page.is_visible("#details")
    context.close()
