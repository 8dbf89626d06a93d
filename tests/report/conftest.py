from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The synthetic study is shared with the benchmark; it is no package.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def html():
    from synthetic_page import synthetic_page

    from shrinkproof.report.page import render

    return render(synthetic_page())
