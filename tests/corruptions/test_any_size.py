"""Every corruption at full resolution, as COCO-C asks: any size of image, alone or in a batch."""

from __future__ import annotations

import numpy as np
import pytest

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.presets import preset_warning
from shrinkproof.records import Condition

NAMES = tuple(name for name in CORRUPTIONS.names() if name != "clean")
LARGE = pytest.mark.slow


def pictures(shape: tuple[int, int], count: int = 2) -> np.ndarray:
    """Blocks of random colors with some noise."""
    draws = np.random.default_rng(shape)
    cells = draws.integers(0, 246, (count, shape[0] // 7 + 1, shape[1] // 7 + 1, 3))
    blocks = cells.repeat(7, axis=1).repeat(7, axis=2)[:, : shape[0], : shape[1]]
    return (blocks + draws.integers(0, 10, blocks.shape)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "shape",
    [
        (40, 50),
        (96, 128),
        pytest.param((333, 500), marks=LARGE),
        pytest.param((480, 640), marks=LARGE),
    ],
    ids=str,
)
def test_a_batch_gives_what_each_image_gives_alone(name: str, shape: tuple[int, int]) -> None:
    images = pictures(shape)
    condition = Condition(name, 4)
    index = np.array([6, 2])
    together = corrupt_batch(images, condition, preset="imagecorruptions", seed=0, index=index)
    assert together.shape == images.shape
    assert together.dtype == np.uint8
    for position in range(len(images)):
        one = slice(position, position + 1)
        alone = corrupt_batch(
            images[one], condition, preset="imagecorruptions", seed=0, index=index[one]
        )
        np.testing.assert_array_equal(alone, together[one])
        assert (alone != images[one]).mean() > 0.05


def test_the_preset_is_made_for_images_of_several_sizes() -> None:
    assert preset_warning("imagecorruptions", None) == ""
