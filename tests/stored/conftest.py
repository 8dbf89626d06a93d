"""Small clean sets, and sets made from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.data.reading import load_images


def array_images(count: int = 7, seed: int = 0, height: int = 16, width: int = 18) -> ImageSet:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    pixels = np.ascontiguousarray(coarse.repeat(height // 4, 1).repeat(width // 6, 2))
    return ImageSet(
        source="toys",
        images=pixels,
        shape=(height, width),
        target=np.arange(count, dtype=np.int64) % 3,
        classes=("cat", "dog", "fox"),
        index=np.arange(count, dtype=np.int64),
        hashes=hash_pixels(pixels),
        preset="cifar",
    )


@pytest.fixture
def toys() -> ImageSet:
    return array_images()


NAMES = ("cat/a.b.png", "cat/a.png", "cat/z.png", "dog/10.png", "dog/2.png")


@pytest.fixture
def photos(tmp_path: Path) -> ImageSet:
    """Five files in two class folders, 20 x 24 pixels."""
    rng = np.random.default_rng(1)
    for name in NAMES:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((24, 20)).save(path)
    return load_images("imagefolder:photos", {"study": tmp_path})


def content(folder: Path) -> dict[str, bytes]:
    """Return everything in a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
