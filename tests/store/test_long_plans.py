"""Plans with more lines than are parsed together."""

from __future__ import annotations

from pathlib import Path

import pytest

from shrinkproof.errors import StoreError
from shrinkproof.records import Candidate, Cell, Condition
from shrinkproof.store import Store

CANDIDATES = [Candidate(f"c{number}", "net", f"recipe{number}") for number in range(3)]
CELLS = [
    Cell(f"{number:016x}", "c0", "scores", "artifact", "report", Condition("fog", 1 + number % 5))
    for number in range(2_300)
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path)
    store.write_plan(CANDIDATES, CELLS)
    return store


def test_all_lines_of_a_long_plan_come_back_in_order(store: Store) -> None:
    assert store.read_plan() == (tuple(CANDIDATES), tuple(CELLS))
    assert store.read_candidates() == tuple(CANDIDATES)


@pytest.mark.parametrize("line", [1, 1_000, 1_001, 2_302])
def test_a_damaged_line_anywhere_is_an_error(store: Store, line: int) -> None:
    file = store.path / "plan.jsonl"
    lines = file.read_text().splitlines()
    lines[line] = lines[line][:-10]
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(StoreError, match=r"plan\.jsonl is damaged"):
        store.read_plan()


def test_equal_spellings_of_a_condition_are_one_object() -> None:
    assert Condition.parse("fog:3") is Condition.parse("fog:3")
    assert Condition.parse("fog:3") == Condition("fog", 3)


def test_a_wrong_spelling_is_refused_every_time() -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="write 'clean' or 'name:severity', got 'fog:x'"):
            Condition.parse("fog:x")
