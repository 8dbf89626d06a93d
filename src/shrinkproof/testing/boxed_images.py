"""Conformance of images with annotated boxes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError
from shrinkproof.predictions import Objects


def check_boxed_images(read: Callable[[], ImageSet], *, batch: int = 8) -> None:
    """Check what a data source with boxes returns.

    Reading twice gives the same images; boxes lie inside their image, whose pixels have the noted
    size; areas are above 0; batches have images of one size and cover all in order; a part of the
    images keeps its boxes.

    Args:
        read: reads the images.
        batch: images per batch.

    Raises:
        AssertionError: a rule is broken; the sentence names the source and the rule.
    """
    images, again = read(), read()
    name = images.source
    try:
        objects = images.objects
    except DataError as error:
        raise AssertionError(f"{name}: must have boxes, got {error}") from error
    assert len(images), f"{name}: must have images"
    assert images.fingerprint == again.fingerprint, f"{name}: reading twice must give the same"
    _check_objects(name, objects)
    _check_batches(name, images, batch)
    positions = np.arange(len(images), dtype=np.int64)[::-2]
    part = images.take(positions)
    assert part.objects.tobytes() == objects[positions].tobytes(), (
        f"{name}: images that are taken must keep their boxes"
    )


def _check_objects(name: str, objects: Objects) -> None:
    if not len(objects.label):
        return
    height, width = objects.sizes[objects.image].T
    is_inside = (objects.boxes[:, :2] >= 0).all(axis=1)
    is_inside &= (objects.boxes[:, 2] <= width) & (objects.boxes[:, 3] <= height)
    assert is_inside.all(), (
        f"{name}: boxes must lie inside their images, got "
        f"{objects.boxes[np.argmin(is_inside)].tolist()}"
    )
    assert (objects.area > 0).all(), f"{name}: areas of objects must be above 0"


def _check_batches(name: str, images: ImageSet, batch: int) -> None:
    seen = []
    for positions, pixels in images.batches(batch):
        assert pixels.dtype == np.uint8, f"{name}: images must be uint8, got {pixels.dtype}"
        assert len(positions) == len(pixels) <= batch, f"{name}: batches must have {batch} at most"
        sizes = images.objects.sizes[positions]
        assert (sizes == pixels.shape[1:3]).all(), (
            f"{name}: pixels must have the noted sizes, {sizes[0].tolist()}, got "
            f"{list(pixels.shape[1:3])}"
        )
        seen += positions.tolist()
    assert seen == list(range(len(images))), f"{name}: batches must cover all images in order"
