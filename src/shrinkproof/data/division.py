"""Divide images into splits and draw subsets: by hash, so nothing depends on their order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects

if TYPE_CHECKING:
    from shrinkproof.data.splits import SplitRule


def divide(images: ImageSet, rule: SplitRule) -> dict[str, ImageSet]:
    """Return split -> images, each image in at most one split.

    1. Images that must stay together form a unit: identical images, and images of one group.
    2. Units are ranked by SHA-256 of the seed and their hash (or group), so the division depends
       neither on the order of the images nor on their number of copies.
    3. Each split in turn, ``rest`` last, takes units in rank order as long as they fit. A split
       that is still short takes the smallest unit left if that brings its size nearer to the
       request, or if it would be empty otherwise.
    4. Inside a split images are in the order of the source.

    Without groups the sizes are exact unless nearly everything is a duplicate.

    Raises:
        DataError: there are not enough images, or a split would be empty.
    """
    sizes = rule.sizes
    requested = sum(size for size in sizes.values() if size != "rest")
    needed = requested + (1 if "rest" in sizes.values() else 0)
    if needed > len(images):
        raise DataError(
            f"data.split: {_sizes_text(rule)} need at least {needed} images, but {images.source} "
            f"has {len(images)}; lower the sizes"
        )
    waiting = _ranked_units(images, rule.seed)
    divided: dict[str, NDArray[np.int64]] = {}
    for name, size in sizes.items():
        if size != "rest":
            divided[name], waiting = _fill(waiting, size)
    for name, size in sizes.items():
        if size == "rest":
            divided[name] = _positions(waiting)
    for name in sizes:
        if not len(divided[name]):
            raise DataError(
                f"data.split: {name} would be empty, because {images.source} has "
                f"{len(images)} images in only {len(_ranked_units(images, rule.seed))} groups "
                f"that are kept whole; change the sizes or the grouping"
            )
    return {name: images.take(_in_source_order(images, divided[name])) for name in sizes}


def stratified(images: ImageSet, count: int) -> ImageSet:
    """Return ``count`` images with the classes in proportion, the same ones every time.

    Each class gets its exact share rounded down; the images still missing go to the classes with
    the largest remainders (Hamilton's method). Inside a class the images with the lowest hashes
    are taken; the order of the source is kept. Of images with objects, which have no single class,
    those with the lowest hashes are taken.

    Raises:
        DataError: there are fewer images.
    """
    if not 0 <= count <= len(images):
        raise DataError(f"{images.source}: a subset must have 0 to {len(images)}, got {count}")
    if isinstance(images.target, Objects):
        lowest = np.lexsort((images.index, images.hashes))[:count]
        return images.take(_in_source_order(images, lowest))
    per_class = np.bincount(images.labels, minlength=len(images.classes)).astype(np.int64)
    exact = per_class * count
    quota = exact // max(len(images), 1)
    remainders = exact - quota * len(images)
    order = np.lexsort((np.arange(len(per_class)), -remainders))
    quota[order[: count - int(quota.sum())]] += 1
    chosen = []
    for label, share in enumerate(quota.tolist()):
        members = np.flatnonzero(images.labels == label)
        by_hash = np.lexsort((images.index[members], images.hashes[members]))
        chosen.append(members[by_hash[:share]])
    positions = np.concatenate([np.empty(0, dtype=np.int64), *chosen])
    return images.take(_in_source_order(images, positions))


def _sizes_text(rule: SplitRule) -> str:
    return ", ".join(f"{name} {size}" for name, size in rule.sizes.items())


def _in_source_order(images: ImageSet, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    return positions[np.argsort(images.index[positions], kind="stable")]


def _positions(units: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *units])


def _fill(
    waiting: list[NDArray[np.int64]], size: int
) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
    taken: list[NDArray[np.int64]] = []
    left: list[NDArray[np.int64]] = []
    short = size
    for unit in waiting:
        if len(unit) <= short:
            taken.append(unit)
            short -= len(unit)
        else:
            left.append(unit)
    if short and left:
        smallest = min(range(len(left)), key=lambda i: len(left[i]))
        if not taken or len(left[smallest]) - short < short:
            taken.append(left.pop(smallest))
    return _positions(taken), left


def _ranked_units(images: ImageSet, seed: int) -> list[NDArray[np.int64]]:
    """Return the positions of each unit, units in rank order."""
    unit = _units(images)
    names = images.hashes if images.groups is None else images.groups
    ranks: dict[int, bytes] = {}
    for name, number in zip(names.tolist(), unit.tolist(), strict=True):
        rank = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
        ranks[number] = min(rank, ranks.get(number, rank))
    order = np.argsort(unit, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)
    return [members[number] for number in sorted(ranks, key=lambda number: ranks[number])]


def _units(images: ImageSet) -> NDArray[np.int64]:
    """Return for each image the number of its unit, 0, 1, ... without gaps."""
    _, by_hash = np.unique(images.hashes, return_inverse=True)
    if images.groups is None:
        return by_hash.astype(np.int64)
    # Two groups that share an identical image cannot be told apart and become one unit.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, by_group = np.unique(images.groups, return_inverse=True)
    hashes = int(by_hash.max(initial=-1)) + 1
    size = hashes + int(by_group.max(initial=-1)) + 1
    links = coo_array((np.ones(len(by_hash)), (by_hash, by_group + hashes)), shape=(size, size))
    _, component = connected_components(links, directed=False)
    _, unit = np.unique(component[by_hash], return_inverse=True)
    return np.asarray(unit, dtype=np.int64)
