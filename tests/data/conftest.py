from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.imageset import ImageSet, hash_pixels

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)


@pytest.fixture(scope="session")
def cifar_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both published versions of CIFAR-10, written from the development data."""
    tool = DATA.parent / "tools" / "cifar10_folder.py"
    if not tool.is_file():
        pytest.skip(f"no development data: {tool} is absent")
    folder = tmp_path_factory.mktemp("cifar")
    subprocess.run([sys.executable, str(tool), str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def detection_folder() -> Path:
    """The two annotated sets of the development data."""
    folder = DATA / "detection"
    if not folder.is_dir():
        pytest.skip(f"no development data: {folder} is absent")
    return folder


def make_images(
    target: list[int],
    *,
    copies_of: dict[int, int] | None = None,
    groups: list[str] | None = None,
    seed: int = 0,
) -> ImageSet:
    """Small random images; ``copies_of`` maps a position to the position it repeats."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(target), 4, 4, 3), dtype=np.uint8)
    for position, original in (copies_of or {}).items():
        pixels[position] = pixels[original]
    return ImageSet(
        source="toys",
        images=pixels,
        shape=(4, 4),
        target=np.array(target, dtype=np.int64),
        classes=("cat", "dog", "fox"),
        index=np.arange(len(target), dtype=np.int64),
        hashes=hash_pixels(pixels),
        groups=None if groups is None else np.array(groups),
    )


@pytest.fixture(name="make_images")
def make_images_fixture():
    return make_images
