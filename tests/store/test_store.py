"""The run directory: atomic, checked on reading, explained when it cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.errors import StoreError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import Candidate, Cell, Condition, Failure
from shrinkproof.store import Shard, Store

CELL = Cell("00ff", "aa", "scores", "artifact", "report", Condition("fog", 3))
MEASUREMENTS = (
    Measurement("accuracy.top1", 0.1 + 0.2, "fraction", "higher", 0.25, 0.35, "percentile", 10),
    Measurement("calibration.ece", None, "fraction", "lower", reason="no images"),
)
SHARD = Shard(CELL, MEASUREMENTS, "env", {"accuracy.top1": 1}, ("a note",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run")


def test_a_cell_comes_back_exactly(store: Store) -> None:
    store.write_cell(SHARD)
    assert store.read_cell("00ff") == SHARD
    assert store.finished() == {"00ff"}
    assert store.read_cell("unknown") is None


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_cell_counts_as_missing(store: Store, keep: float) -> None:
    store.write_cell(SHARD)
    path = store.path / "cells" / "00ff.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert store.read_cell("00ff") is None


def test_a_changed_number_counts_as_missing(store: Store) -> None:
    store.write_cell(SHARD)
    path = store.path / "cells" / "00ff.jsonl"
    path.write_text(path.read_text().replace("0.25", "0.26"))
    assert store.read_cell("00ff") is None


def test_a_cell_under_another_name_counts_as_missing(store: Store) -> None:
    store.write_cell(SHARD)
    (store.path / "cells" / "00ff.jsonl").rename(store.path / "cells" / "11ee.jsonl")
    assert store.read_cell("11ee") is None


def test_success_forgets_the_failure(store: Store) -> None:
    store.write_failure("00ff", Failure("ValueError", "no"), label="x")
    assert store.failures()["00ff"]["message"] == "no"
    store.write_cell(SHARD)
    assert store.failures() == {}


def test_predictions_come_back_exactly(store: Store) -> None:
    rng = np.random.default_rng(0)
    predictions = ClassificationPredictions(
        logits=rng.normal(size=(7, 3)).astype(np.float32),
        target=rng.integers(0, 3, 7),
        index=np.arange(7) * 5,
        groups=np.array(list("aabbccc")),
        slices={"night": np.array(["yes", "no"] * 3 + ["yes"])},
    )
    store.write_predictions("00ff", predictions)
    again = store.read_predictions("00ff")
    assert again is not None
    for name in ("logits", "target", "index", "groups"):
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
    np.testing.assert_array_equal(again.slices["night"], predictions.slices["night"])
    assert store.read_predictions("other") is None


@pytest.mark.parametrize("name", ["logits.npy", "samples.parquet"])
def test_damaged_predictions_count_as_missing(store: Store, name: str) -> None:
    predictions = ClassificationPredictions(
        np.zeros((4, 2), np.float32), np.zeros(4, np.int64), np.arange(4)
    )
    store.write_predictions("00ff", predictions)
    path = store.path / "predictions" / "00ff" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert store.read_predictions("00ff") is None


def test_plan_comes_back_exactly(store: Store) -> None:
    candidates = (
        Candidate("aa", "net", "baseline", role="baseline"),
        Candidate("bb", "net", "int8", 1, control="aa", steps=({"name": "x", "fields": {}},)),
    )
    store.write_plan(candidates, (CELL,))
    assert Store.open(store.path).read_plan() == (candidates, (CELL,))


def test_a_damaged_plan_is_named(store: Store) -> None:
    store.write_plan((), (CELL,))
    (store.path / "plan.jsonl").write_text('{"cell": {"key"')
    with pytest.raises(StoreError, match=r"plan\.jsonl is damaged.*run the study again"):
        store.read_plan()


def test_open_refuses_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"not a run directory.*shrinkproof run"):
        Store.open(tmp_path)


def test_a_candidate_is_complete_or_absent(store: Store) -> None:
    candidate = Candidate("aa", "net", "baseline", role="baseline")

    def interrupted(folder: Path) -> dict[str, int]:
        (folder / "weights").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write_candidate(candidate, interrupted)
    assert not store.has_candidate("aa")
    assert list((store.path / "candidates").iterdir()) == []

    def complete(folder: Path) -> dict[str, int]:
        (folder / "weights").write_text("all")
        return {"size": 3}

    store.write_candidate(candidate, complete)
    assert store.has_candidate("aa")
    assert (store.candidate("aa") / "weights").read_text() == "all"


def test_a_candidate_of_a_faster_process_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = Candidate("aa", "net", "baseline", role="baseline")

    def writing(text: str):
        def write(folder: Path) -> dict[str, int]:
            (folder / "weights").write_text(text)
            return {}

        return write

    rename = Path.rename

    def racing(self: Path, target: Path) -> Path:
        if self.is_dir():
            monkeypatch.undo()
            store.write_candidate(candidate, writing("first"))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", racing)
    store.write_candidate(candidate, writing("second"))
    assert (store.candidate("aa") / "weights").read_text() == "first"
    store.write_candidate(candidate, writing("third"))
    assert (store.candidate("aa") / "weights").read_text() == "first"
    assert [p.name for p in (store.path / "candidates").iterdir()] == ["aa"]
    (store.candidate("aa") / "complete.json").unlink()
    store.write_candidate(candidate, writing("repaired"))
    assert (store.candidate("aa") / "weights").read_text() == "repaired"


def test_what_killed_writers_left_is_swept_after_a_day(store: Store) -> None:
    old, young = store.path / "cells" / ".tmp-1-old", store.path / "cells" / ".tmp-2-young"
    folder = store.path / "candidates" / ".tmp-3-old"
    folder.mkdir()
    old.write_text("half")
    young.write_text("half")
    for path in (old, folder):
        os.utime(path, (0, 0))
    Store.create(store.path)
    assert not old.exists()
    assert not folder.exists()
    assert young.exists()


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EROFS, "read-only disk"),
        (errno.EACCES, "may not be written"),
    ],
)
def test_a_disk_that_refuses_is_explained_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, code: int, advice: str
) -> None:
    store.write_cell(SHARD)

    def refuse(handle: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=advice):
        store.write_cell(Shard(CELL, (), "other", {}))
    monkeypatch.undo()
    assert store.read_cell("00ff") == SHARD  # the old one is still complete
    assert [p.name for p in (store.path / "cells").iterdir()] == ["00ff.jsonl"]
