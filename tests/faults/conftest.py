"""What every test of faults does in the end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .runs import STARTED


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    yield
    while STARTED:
        STARTED.pop().put_away()
