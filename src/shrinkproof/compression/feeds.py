"""Whatever a caller has as images, as the batches of preprocessed tensors that steps read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.errors import DataError, UsageError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Feed
from shrinkproof.training.feed import ImageFeed

if TYPE_CHECKING:
    from torch import Tensor

_SAMPLE: Final = 256
"""Images that stand for all in a fingerprint."""

_KINDS: Final = (
    "an ImageSet with preprocess, a pair (inputs, targets), a torch Dataset or DataLoader of such "
    "pairs, or an object with 'count' and 'batches'"
)


class _Pairs(Protocol):
    """Random access to preprocessed images with their targets."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Any: ...


@dataclass(frozen=True, slots=True, eq=False)
class TensorFeed:
    """Preprocessed images, from anything that gives one ``(input, target)`` for a position.

    Attributes:
        name: what the images are for, in messages.
        pairs: random access to one image (C, H, W) with its target.
        positions: which of them count, in this order.
        shape: (C, H, W) that every image must have.
    """

    name: str
    pairs: _Pairs
    positions: Sequence[int]
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.positions)

    @property
    def fingerprint(self) -> str:
        """Identity of what the batches hold, from images spread over all of them.

        Only the targets count where an image is not the same twice, as a data set may augment.
        """
        chosen = np.unique(np.linspace(0, self.count - 1, _SAMPLE).round().astype(np.int64))
        first, second = ([self._read(p) for p in chosen.tolist()] for _ in range(2))
        is_fixed = all(bool((a == b).all()) for (a, _), (b, _) in zip(first, second, strict=True))
        digest = hashlib.sha256()
        for image, target in first:
            digest.update(target.numpy().tobytes())
            if is_fixed:
                digest.update(image.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def batches(
        self,
        size: int,
        *,
        order: NDArray[np.int64] | None = None,
        augment: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield ``(inputs (n, C, H, W) float32, target (n,) int64)``.

        Args:
            size: images of a batch, >= 1; the last one may be smaller.
            order: positions to read, in this order; all images in their own order if None.
            augment: refused, because it changes uint8 images before preprocessing.

        Raises:
            UsageError: the size is not positive, or there is an augmentation.
            DataError: an image is not what the others are.
        """
        import torch

        if size < 1:
            raise UsageError(f"{self.name}: batch size must be at least 1, got {size}")
        if augment is not None:
            raise UsageError(
                f"{self.name}: augmentation must be given uint8 images, got preprocessed ones; "
                "give an ImageSet with preprocess, or leave 'augment' out of the step"
            )
        chosen = range(self.count) if order is None else order.tolist()
        for start in range(0, len(chosen), size):
            found = [self._read(position) for position in chosen[start : start + size]]
            yield torch.stack([x for x, _ in found]), torch.stack([y for _, y in found])

    def _read(self, position: int) -> tuple[Tensor, Tensor]:
        """Return one image and its target, checked."""
        import torch

        pair = self.pairs[self.positions[position]]
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise DataError(
                f"{self.name}: each image must come as a pair (input, target), got "
                f"{type(pair).__name__}"
            )
        image, target = torch.as_tensor(pair[0]), torch.as_tensor(pair[1])
        if tuple(image.shape) != self.shape or not image.is_floating_point():
            raise DataError(
                f"{self.name}: each image must be floating-point and have the example's shape "
                f"{self.shape}, got {tuple(image.shape)} {_kind(image)}"
            )
        if target.ndim or target.is_floating_point() or target.is_complex():
            raise DataError(
                f"{self.name}: each target must be a class, a whole number, got "
                f"{tuple(target.shape)} {_kind(target)}"
            )
        if not bool(torch.isfinite(image).all()):
            raise DataError(
                f"{self.name}: images must be finite, got NaN or infinity at position {position}"
            )
        return image.detach().to("cpu", torch.float32), target.detach().to("cpu", torch.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Arrays:
    """A pair of arrays as a sequence of pairs."""

    inputs: Any
    targets: Any

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, position: int) -> Any:
        return self.inputs[position], self.targets[position]


def as_feed(
    images: Any, name: str, example: Tensor, preprocess: Preprocess | None = None
) -> Feed | None:
    """Return images as a feed whose batches fit the example; None stays None.

    Args:
        images: an `ImageSet` (uint8; needs ``preprocess``), a pair of preprocessed inputs
            (N, C, H, W) and targets (N,), a torch ``Dataset`` with a length, a ``DataLoader`` of
            one (its batch size, workers and order are not used, but its choice of images is), a
            feed, or None.
        name: what they are for, in messages: ``calibration``, ``training``, ``validation``.
        example: one preprocessed input, (1, C, H, W).
        preprocess: from the pixels of an `ImageSet` to network input.

    Raises:
        DataError: there are no images, or they do not fit the example.
        UsageError: the images are given in a form that cannot serve.
    """
    if images is None:
        return None
    feed = _feed(images, name, tuple(example.shape[1:]), preprocess)
    if feed.count < 1:
        raise DataError(f"{name}: must have at least one image, got none")
    first, _ = next(iter(feed.batches(1)))
    if first.shape[1:] != example.shape[1:]:
        raise DataError(
            f"{name}: images must have the example's shape {tuple(example.shape[1:])}, got "
            f"{tuple(first.shape[1:])}"
        )
    return feed


def _feed(images: Any, name: str, shape: tuple[int, ...], preprocess: Preprocess | None) -> Feed:
    if isinstance(images, ImageSet):
        if preprocess is None:
            raise UsageError(
                f"{name}: the pixels of an ImageSet must be preprocessed, got no preprocess; add "
                "preprocess=Preprocess(mean=..., std=...)"
            )
        return ImageFeed(images, preprocess)
    if hasattr(images, "batches") and hasattr(images, "count"):
        feed: Feed = images
        return feed
    if isinstance(images, (tuple, list)):
        pairs = _paired(images, name, shape)
        return TensorFeed(name, pairs, range(len(pairs)), shape)
    return TensorFeed(name, *_dataset(images, name), shape)


def _paired(images: Sequence[Any], name: str, shape: tuple[int, ...]) -> _Arrays:
    if len(images) != 2 or not all(hasattr(part, "shape") for part in images):
        raise UsageError(f"{name}: must be {_KINDS}, got a {type(images).__name__}")
    inputs, targets = images
    if len(inputs.shape) != 1 + len(shape):
        raise DataError(
            f"{name}: inputs must be (N, {', '.join(map(str, shape))}), like the example, got "
            f"{tuple(inputs.shape)}"
        )
    if tuple(targets.shape) != (len(inputs),):
        raise DataError(
            f"{name}: targets must be one class for each input, ({len(inputs)},), got "
            f"{tuple(targets.shape)}"
        )
    return _Arrays(inputs, targets)


def _dataset(images: Any, name: str) -> tuple[_Pairs, Sequence[int]]:
    """Return the data set of a loader, or the data set itself, and the positions that count."""
    from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler

    loader = images if isinstance(images, DataLoader) else None
    data: Any = images if loader is None else loader.dataset
    is_random = hasattr(data, "__getitem__") and hasattr(data, "__len__")
    if not is_random or isinstance(data, IterableDataset):
        raise UsageError(
            f"{name}: must be {_KINDS}, got {type(data).__name__}, which has no length or no "
            "access by position"
        )
    sampler = range(len(data)) if loader is None else _sampler(loader)
    is_whole = isinstance(sampler, SequentialSampler) or (
        isinstance(sampler, RandomSampler) and not sampler.replacement
    )
    # The order of a shuffling loader is not reproducible; steps have orders of their own.
    return data, range(len(data)) if is_whole and len(sampler) == len(data) else sorted(sampler)


def _sampler(loader: Any) -> Any:
    """Return the positions that a loader reads."""
    from torch.utils.data import BatchSampler

    batches = loader.batch_sampler
    if batches is None:
        return loader.sampler
    # A loader that is given batches has a sampler of its own, too, which it does not use.
    if type(batches) is BatchSampler:
        return batches.sampler
    return [position for batch in batches for position in batch]


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
