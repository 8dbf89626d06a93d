"""A real browser shows the page without network and without complaints; more in the slow tests."""

from __future__ import annotations

import pytest
from browser import CHROMIUM, Visit, chromium

pytest.importorskip("playwright", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the PATH")


@pytest.mark.slow
def test_the_page_is_silent_complete_and_fits(tmp_path, html):
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    with chromium() as browser, Visit(browser, path) as visit:
        assert visit.said == []
        assert len(visit.asked) == 1
        text = visit.page.inner_text("body")
        assert "is the choice under the rules of this study" in text
        assert "4-bit files cannot be exported" in text
        assert visit.page.locator("footer").is_visible()
        boxes = "[...document.querySelectorAll('.scroll')].map(b => b.scrollWidth <= b.clientWidth)"
        assert all(visit.page.evaluate(boxes)), "tables need no scrolling at a desk"
        visit.page.set_viewport_size({"width": 400, "height": 900})  # a turned telephone
        assert visit.page.evaluate("document.documentElement.scrollWidth") == 400
