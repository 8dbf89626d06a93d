"""Stored pictures, found by split, index and condition."""

from __future__ import annotations

from pathlib import Path

import pytest

from shrinkproof.records import CLEAN, Condition
from shrinkproof.results.pictures import FOLDER, INDEX, Pictures, picture_name
from shrinkproof.store import Store


def test_names_tell_split_index_and_condition() -> None:
    assert picture_name("report", 7, CLEAN) == "report-7-clean.png"
    assert picture_name("select", 12, Condition("fog", 3)) == "select-12-fog-3.png"


def test_only_pictures_of_the_index_are_found(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    for name in ("report-7-clean.png", "report-8-clean.png"):
        (tmp_path / FOLDER / name).write_bytes(name.encode())
    store = Store(tmp_path)
    assert Pictures(store).find("report", 7, "clean") is None
    store.write_json(INDEX, {"report-7-clean.png": "x", "report-9-fog-1.png": "y"})
    pictures = Pictures(store)
    assert pictures.find("report", 7, CLEAN) == b"report-7-clean.png"
    assert pictures.find("report", 8, CLEAN) is None, "nobody vouches for it"
    assert pictures.find("report", 9, "fog:1") is None, "the file is gone"
    with pytest.raises(ValueError, match="condition"):
        pictures.find("report", 7, "fog:9")


@pytest.mark.parametrize("text", ["not JSON", "[1, 2]"])
def test_a_damaged_index_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / INDEX).write_text(text)
    assert Pictures(Store(tmp_path)).find("report", 7, "clean") is None
