"""A real browser shows the page without script, without network and without complaints."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH")


def browse(tmp_path, html, *flags):
    file = tmp_path / "page.html"
    file.write_text(html, encoding="utf-8")
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-sync",
            "--disable-component-update",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--enable-logging=stderr",
            "--v=0",
            *flags,
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def framed(tmp_path, html, frame, report):
    """Return the DOM of an outer page that frames the page and reports about its document."""
    (tmp_path / "inner.html").write_text(html, encoding="utf-8")
    outer = (
        f'<pre id="out"></pre><iframe id="f" src="inner.html" {frame}></iframe>'
        '<script>onload = () => { const d = document.getElementById("f").contentDocument;'
        f"const e = d.documentElement; const out = {report};"
        'document.getElementById("out").textContent = out; }</script>'
    )
    flags = ("--allow-file-access-from-files", "--hide-scrollbars", "--dump-dom")
    return browse(tmp_path, outer, *flags).stdout


def test_content_is_visible_without_script(tmp_path, html):
    # A sandboxed frame runs no script; headless commands themselves need script outside of it.
    text = framed(
        tmp_path, html, 'width="1000" height="900" sandbox="allow-same-origin"', "d.body.innerText"
    )
    assert "is the choice under the rules of this study" in text
    assert "4-bit files cannot be exported" in text
    assert "This file needs no network and runs no script." in text


def test_all_content_arrives_and_the_console_is_silent(tmp_path, html):
    done = browse(tmp_path, html, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert "is the choice under the rules of this study" in done.stdout
    assert "4-bit files cannot be exported" in done.stdout
    assert done.stdout.count("<svg") == html.count("<svg")
    assert "</footer>" in done.stdout


def test_a_broken_page_would_be_noticed(tmp_path, html):
    broken = html.replace("<main>", '<main><img src="https://localhost/x.png">', 1)
    assert "CONSOLE" in browse(tmp_path, broken, "--dump-dom").stderr


def test_no_sideways_scrolling_on_a_telephone(tmp_path, html):
    # A frame of 400 pixels, because windows cannot be that narrow.
    size = 'width="400" height="900"'
    assert "400 of 400" in framed(tmp_path, html, size, "`${e.scrollWidth} of ${e.clientWidth}`")


def test_the_candidate_table_needs_no_scrolling_at_a_desk(tmp_path, html):
    boxes = "[...d.querySelectorAll('.scroll')].map(b => b.scrollWidth <= b.clientWidth)"
    text = framed(tmp_path, html, 'width="1400" height="900"', boxes)
    fits = re.search(r'<pre id="out">([^<]*)</pre>', text).group(1)
    assert set(fits.split(",")) == {"true"}
