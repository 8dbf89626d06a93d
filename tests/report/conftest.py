from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The synthetic study is shared with the benchmark; it is no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def empty_charts(monkeypatch):
    """Pages that a test makes itself have empty charts: drawing is most of the time."""
    from shrinkproof.report import figures, samples, severity

    for module, name in (
        (figures, "reliability"),
        (figures, "tradeoff"),
        (severity, "severity_curves"),
        (samples, "class_damage"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: '<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture(scope="session")
def html():
    from synthetic_page import synthetic_page

    from shrinkproof.report.page import render

    return render(synthetic_page())
