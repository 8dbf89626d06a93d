"""Against outputs of the original generator, where the development data are at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.presets import SETS
from shrinkproof.records import Condition

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
REFERENCE = DATA / "reference_cifar_c"
COUNT = 1000

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no outputs of the original generator in {REFERENCE}"
)

EXACT = (0, 0.0)
NEAR = {
    "defocus_blur": {"cifar": EXACT, "imagenet": EXACT},
    "zoom_blur": {"cifar": EXACT, "imagenet": (1, 1e-4)},
    "brightness": {"cifar": EXACT, "imagenet": EXACT},
    "contrast": {"cifar": EXACT, "imagenet": EXACT},
    "pixelate": {"cifar": EXACT, "imagenet": EXACT},
    "jpeg_compression": {"cifar": EXACT, "imagenet": EXACT},
    "gaussian_blur": {"cifar": (1, 1e-4), "imagenet": EXACT},
    "saturate": {"cifar": EXACT, "imagenet": EXACT},
}
"""Corruption without randomness -> preset -> largest difference in levels, and largest share of
values that differ at all."""


@pytest.mark.parametrize("severity", range(1, 6))
@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
@pytest.mark.parametrize("name", NEAR)
def test_pixels_of_the_original(name: str, preset: str, severity: int) -> None:
    with np.load(REFERENCE / f"deterministic_{preset}.npz") as stored:
        clean, expected = stored["clean"], stored[name][severity - 1]
    if preset == "imagenet":
        clean, expected = clean[None], expected[None]
    index = np.arange(len(clean))
    condition = Condition(name, severity)
    result = corrupt_batch(clean, condition, preset=preset, seed=0, index=index)
    off = np.abs(result.astype(int) - expected)
    levels, share = NEAR[name][preset]
    told = f"up to {off.max()} levels on {(off > 0).mean():.4%} of the values"
    assert off.max() <= levels, told
    assert (off > 0).mean() <= share, told


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    with Image.open(DATA / "cifar10" / "test.webp") as sheet:
        tiles = np.asarray(sheet.convert("RGB")).reshape(100, 32, 100, 32, 3)
    return tiles[:10].transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:COUNT]


def moments(result: np.ndarray, clean: np.ndarray) -> dict[str, np.ndarray]:
    """RMS difference to the clean image, mean shift and standard deviation of each image."""
    difference = result.astype(np.float32) - clean
    return {
        "rms": np.sqrt((difference**2).mean(axis=(1, 2, 3))),
        "shift": difference.mean(axis=(1, 2, 3)),
        "std": result.std(axis=(1, 2, 3)),
    }


@pytest.mark.parametrize("name", SETS["all-corruptions"])
def test_statistics_of_the_original(name: str, clean: np.ndarray) -> None:
    with (REFERENCE / "pixel_statistics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corruption"] == name]
    assert len(rows) == 5
    for row in rows:
        condition = Condition(name, int(row["severity"]))
        result = corrupt_batch(
            clean,
            condition,
            preset="cifar",
            seed=0,
            index=np.arange(COUNT),
            frost_dir=DATA / "frost",
        )
        found = moments(result, clean)
        for quantity in ("rms", "shift"):
            values = found[quantity]
            theirs = {part: float(row[f"{quantity}_{part}"]) for part in ("mean", "sd")}
            told = f"{condition}: {quantity} {values.mean():.4f} +- {values.std():.4f}, {theirs}"
            # The same images with other draws: four standard errors of the difference of two
            # samples are more than enough; the last digits of the file add 1e-4.
            tolerance = 4 * theirs["sd"] * (2 / COUNT) ** 0.5 + 1e-4
            assert abs(values.mean() - theirs["mean"]) < tolerance, told
            assert abs(values.std() - theirs["sd"]) < 0.2 * theirs["sd"] + 1e-4, told
        spread = found["std"]
        told = f"{condition}: std {spread.mean():.4f}, theirs {row['std_mean']}"
        tolerance = 4 * float(row["rms_sd"]) * (2 / COUNT) ** 0.5 + 1e-4
        assert abs(spread.mean() - float(row["std_mean"])) < tolerance, told
