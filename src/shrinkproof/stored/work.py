"""What a worker does for a set: corrupt some images and store them."""

from __future__ import annotations

import functools
import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.records import Condition
from shrinkproof.stored.formats import ArrayFormat, TreeFormat, format_of

PLAN: Final = "plan.json"
CLEAN: Final = "clean.npy"


@dataclass(frozen=True, slots=True)
class Unit:
    """Some images under one condition; small, for it goes through a pipe.

    Attributes:
        root: where pieces, the plan and the clean images are.
        condition: what to do to the images.
        start: position of the first image.
        stop: position after the last one.
        known: checksum that an earlier worker told; empty where there was none.
    """

    root: str
    condition: Condition
    start: int
    stop: int
    known: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Workplace:
    images: NDArray[np.uint8]
    format: ArrayFormat | TreeFormat
    settings: dict[str, Any]


def make(unit: Unit) -> str:
    """Store the images of a unit, unless they are there; return their checksum.

    Raises:
        StoreError: they cannot be written.
    """
    place = _workplace(unit.root)
    root = Path(unit.root)
    if unit.known and unit.known == place.format.read(root, unit.condition, unit.start, unit.stop):
        return unit.known
    index = np.arange(unit.start, unit.stop, dtype=np.int64)
    images = corrupt_batch(
        place.images[unit.start : unit.stop], unit.condition, index=index, **place.settings
    )
    return place.format.write(root, unit.condition, unit.start, images)


@functools.lru_cache(maxsize=1)
def _workplace(root: str) -> _Workplace:
    if multiprocessing.parent_process() is not None:
        import cv2

        cv2.setNumThreads(1)  # the workers already fill the cores
    plan = json.loads(Path(root, PLAN).read_text("utf-8"))
    frost_dir = Path(plan["frost_dir"]) if plan["frost_dir"] else None
    return _Workplace(
        images=np.load(Path(root, CLEAN), mmap_mode="r", allow_pickle=False),
        format=format_of(plan["format"]),
        settings={"preset": plan["preset"], "seed": plan["seed"], "frost_dir": frost_dir},
    )


def forget_workplace() -> None:
    """Drop what this process keeps of a set."""
    _workplace.cache_clear()
