"""Predictions of two networks, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shrinkproof.diagnosis.paired import Paired
from shrinkproof.records import Condition
from shrinkproof.statistics import bootstrap_weights


def paired(
    target: Sequence[int],
    own: Sequence[Sequence[int]],
    other: Sequence[Sequence[int]],
    conditions: Sequence[str] = ("clean",),
    *,
    groups: NDArray[np.str_] | None = None,
    slices: dict[str, NDArray[np.str_]] | None = None,
    classes: tuple[str, ...] = ("cat", "dog", "fox"),
) -> Paired:
    """Return predictions; one row per condition."""
    return Paired(
        split="report",
        conditions=tuple(Condition.parse(text) for text in conditions),
        own=np.array(own),
        other=np.array(other),
        target=np.array(target),
        index=100 + np.arange(len(target)),
        groups=groups,
        slices=slices or {},
        weights=bootstrap_weights(len(target), groups=groups, replicates=200, seed=0),
        classes=classes,
    )
