from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest
from threadpoolctl import threadpool_limits

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "coverage.py"


@pytest.fixture(autouse=True)
def one_thread():
    """Keep small matrix products from waiting for each other's threads."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session")
def script():
    """Return the simulation of worlds with known calibration error."""
    spec = importlib.util.spec_from_file_location("coverage_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["coverage_benchmark"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def refutes():
    """Return whether a coverage of ``nominal`` falls this low once in 1,000 times or less."""

    def check(covered, trials, nominal=0.9):
        return covered < nominal - 3.1 * math.sqrt(nominal * (1 - nominal) / trials)

    return check
