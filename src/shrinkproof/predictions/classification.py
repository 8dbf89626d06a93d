"""Logits and truth of one evaluated condition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError

# Shape suffixes: N images, C classes.


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class ClassificationPredictions:
    """Logits and truth of one condition.

    Attributes:
        logits: (N, C) float32, before the softmax; every value finite.
        target: (N,) int64, the true class, 0 to C - 1.
        index: (N,) int64, index of each image in its data set.
        groups: (N,) group of each image (drive, scene, patient), or None where images are
            independent.
        slices: name -> (N,) value of each image (``night`` -> True, ``tunnel`` -> "left").
    """

    logits: NDArray[np.float32]
    target: NDArray[np.int64]
    index: NDArray[np.int64]
    groups: NDArray[np.str_] | None = None
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check shapes, label range and finiteness.

        Raises:
            DataError: shapes disagree, a label is out of range, or a logit is not finite.
        """
        if self.logits.ndim != 2 or self.logits.dtype != np.float32:
            raise DataError(
                "predictions: logits must be (N, C) float32, got "
                f"{self.logits.shape} {self.logits.dtype}"
            )
        count, num_classes = self.logits.shape
        for name in ("target", "index"):
            values = getattr(self, name)
            if values.shape != (count,) or values.dtype != np.int64:
                raise DataError(
                    f"predictions: {name} must be ({count},) int64, got "
                    f"{values.shape} {values.dtype}"
                )
        if count and not (self.target.min() >= 0 and self.target.max() < num_classes):
            raise DataError(
                f"predictions: target must be 0 to {num_classes - 1} ({num_classes} logits), got "
                f"{self.target.min()} to {self.target.max()}; do the classes of the data and of "
                "the model agree?"
            )
        bad = int(count - np.isfinite(self.logits).all(axis=1).sum())
        if bad:
            raise DataError(
                f"predictions: logits must be finite, got NaN or infinity for {bad} of {count} "
                "images; the model is numerically broken for them"
            )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.target)

    def take(self, positions: NDArray[np.int64]) -> ClassificationPredictions:
        """Return the predictions at the given positions."""
        return ClassificationPredictions(
            logits=self.logits[positions],
            target=self.target[positions],
            index=self.index[positions],
            groups=None if self.groups is None else self.groups[positions],
            slices={name: values[positions] for name, values in self.slices.items()},
        )

    def log_prob(self) -> NDArray[np.float64]:
        """Return the logarithm of the softmax, (N, C) float64, without overflow."""
        logits_NC = self.logits.astype(np.float64)
        logits_NC -= logits_NC.max(axis=1, keepdims=True, initial=-np.inf)
        logits_NC -= np.log(np.exp(logits_NC).sum(axis=1, keepdims=True))
        return logits_NC

    def prediction(self) -> NDArray[np.int64]:
        """Return the class with the largest logit, (N,); the lowest class wins a tie."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)
