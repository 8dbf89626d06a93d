"""What compression changed image by image: other predictions, new errors, repaired errors.

Two networks of the same accuracy can disagree on many images. A negative flip, an image that only
the uncompressed network gets right, is a new error for whoever deploys the compressed one.

References: Milani Fard et al. 2016, "Launch and iterate: reducing prediction churn"; Yan et al.
2021, "Positive-congruent training", arXiv:2011.09161 (negative flips).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.statistics import Terms

# Shape suffixes: N images.


def flip_terms(
    candidate: ClassificationPredictions, other: ClassificationPredictions
) -> dict[str, Terms]:
    """Return the terms of churn, negative and positive flips, (N, 1) each, 0 or 1.

    Accuracy of the candidate minus accuracy of the other one is positive minus negative flips.
    Churn also counts images whose prediction went from one wrong class to another.

    Args:
        candidate: the compressed network.
        other: the network it is compared with, on the same images in the same order.

    Raises:
        DataError: index or true class of an image differ.

    Returns:
        ``flips.churn``, ``flips.negative`` and ``flips.positive``.
    """
    problem = mismatch(candidate.index, candidate.target, other.index, other.target)
    if problem:
        raise DataError(f"flips: both must be about the same images, got {problem}")
    own_N, others_N = candidate.prediction(), other.prediction()
    is_right_N, was_right_N = own_N == candidate.target, others_N == other.target
    return {
        "flips.churn": _binary(own_N != others_N),
        "flips.negative": _binary(was_right_N & ~is_right_N),
        "flips.positive": _binary(is_right_N & ~was_right_N),
    }


def mismatch(
    index_N: NDArray[np.int64],
    target_N: NDArray[np.int64],
    other_index_N: NDArray[np.int64],
    other_target_N: NDArray[np.int64],
) -> str:
    """Return how images or their true classes differ; empty where they are the same."""
    if len(index_N) != len(other_index_N):
        return f"{len(index_N)} and {len(other_index_N)} images"
    for name, own_N, theirs_N in (
        ("index", index_N, other_index_N),
        ("true class", target_N, other_target_N),
    ):
        wrong = np.flatnonzero(own_N != theirs_N)
        if len(wrong):
            at = int(wrong[0])
            return f"{name} {own_N[at]} and {theirs_N[at]} at position {at}"
    return ""


def _binary(values_N: NDArray[np.bool_]) -> Terms:
    return Terms(values=values_N[:, None].astype(np.float64), kind="mean", is_binary=True)
