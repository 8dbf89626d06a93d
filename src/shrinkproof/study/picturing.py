"""Pictures of the images that the page shows, made once and kept with the run."""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
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
from shrinkproof.results.pictures import ENDINGS, FOLDER, INDEX, Pictures, picture_name
from shrinkproof.store import Store
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.progress import Progress
from shrinkproof.summary.detection.pictures import IMAGES, SCENES
from shrinkproof.summary.exemplars import EXEMPLARS

VERSION: Final = 1
"""Raise it when pictures are made in another way: stored ones are then made again."""

LONGEST: Final = 96
"""Pixels of the longest side of a picture; larger images are reduced, smaller ones kept."""

LONGEST_WITH_BOXES: Final = 320
"""The same of pictures on which boxes are drawn."""

QUALITY: Final = 80
"""Quality of pictures on which boxes are drawn, of 100."""

MOST: Final = 400
"""Pictures of a run; with more candidates the last ones go without."""

Shot = tuple[str, int, Condition]
"""Split, index of the image in its source, condition."""


@dataclass(frozen=True, slots=True)
class Look:
    """How pictures are kept.

    Attributes:
        longest: pixels of the longest side.
        ending: of their files.
    """

    longest: int
    ending: str

    def name(self, shot: Shot) -> str:
        """Return the file name of a picture."""
        return picture_name(*shot, self.ending)


PLAIN: Final = Look(LONGEST, ENDINGS[0])
"""Classified images, kept as PNG."""

WITH_BOXES: Final = Look(LONGEST_WITH_BOXES, ENDINGS[1])
"""Images on which boxes are drawn, kept as WebP: PNG needs about ten times the bytes."""


def keep_pictures(results: Results, inputs: Inputs, progress: Progress) -> None:
    """Make the pictures that the run lacks and remove those that nobody shows any more.

    Each image hit hardest has one under clean conditions and one under the mildest condition in
    which it is lost; of detectors, under the conditions in which its boxes are shown. Pictures that
    cannot be made cost the run nothing but a warning.

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


def wanted_with_boxes(scenes: Iterable[Json], hits: Iterable[Json]) -> tuple[Shot, ...]:
    """Return which pictures the exhibits of detectors need, each once.

    Args:
        scenes: images side by side, clean and corrupted.
        hits: images hit hardest, each under one condition.
    """
    found: dict[Shot, None] = {}
    for exhibit in scenes:
        for image in exhibit["images"]:
            places = ["clean", *([image["condition"]] if image["condition"] else [])]
            for at in map(Condition.parse, places):
                found[exhibit["split"], image["index"], at] = None
    for exhibit in hits:
        for image in exhibit["images"]:
            at = Condition.parse(image["condition"])
            found[exhibit["split"], image["index"], at] = None
    return tuple(found)[:MOST]


def _wanted(results: Results) -> tuple[tuple[Shot, ...], Look]:
    if results.spec.task == "detection":
        found = wanted_with_boxes(results.exhibits(SCENES), results.exhibits(IMAGES))
        return found, WITH_BOXES
    return wanted_of(results.exhibits(EXEMPLARS)), PLAIN


def _keep(results: Results, inputs: Inputs, progress: Progress) -> None:
    store = results.store
    wanted, look = _wanted(results)
    known = Pictures(store).known
    if not wanted and not known:
        return
    names = dict(_identities(results, wanted, look))
    missing = [shot for shot in wanted if not _is_there(store, look.name(shot), names, known)]
    if missing:
        _make(store, _Worlds(inputs), missing, look, progress)
    if names != known:
        store.write_json(INDEX, names)
        for path in (store.path / FOLDER).iterdir():
            if path.suffix in ENDINGS and path.name not in names:
                path.unlink(missing_ok=True)


def _is_there(store: Store, name: str, wanted: Mapping[str, str], known: Mapping[str, str]) -> bool:
    return known.get(name) == wanted[name] and (store.path / FOLDER / name).is_file()


def _identities(results: Results, wanted: Iterable[Shot], look: Look) -> Iterator[tuple[str, str]]:
    """Yield the name of each picture and what decides about its pixels.

    The key of a measured cell stands for the images and for everything that corrupted them.
    """
    cells: dict[tuple[str, Condition], str] = {}
    for cell in results.cells:
        if cell.evaluator == "scores":
            cells.setdefault((cell.split, cell.condition), cell.key)
    for split, index, condition in wanted:
        parts = [VERSION, look.longest, index, cells[split, condition]]
        yield look.name((split, index, condition)), key_of("picture", parts)


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


def _make(
    store: Store, worlds: _Worlds, missing: list[Shot], look: Look, progress: Progress
) -> None:
    start = time.perf_counter()
    groups: dict[tuple[str, Condition], list[int]] = {}
    for split, index, condition in missing:
        groups.setdefault((split, condition), []).append(index)
    progress.begin("picture", len(groups))
    with explained(store.path / FOLDER):
        (store.path / FOLDER).mkdir(exist_ok=True)
    for (split, condition), indices in groups.items():
        for index, pixels in _pixels(worlds, split, condition, indices):
            path = store.path / FOLDER / look.name((split, index, condition))
            store.write_bytes(path, _encoded(pixels, look))
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


def _encoded(image_HW3: NDArray[np.uint8], look: Look) -> bytes:
    return thumbnail(image_HW3) if look == PLAIN else backdrop(image_HW3)


def thumbnail(image_HW3: NDArray[np.uint8]) -> bytes:
    """Return an image as PNG, reduced where its longest side has more than 96 pixels."""
    return _written(image_HW3, LONGEST, "PNG", optimize=True)


def backdrop(image_HW3: NDArray[np.uint8]) -> bytes:
    """Return an image as WebP, reduced where its longest side has more than 320 pixels."""
    return _written(image_HW3, LONGEST_WITH_BOXES, "WEBP", quality=QUALITY, method=6)


def _written(image_HW3: NDArray[np.uint8], longest: int, form: str, **settings: int) -> bytes:
    from PIL import Image

    picture = Image.fromarray(image_HW3)
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, form, **settings)
    return file.getvalue()
