"""Engines: every item once, failures as values, dead workers survived."""

from __future__ import annotations

import importlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.engines import ENGINES
from shrinkproof.engines.inline import Inline
from shrinkproof.engines.processes import Processes
from shrinkproof.records import Failure


@pytest.fixture(autouse=True)
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the work, on the path that workers inherit."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("engine_work")


@pytest.mark.parametrize("engine", [Inline(), Processes(workers=2)], ids=["inline", "processes"])
def test_every_item_once_and_failures_are_values(engine: Any, work: Any) -> None:
    found = dict(engine.map(work.square_or_fail, [1, 2, 3, 4]))
    failure = found.pop(3)
    assert found == {1: 1, 2: 4, 4: 16}
    assert isinstance(failure, Failure)
    assert (failure.type, failure.message) == ("ValueError", "three is wrong")
    assert "square_or_fail" in failure.traceback


@pytest.mark.parametrize("engine", [Inline(), Processes(workers=2)], ids=["inline", "processes"])
def test_no_items_is_no_work(engine: Any, work: Any) -> None:
    assert list(engine.map(work.square_or_fail, [])) == []


def test_a_worker_that_dies_costs_one_retry(tmp_path: Path, work: Any) -> None:
    items = [(str(tmp_path), number) for number in range(4)]
    found = dict(Processes(workers=2).map(work.die_once, items))
    assert sorted(found.values()) == [0, 1, 2, 3]


def test_an_item_that_kills_every_worker_becomes_a_failure(work: Any) -> None:
    found = dict(Processes(workers=2).map(work.die_always, [0, 1, 2]))
    failure = found.pop(1)
    assert found == {0: 0, 2: 2}
    assert isinstance(failure, Failure)
    assert failure.type == "WorkerDied"
    assert "exit code -9" in failure.message


def test_workers_end_when_the_caller_stops_listening(tmp_path: Path, work: Any) -> None:
    mark = tmp_path / "pid"
    results = Processes(workers=1).map(
        work.sleep_and_tell, [(str(tmp_path / "first"), 0.0), (str(mark), 60.0)]
    )
    _, worker = next(results)
    deadline = time.monotonic() + 30
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    results.close()  # type: ignore[attr-defined]  # a generator
    assert isinstance(worker, int)
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_registered_by_name() -> None:
    assert ENGINES.create("processes", {"workers": 3}) == Processes(workers=3)
    assert ENGINES.names() == ("inline", "processes", "ray")
