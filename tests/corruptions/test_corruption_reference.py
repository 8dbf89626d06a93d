"""Against outputs of the original generator, where the development data are at hand."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shrinkproof.corruptions.apply import corrupt
from shrinkproof.records import Condition

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
REFERENCE = DATA / "reference_cifar_c"

pytestmark = pytest.mark.skipif(
    not REFERENCE.is_dir(), reason=f"no outputs of the original generator in {REFERENCE}"
)
DETERMINISTIC = ("contrast", "defocus_blur", "jpeg_compression")


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("preset", ["cifar", "imagenet"])
def test_bits_of_the_original(name: str, preset: str) -> None:
    with np.load(REFERENCE / f"deterministic_{preset}.npz") as stored:
        clean, expected = stored["clean"], stored[name]
    if preset == "imagenet":
        clean, expected = clean[None], expected[:, None]
    for severity in range(1, 6):
        result = corrupt(
            clean,
            Condition(name, severity),
            preset=preset,
            seed=0,
            index=np.arange(len(clean)),
        )
        np.testing.assert_array_equal(result, expected[severity - 1])


@pytest.mark.parametrize("name", ["fog", "gaussian_noise"])
def test_statistics_of_the_original(name: str) -> None:
    with Image.open(DATA / "cifar10" / "test.webp") as sheet:
        tiles = np.asarray(sheet.convert("RGB")).reshape(100, 32, 100, 32, 3)
    clean = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[:1000]
    with (REFERENCE / "pixel_statistics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corruption"] == name]
    assert len(rows) == 5
    for row in rows:
        condition = Condition(name, int(row["severity"]))
        result = corrupt(clean, condition, preset="cifar", seed=0, index=np.arange(1000))
        difference = result.astype(float) - clean
        found = {
            "rms": np.sqrt((difference**2).mean(axis=(1, 2, 3))),
            "shift": difference.mean(axis=(1, 2, 3)),
        }
        for quantity, values in found.items():
            # Two independent samples of 1,000 images: four standard errors of the difference.
            tolerance = 4 * float(row[f"{quantity}_sd"]) * (2 / 1000) ** 0.5
            assert abs(values.mean() - float(row[f"{quantity}_mean"])) < tolerance, quantity
            assert abs(values.std() / float(row[f"{quantity}_sd"]) - 1) < 0.2, quantity
