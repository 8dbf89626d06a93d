import doctest
import importlib
import subprocess
import sys

import pytest

from shrinkproof.metrics import METRICS

SECTIONS = ("Input:", "Output:", "Reference:", "Example:")


@pytest.mark.parametrize("name", METRICS.builtin)
def test_docstrings_have_the_sections(name):
    text = METRICS.get(name).__doc__
    assert len(text.splitlines()[0]) <= 80
    positions = [text.find(section) for section in SECTIONS]
    assert -1 not in positions
    assert positions == sorted(positions)


@pytest.mark.parametrize("module", ["accuracy", "calibration"])
def test_examples_in_docstrings_run(module):
    found = doctest.testmod(importlib.import_module(f"shrinkproof.metrics.{module}"))
    assert found.attempted > 0
    assert found.failed == 0


def test_metrics_and_statistics_never_import_torch():
    code = (
        "import sys\n"
        "from shrinkproof.metrics import METRICS\n"
        "import shrinkproof.metrics.robustness, shrinkproof.metrics.temperature\n"
        "import shrinkproof.metrics.references, shrinkproof.metrics.alexnet\n"
        "import shrinkproof.metrics.effective, shrinkproof.metrics.correlation\n"
        "import shrinkproof.metrics.null, shrinkproof.metrics.similarity, shrinkproof.summary\n"
        "[METRICS.create(name) for name in METRICS]\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
