"""The page of detectors in headless Chromium: accessible, narrow, dark, printed, without script."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, Visit, chromium
from synthetic_boxes import page_of_boxes

from shrinkproof.report.page import render

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH"),
]

SCHEMES = [
    pytest.param(1400, "light", marks=pytest.mark.long),
    (1400, "dark"),
    (400, "light"),
    pytest.param(400, "dark", marks=pytest.mark.long),
]
COLOR = "getComputedStyle(document.querySelector('.panel .box-wrong')).stroke"


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render(page_of_boxes()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.mark.parametrize(("width", "scheme"), SCHEMES)
def test_the_page_is_accessible_and_fits(browser, file, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    with Visit(browser, file, width, color_scheme=scheme) as visit:
        opened = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
        visit.page.evaluate(opened)
        found = Axe().run(visit.page)
        assert [v["id"] for v in found.response["violations"]] == []
        size = "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert visit.page.evaluate(size) == [width, width]
        assert visit.page.evaluate(COLOR) == "rgb(255, 166, 43)", "the picture stays as it is"
        assert visit.said == []
        boxes = "[...document.querySelectorAll('.scroll')].map(b => b.scrollWidth <= b.clientWidth)"
        assert width == 400 or all(visit.page.evaluate(boxes)), "no scrolling at a desk"


def test_panels_stand_side_by_side_at_a_desk_and_below_each_other_on_a_telephone(browser, file):
    panels = "[...document.querySelector('.panels').querySelectorAll('.panel')]"
    tops = f"{panels}.slice(0, 2).map(one => Math.round(one.getBoundingClientRect().top))"
    for width, is_beside in ((1400, True), (400, False)):
        with Visit(browser, file, width) as visit:
            first, second = visit.page.evaluate(tops)
            assert (first == second) is is_beside


def test_without_script_the_boxes_are_there(browser, file):
    with Visit(browser, file, java_script_enabled=False) as visit:
        assert "What changed, box by box" in visit.page.inner_text("body")
        panels = visit.page.locator(".scenes .panel svg")
        assert panels.first.is_visible()
        assert panels.first.get_attribute("aria-label").startswith("Image 7, clean images, base")


def test_printed_pages_have_the_boxes_in_words(browser, file):
    with Visit(browser, file) as visit:
        visit.page.emulate_media(media="print")
        assert visit.page.locator(".scene details:not([open]) p").first.is_visible()
        visit.page.set_viewport_size({"width": 718, "height": 1000})  # A4 within its margins
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 718
