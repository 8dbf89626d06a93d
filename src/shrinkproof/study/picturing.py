"""Small pictures of the images that compression hit hardest, made once and kept with the run."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained
from shrinkproof.data.imageset import ImageSet
from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.world import World
from shrinkproof.records import Condition, Failure, Json, key_of
from shrinkproof.results import Results
from shrinkproof.results.hits import mildest
from shrinkproof.results.pictures import FOLDER, INDEX, Pictures, picture_name
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.progress import Progress
from shrinkproof.summary.exemplars import EXEMPLARS

VERSION: Final = 1
"""Raise it when pictures are made in another way: stored ones are then made again."""

LONGEST: Final = 96
"""Pixels of the longest side of a picture; larger images are reduced, smaller ones kept."""

MOST: Final = 400
"""Pictures of a run; with more candidates the last ones go without."""

Shot = tuple[str, int, Condition]
"""Split, index of the image in its source, condition."""


def keep_pictures(results: Results, inputs: Inputs, progress: Progress) -> None:
    """Make the pictures that the run lacks and remove those that nobody shows any more.

    Each image hit hardest has one under clean conditions and one under the mildest condition in
    which it is lost. Pictures that cannot be made cost the run nothing but a warning.

    Args:
        results: the measured run.
        inputs: the study, with the images.
        progress: who is told.
    """
    outcome = attempt(lambda found: _keep(found, inputs, progress), results)
    if isinstance(outcome, Failure):
        progress.warn(f"pictures of the images hit hardest: {outcome.message}")


def wanted_of(exemplars: Iterable[Json]) -> tuple[Shot, ...]:
    """Return which pictures some exhibits of the images hit hardest need, each once."""
    found: dict[Shot, None] = {}
    for exhibit in exemplars:
        for image in exhibit["images"]:
            shots = [(exhibit["split"], image["index"], at) for at in mildest(image["under"])]
            if len(found.keys() | set(shots)) <= MOST:
                found |= dict.fromkeys(shots)
    return tuple(found)


def _keep(results: Results, inputs: Inputs, progress: Progress) -> None:
    store = results.store
    wanted = wanted_of(results.exhibits(EXEMPLARS))
    known = Pictures(store).known
    if not wanted and not known:
        return
    names = dict(_identities(results, wanted))
    missing = [shot for shot in wanted if not _is_there(store, picture_name(*shot), names, known)]
    if missing:
        _make(store, _Worlds(inputs), missing, progress)
    if names != known:
        store.write_json(INDEX, names)
        for path in (store.path / FOLDER).glob("*.png"):
            if path.name not in names:
                path.unlink(missing_ok=True)


def _is_there(store: Store, name: str, wanted: Mapping[str, str], known: Mapping[str, str]) -> bool:
    return known.get(name) == wanted[name] and (store.path / FOLDER / name).is_file()


def _identities(results: Results, wanted: Iterable[Shot]) -> Iterator[tuple[str, str]]:
    """Yield the name of each picture and what decides about its pixels.

    The key of a measured cell stands for the images and for everything that corrupted them.
    """
    cells: dict[tuple[str, Condition], str] = {}
    for cell in results.cells:
        if cell.evaluator == "scores":
            cells.setdefault((cell.split, cell.condition), cell.key)
    for split, index, condition in wanted:
        parts = [VERSION, LONGEST, index, cells[split, condition]]
        yield picture_name(split, index, condition), key_of("picture", parts)


class _Worlds:
    """The images of the splits, and what shows them under corrupted conditions; read once.

    Args:
        inputs: the study.
    """

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs
        self._sets: dict[str, ImageSet] = {}
        self._worlds: dict[str, World] = {}

    def images(self, split: str) -> ImageSet:
        """Return the images of a split."""
        if split not in self._sets:
            self._sets |= self._inputs.splits([split]).sets
        return self._sets[split]

    def world(self, split: str) -> World:
        """Return what shows them under corrupted conditions."""
        if split not in self._worlds:
            self._worlds[split] = self._inputs.world(self.images(split))
        return self._worlds[split]


def _make(store: Store, worlds: _Worlds, missing: list[Shot], progress: Progress) -> None:
    start = time.perf_counter()
    groups: dict[tuple[str, Condition], list[int]] = {}
    for split, index, condition in missing:
        groups.setdefault((split, condition), []).append(index)
    progress.begin("picture", len(groups))
    with explained(store.path / FOLDER):
        (store.path / FOLDER).mkdir(exist_ok=True)
    for (split, condition), indices in groups.items():
        for index, pixels in _pixels(worlds, split, condition, indices):
            path = store.path / FOLDER / picture_name(split, index, condition)
            store.write_bytes(path, thumbnail(pixels))
        progress.advance(f"{condition} on {split}")
    progress.end("picture", time.perf_counter() - start)


def _pixels(
    worlds: _Worlds, split: str, condition: Condition, indices: list[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield images as they were measured: pixels depend on their index and condition alone."""
    images = worlds.images(split)
    some = images.take(np.flatnonzero(np.isin(images.index, indices)).astype(np.int64))
    size = max(1, len(some))
    batches = (
        some.batches(size)
        if condition.is_clean
        else worlds.world(split).batches(some, condition, size)
    )
    for positions, shown in batches:
        yield from zip(some.index[positions].tolist(), shown, strict=True)


def thumbnail(image_HW3: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG, reduced where its longest side has more than 96 pixels."""
    from PIL import Image

    picture = Image.fromarray(image_HW3)
    if max(picture.size) > LONGEST:
        picture.thumbnail((LONGEST, LONGEST), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()
