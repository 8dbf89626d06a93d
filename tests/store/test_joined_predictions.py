"""Predictions that come in parts, or that are many: what is on the disk, and what comes back."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.errors import StoreError
from shrinkproof.predictions import ClassificationPredictions, DetectionPredictions, half
from shrinkproof.store import Part, Store

from ..random_boxes import random_boxes

COUNT = 23
CUTS = (0, 8, 16, COUNT)
PARTS = tuple(Part(i, 3, CUTS[i], CUTS[i + 1], COUNT) for i in range(3))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "run")


@pytest.fixture
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "LARGE", 50)


def logits() -> ClassificationPredictions:
    rng = np.random.default_rng(0)
    return ClassificationPredictions(
        logits=(9 * rng.normal(size=(COUNT, 5))).astype(np.float32),
        target=rng.integers(0, 5, COUNT),
        index=np.arange(COUNT) * 7,
        groups=np.array([f"g{i // 3}" for i in range(COUNT)]),
        slices={"night": np.array(["yes", "no, but late"] * 11 + ["no"])},
    )


def boxes() -> DetectionPredictions:
    found = random_boxes(0, images=COUNT)
    return replace(
        found,
        groups=np.array([f"g{i // 3}" for i in range(COUNT)]),
        slices={"night": np.array(["yes", "no, but late"] * 11 + ["no"])},
    )


def of(found: Any, part: Part) -> Any:
    return found.take(np.arange(part.start, part.stop))


def write_all(store: Store, found: Any) -> None:
    for part in PARTS:
        store.parts("k").write(part, of(found, part), {"machine": {"number": part.index}})


def files(store: Store, key: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (store.path / "predictions" / key).iterdir()}


def same(first: Any, second: Any) -> None:
    for each in fields(first):
        one, other = getattr(first, each.name), getattr(second, each.name)
        if each.name == "slices":
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])
        elif each.name == "objects":
            same(one, other)
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [logits, boxes])
def test_joined_parts_are_the_files_of_all_images(store: Store, make: Any) -> None:
    store.write_predictions("whole", make())
    write_all(store, make())
    assert store.in_parts() == {"k"}
    assert not store.has_whole_predictions("k")
    assert store.join_parts("k", PARTS) == [{"machine": {"number": i}} for i in range(3)]
    assert store.has_whole_predictions("k")
    assert files(store, "k") == files(store, "whole")
    same(store.read_predictions("k"), make())
    store.parts("k").forget()
    assert store.in_parts() == frozenset()


@pytest.mark.usefixtures("few_are_many")
def test_many_logits_come_back_rounded_in_the_same_way_from_parts(store: Store) -> None:
    store.write_predictions("whole", logits())
    write_all(store, logits())
    store.join_parts("k", PARTS)
    assert store.is_rounded("k")
    assert files(store, "k") == files(store, "whole")
    same(store.read_predictions("k"), half.as_stored(logits()))
    assert np.load(store.path / "predictions" / "k" / "logits.npy").nbytes == COUNT * (4 + 2 * 5)


def test_few_logits_are_as_numpy_writes_them(store: Store) -> None:
    store.write_predictions("k", logits())
    expected = io.BytesIO()
    np.save(expected, logits().logits)
    assert files(store, "k")["logits.npy"] == expected.getvalue()
    assert not store.is_rounded("k")
    assert not store.is_rounded("other")


@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("name", ["logits.npy", "samples.parquet"])
def test_damaged_rounded_logits_count_as_missing(store: Store, name: str) -> None:
    store.write_predictions("k", logits())
    path = store.path / "predictions" / "k" / name
    path.write_bytes(path.read_bytes()[:-20])
    assert store.read_predictions("k") is None
    assert not store.has_whole_predictions("k")


@pytest.mark.parametrize("make", [logits, boxes])
def test_a_missing_part_joins_nothing(store: Store, make: Any) -> None:
    write_all(store, make())
    (store.path / "parts" / "k" / "8-16.npz").unlink()
    assert not store.parts("k").has(PARTS[1])
    assert store.join_parts("k", PARTS) is None
    assert store.read_predictions("k") is None
    assert not list(store.path.glob("predictions/k/.tmp-*"))


@pytest.mark.parametrize("make", [logits, boxes])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_a_damaged_part_is_removed_and_named(store: Store, make: Any, share: float) -> None:
    write_all(store, make())
    path = store.path / "parts" / "k" / "8-16.npz"
    content = bytearray(path.read_bytes())
    middle = int(share * len(content))
    content[middle : middle + 40] = bytes(255 - b for b in content[middle : middle + 40])
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"8-16\.npz was damaged and is removed; run the same"):
        store.join_parts("k", PARTS)
    assert not path.exists()
    assert store.parts("k").has(PARTS[0])
    assert store.read_predictions("k") is None


@pytest.mark.parametrize("keep", [0, 30, -1])
def test_a_part_that_is_cut_off_counts_as_missing(store: Store, keep: int) -> None:
    write_all(store, logits())
    path = store.path / "parts" / "k" / "0-8.npz"
    path.write_bytes(path.read_bytes()[:keep])
    assert not store.parts("k").has(PARTS[0])


def test_a_part_of_other_images_is_refused(store: Store) -> None:
    write_all(store, logits())
    store.parts("k").write(PARTS[0], of(logits(), PARTS[2]), {})
    with pytest.raises(StoreError, match=r"0-8\.npz was damaged"):
        store.join_parts("k", PARTS)


@pytest.mark.parametrize("make", [logits, boxes])
def test_a_full_disk_says_how_much_is_needed_and_leaves_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match=r"predictions/k.* disk is full.* It needs 0\.0 MB\."):
        store.write_predictions("k", make())
    with pytest.raises(StoreError, match=r"parts/k/0-8\.npz cannot .* It needs 0\.0 MB\."):
        store.parts("k").write(PARTS[0], of(make(), PARTS[0]), {})
    monkeypatch.undo()
    assert [p for p in store.path.rglob("*") if p.is_file()] == []
