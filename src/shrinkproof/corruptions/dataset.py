"""A data set whose images are corrupted as they are read."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shrinkproof.corruptions.anyimage import Form, PresetWarning, Request, corrupt_forms, form_of
from shrinkproof.errors import DataError


class CorruptedDataset:
    """A map-style data set whose images are corrupted as they are read.

    It wraps any data set with ``__len__`` and ``__getitem__``, for example one of torchvision,
    whose items are an image or a tuple or list that starts with one. An image is what `corrupt`
    takes as a single one; everything behind it passes unchanged. Item i is corrupted with index i,
    so it is the same in every epoch, order, batch and worker. To take a part, make a subset of the
    corrupted data set rather than the other way round, and the images keep their index.

    Loaders that ask for whole batches (``__getitems__``, as torch does) are served faster than
    item by item, with the same pixels. The object can be pickled if the inner data set and the
    transform can.

    Args:
        dataset: the inner data set. A transform of its own must give images that `corrupt` takes:
            resizing, cropping and ``ToTensor`` do, normalization does not.
        corruption: a registered name, for example ``fog``.
        severity: 1 to 5.
        preset: whose constants to use; see `corrupt`.
        seed: root of the randomness.
        frost_dir: folder with the original frost photos; see `corrupt`.
        jpeg85: whether each result is written and read as JPEG of quality 85; see `corrupt`.
        transform: called with each corrupted image, for example normalization.

    Raises:
        UnknownNameError: corruption or preset are not known.
        UsageError: severity, seed or ``jpeg85`` do not fit.
        DataError: the data set has no length, or the frost photos are not complete.

    Warns:
        PresetWarning: the preset was made for images of another size. Once per process, when the
            first such item is read.
    """

    def __init__(
        self,
        dataset: Any,
        corruption: str,
        *,
        severity: int,
        preset: str,
        seed: int = 0,
        frost_dir: str | Path | None = None,
        jpeg85: bool = False,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
            raise DataError(
                "a data set to corrupt must be map-style, with __len__ and __getitem__, got "
                f"{type(dataset).__name__}; pass the batches of an iterable one to corrupt()"
            )
        self.dataset = dataset
        self.transform = transform
        self._request = Request.checked(
            corruption, severity, preset, seed, frost_dir, jpeg85=jpeg85
        )
        self._warned = False

    def __len__(self) -> int:
        """Return the number of items of the inner data set."""
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        """Return an item with its image corrupted; negative positions count from the end.

        Raises:
            IndexError: there is no such item.
            DataError: its image is not of a form that can be corrupted.
        """
        (item,) = self.__getitems__([position])
        return item

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the items at several positions, with their images corrupted together.

        Raises:
            IndexError: there is no such item.
            DataError: an image is not of a form that can be corrupted.
        """
        found = [self._position(position) for position in positions]
        many = getattr(self.dataset, "__getitems__", None)
        if callable(many) and len(found) > 1:
            items = list(many(found))
        else:
            items = [self.dataset[position] for position in found]
        forms = [_form(item, position) for item, position in zip(items, found, strict=True)]
        self._warn(forms)
        images = corrupt_forms(forms, self._request, np.array(found, dtype=np.int64))
        if self.transform is not None:
            images = [self.transform(image) for image in images]
        return [_replaced(item, image) for item, image in zip(items, images, strict=True)]

    def _position(self, position: int) -> int:
        number = operator.index(position)
        count = len(self)
        if not -count <= number < count:
            raise IndexError(f"position {number} is outside a data set of {count} items")
        return number + count if number < 0 else number

    def _warn(self, forms: Sequence[Form]) -> None:
        if self._warned:
            return
        text = self._request.misfit(forms)
        if text:
            self._warned = True
            warnings.warn(text, PresetWarning, stacklevel=3)


def _form(item: Any, position: int) -> Form:
    if isinstance(item, (tuple, list)):
        if not item:
            raise DataError(f"item {position} must start with an image, got an empty one")
        item = item[0]
    try:
        form = form_of(item)
    except DataError as error:
        raise DataError(f"item {position}: {error}") from None
    if form.count != 1:
        raise DataError(f"item {position} must be one image, got a batch of {form.count}")
    return form


def _replaced(item: Any, image: Any) -> Any:
    """Return the item with another image; it keeps its type, named tuples included."""
    if hasattr(item, "_make"):
        return item._make((image, *item[1:]))
    if isinstance(item, (tuple, list)):
        return type(item)((image, *item[1:]))
    return image
