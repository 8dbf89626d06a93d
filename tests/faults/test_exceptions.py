"""What plugins and compiled libraries may throw: a failure of one item, whatever it is."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.engines.inline import Inline, attempt
from shrinkproof.engines.processes import Processes
from shrinkproof.records import Failure

ENGINES = [
    pytest.param(Inline(), id="inline"),
    pytest.param(Processes(workers=2), id="processes"),
]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module of the work, on the path that workers inherit."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return importlib.import_module("throwing")


@pytest.mark.parametrize("engine", ENGINES)
def test_whatever_is_thrown_is_a_failure_of_that_item_only(engine: Any, work: Any) -> None:
    wanted = {
        "exit": ("SystemExit", "called exit(0)"),
        "panic": ("Panic", "index out of bounds"),
        "memory": ("MemoryError", "MemoryError without a message"),
        "speechless": ("Speechless", "whose message cannot be read (RuntimeError)"),
        "unpicklable": ("Unpicklable", "cannot travel"),
        "recursion": ("RecursionError", "recursion"),
        "surrogate": ("ValueError", "\udcff"),
        "fine": None,
    }
    found = dict(engine.map(work.throw, list(wanted)))
    assert found.keys() == wanted.keys()
    assert found.pop("fine") == "fine"
    for name, failure in found.items():
        assert isinstance(failure, Failure), name
        kind, words = wanted[name]  # type: ignore[misc]
        assert (failure.type, words in failure.message) == (kind, True), failure


def test_results_that_cannot_be_sent_are_failures(work: Any) -> None:
    found = dict(Processes(workers=1).map(work.give, ["lambda", "unreadable", "fine"]))
    assert found.pop("fine") == "fine"
    assert all(isinstance(failure, Failure) for failure in found.values())
    assert "pickle" in found["lambda"].message
    assert "no reader" in found["unreadable"].message


def test_a_worker_that_dies_while_it_sends_costs_one_retry(tmp_path: Path, work: Any) -> None:
    found = dict(Processes(workers=1).map(work.die_while_sending, [str(tmp_path / "mark")]))
    assert list(found.values()) == ["whole"]


def test_an_interrupt_is_no_failure() -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, 1)
