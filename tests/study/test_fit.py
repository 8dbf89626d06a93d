"""Images that a model cannot have been made for are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.errors import ModelError
from shrinkproof.models.loaded import LoadedModel, Preprocess
from shrinkproof.study.work.loading import check_fit

PIXELS = np.zeros((2, 8, 8, 3), dtype=np.uint8)
IMAGES = ImageSet(
    source="squares",
    images=PIXELS,
    shape=(8, 8),
    target=np.array([0, 1]),
    classes=("a", "b"),
    index=np.arange(2),
    hashes=hash_pixels(PIXELS),
)
MODEL = LoadedModel(nn.Identity(), Preprocess(), (3, 8, 8), 2, "", None)


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_images_that_fit_after_resizing_are_taken(size: tuple[int, int] | None) -> None:
    check_fit(replace(MODEL, preprocess=Preprocess(size=size)), IMAGES, "model")


def test_images_that_resizing_makes_too_large_are_refused() -> None:
    model = replace(MODEL, preprocess=Preprocess(size=(16, 16)))
    with pytest.raises(ModelError, match="must be 8x8 pixels, got 16x16 after resizing"):
        check_fit(model, IMAGES, "model")
