"""What a set must remember of its source so that stored images find their clean ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError

from .conftest import NAMES


def test_subsets_keep_names_and_the_number_of_the_source(photos: ImageSet, toys: ImageSet) -> None:
    assert photos.files is not None
    assert photos.files.tolist() == list(NAMES)
    part = photos.take(np.array([4, 1, 0])).take(np.array([2, 0]))
    assert part.files is not None
    assert part.files.tolist() == [NAMES[0], NAMES[4]]
    assert (len(part), part.total, photos.total) == (2, 5, 5)
    assert toys.files is None
    assert toys.take(np.array([1])).files is None


def test_names_are_not_part_of_the_identity_of_images(photos: ImageSet) -> None:
    assert replace(photos, files=None).fingerprint == photos.fingerprint


def test_as_many_names_as_images(photos: ImageSet) -> None:
    with pytest.raises(DataError, match=r"files must have one value per image \(5\), got 4"):
        replace(photos, files=photos.files[:4] if photos.files is not None else None)
