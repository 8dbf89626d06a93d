"""Into how many parts a pass is divided."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.data.imageset import ImageSet
from shrinkproof.predictions import Objects
from shrinkproof.study.work.parts import PIXELS, parts_of


def images(count: int, side: int, classes: int = 10) -> ImageSet:
    return ImageSet(
        source="made up",
        images=np.empty((0, side, side, 3), np.uint8),
        shape=(side, side),
        target=np.zeros(count, np.int64),
        classes=tuple(map(str, range(classes))),
        index=np.arange(count),
        hashes=np.full(count, ""),
    )


def scenes(sizes: list[tuple[int, int]]) -> ImageSet:
    empty = Objects(
        boxes=np.empty((0, 4)),
        label=np.empty(0, np.int64),
        offsets=np.zeros(len(sizes) + 1, np.int64),
        crowd=np.empty(0, bool),
        area=np.empty(0),
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
    )
    count = len(sizes)
    return ImageSet(
        source="made up",
        images=np.empty((0, 1, 1, 3), np.uint8),
        shape=None,
        target=empty,
        classes=("a",),
        index=np.arange(count),
        hashes=np.full(count, ""),
    )


@pytest.mark.parametrize(
    ("count", "side", "batch", "classes", "expected"),
    [
        (10_000, 32, 256, 10, [10_000]),
        (131_072, 32, 256, 100, [131_072]),
        (131_073, 32, 256, 10, [65_792, 65_281]),  # 257 batches of 256
        (5_000, 224, 16, 1_000, [2_512, 2_488]),
        (50_000, 32, 256, 1_000, [16_896, 16_640, 16_464]),  # by the logits
        (3, 40_000, 2, 10, [2, 1]),  # no part is smaller than a batch
        (0, 32, 256, 10, [0]),
    ],
)
def test_parts_by_hand(
    count: int, side: int, batch: int, classes: int, expected: list[int]
) -> None:
    parts = parts_of(images(count, side, classes), batch)
    assert [part.stop - part.start for part in parts] == expected
    assert str(parts[0]) == f"part 1/{len(expected)}"


@settings(max_examples=40)
@given(st.integers(1, 3000), st.integers(1, 64), st.integers(1, 40_000))
def test_parts_hold_every_image_once_and_are_bounded(count: int, batch: int, pixels: int) -> None:
    parts = parts_of(images(count, 8), batch, pixels=pixels)
    edges = [part.start for part in parts] + [parts[-1].stop]
    assert edges[0] == 0
    assert edges[-1] == count
    assert all(start < stop for start, stop in pairwise(edges))
    assert all(edge % batch == 0 for edge in edges[:-1])
    assert all(64 * (p.stop - p.start) < pixels + 64 * batch for p in parts)
    assert [part.index for part in parts] == list(range(len(parts)))
    assert {(part.parts, part.count) for part in parts} == {(len(parts), count)}


def test_scenes_are_counted_by_their_size_and_divided_where_batches_begin() -> None:
    sizes = [(10, 10)] * 5 + [(20, 20)] * 3 + [(10, 10)] * 2
    # Batches of 4 begin at 0, 4, 5 (another size), 8; 1,900 pixels in all.
    found = parts_of(scenes(sizes), 4, pixels=700)
    assert [(part.start, part.stop) for part in found] == [(0, 8), (8, 10)]
    assert len(parts_of(scenes(sizes), 4)) == 1
    assert len(parts_of(scenes([]), 4)) == 1


def test_the_limit_is_what_the_documentation_says() -> None:
    assert PIXELS // 224**2 == 2674
    assert PIXELS // 32**2 == 131_072
