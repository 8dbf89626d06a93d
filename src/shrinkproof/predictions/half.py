"""Many logits in half the memory: each row as differences from its largest logit.

A logit itself does not fit into half precision: above 1,024 neighbors are 1 apart, and two classes
would tie that did not. Differences from the largest logit of the row, which alone is kept in
single precision, are most exact where the softmax is largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
)

# Shape suffixes: N images, C classes.

Rows = NDArray[np.void]
"""(N,) records of the largest logit, ``top``, and all differences from it, ``below``."""

LARGE: Final = 1 << 24
"""Logits, above which they are stored in half precision: 64 MiB in single precision."""

NOTE: Final = (
    "logits are stored in half precision, as differences from the largest of each image; the "
    "numbers are computed from these"
)
"""What a reader of the numbers must know."""

_LARGEST: Final = np.float32(np.finfo(np.float16).max)
_SMALLEST: Final = np.float32(np.finfo(np.float16).smallest_subnormal)
_COARSE: Final = np.float32(2.0**40)
"""From here on, 65,504 less can round to the same number."""

_BLOCK: Final = 1 << 18
"""Logits that are converted at a time."""


def is_large(count: int, num_classes: int) -> bool:
    """Return whether the logits of so many images are stored in half precision."""
    return count * num_classes > LARGE


def as_stored(predictions: Predictions) -> Predictions:
    """Return what comes back of the predictions of a cell once they are stored.

    Metrics are computed from this, so that scoring again gives the same numbers.
    """
    if isinstance(predictions, DetectionPredictions):
        return predictions
    return rounded(predictions, len(predictions))


def rounded(predictions: ClassificationPredictions, count: int) -> ClassificationPredictions:
    """Return predictions with the logits that come back: the same, or rounded where many are.

    What was rounded once is not changed again.

    Args:
        predictions: of some images of a cell.
        count: all images of the cell.
    """
    logits = predictions.logits
    if not is_large(count, logits.shape[1]):
        return predictions
    return replace(predictions, logits=decode(encode(logits)))


def row_type(num_classes: int) -> np.dtype[np.void]:
    """Return the type of one row: 4 bytes, and 2 for each class."""
    return np.dtype([("top", "<f4"), ("below", "<f2", (num_classes,))])


def encode(logits_NC: NDArray[np.float32]) -> Rows:
    """Return logits in half precision.

    The largest logit of a row comes back exactly, and so do its ties: no other class is ever
    rounded up to it, so that the predicted class and its uniqueness stay. Equal logits stay equal
    and the order stays, but logits whose distance differs by less than 1 in 2,048 may become
    equal. A logit is off by at most 1/2,048 of its distance from the largest one, or by 2^-24 where
    that is more, besides one rounding in single precision. Distances above 65,504, where the
    softmax is zero in any precision, become 65,504.

    Args:
        logits_NC: (N, C) float32, all finite, C at least 1.
    """
    count, num_classes = logits_NC.shape
    rows = np.empty(count, dtype=row_type(num_classes))
    for block in _blocks(count, num_classes):
        logits = logits_NC[block]
        top = logits.max(axis=1)
        with np.errstate(over="ignore"):  # a distance may be infinite, and is limited next
            below = np.maximum(logits - top[:, None], -_LARGEST)
        below[(below < 0) & (below > -_SMALLEST)] = -_SMALLEST
        rows["top"][block], rows["below"][block] = top, below
    return rows


def decode(rows: Rows) -> NDArray[np.float32]:
    """Return the logits, (N, C) float32; encoded and decoded again, they stay the same."""
    count, num_classes = rows["below"].shape
    logits_NC = np.empty((count, num_classes), dtype=np.float32)
    for block in _blocks(count, num_classes):
        top, half = rows["top"][block][:, None], rows["below"][block]
        np.add(top, half, out=logits_NC[block], dtype=np.float32)
        coarse = np.flatnonzero(np.abs(top[:, 0]) >= _COARSE)
        if len(coarse):
            logits_NC[block][coarse] = _apart(top[coarse], half[coarse], logits_NC[block][coarse])
    return logits_NC


def _apart(
    top: NDArray[np.float32], half: NDArray[np.float16], logits: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return logits below huge largest ones, which adding a difference has rounded up to these."""
    is_lost = (half < 0) & (logits == top)
    with np.errstate(over="ignore"):  # below the lowest number of all, where nothing can be lost
        lower = np.nextafter(top, np.float32(-np.inf))
    return np.where(is_lost, lower, logits)


def _blocks(count: int, num_classes: int) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, num_classes))
    for start in range(0, count, rows):
        yield slice(start, min(start + rows, count))
