"""Whether predictions made elsewhere are about the images of a run, and the logits they mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.foreign.files import PredictionFile
from shrinkproof.predictions import ClassificationPredictions

_SHOWN: Final = 3


def matched(
    file: PredictionFile,
    beside: ClassificationPredictions,
    hashes: Mapping[int, str] | None,
    *,
    probabilities: bool,
) -> tuple[ClassificationPredictions, NDArray[np.int64], tuple[str, ...]]:
    """Return predictions in the order of the run, that order, and what a reader must know.

    Args:
        file: what was predicted elsewhere.
        beside: predictions of the run on the same images, for ids, labels, groups and classes.
        hashes: index -> SHA-256 of each image of the run; None where no kit was written.
        probabilities: True where the file holds the softmax instead of logits.

    Raises:
        DataError: ids, hashes, classes or numbers do not fit.
    """
    order = _order(file, beside.index)
    notes = list(_verify(file, hashes))
    num_classes = beside.logits.shape[1]
    if file.logits.shape[1] != num_classes:
        raise DataError(
            f"{file.path}: logits must have {num_classes} classes, as in the run, got "
            f"{file.logits.shape[1]}"
        )
    largest = float(np.finfo(np.float32).max)
    bad = ~(np.abs(file.logits) <= largest).all(axis=1)
    if bad.any():
        raise DataError(
            f"{file.path}: logits must be finite in 32 bits, got NaN or infinity for {bad.sum()} "
            f"image(s): index {_some(file.index[bad].tolist())}"
        )
    logits_NC = file.logits[order]
    if probabilities:
        logits_NC, note = _from_probabilities(file, logits_NC)
        notes.append(note)
    elif file.are_probabilities:
        raise DataError(
            f"{file.path}: logits must be numbers before the softmax, got rows of 0 to 1 that sum "
            "to 1; give logits, or say --probabilities: their logarithms are taken then"
        )
    found = ClassificationPredictions(
        logits=logits_NC.astype(np.float32),
        target=beside.target,
        index=beside.index,
        groups=beside.groups,
        slices=beside.slices,
    )
    return found, order, tuple(notes)


def _order(file: PredictionFile, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each image of the run stands in the file.

    Raises:
        DataError: an image is missing, unknown, or there twice.
    """
    found, counts = np.unique(file.index, return_counts=True)
    problems = (
        ("must name each image once", found[counts > 1], "twice"),
        ("must name images of the run", np.setdiff1d(found, wanted), "unknown"),
        ("must name every image of the run", np.setdiff1d(wanted, found), "missing"),
    )
    for rule, wrong, word in problems:
        if len(wrong):
            hint = "; a kit with --limit is only for trying the target" if word == "missing" else ""
            raise DataError(
                f"{file.path}: index {rule} ({len(wanted)} images), got {len(wrong)} {word}: "
                f"{_some(wrong.tolist())}{hint}"
            )
    position = np.argsort(file.index, kind="stable")
    return np.asarray(position[np.searchsorted(file.index[position], wanted)], dtype=np.int64)


def _verify(file: PredictionFile, hashes: Mapping[int, str] | None) -> Iterable[str]:
    """Check the hashes of the images; return what could not be checked.

    Raises:
        DataError: the target saw other images, or there is nothing to compare its hashes with.
    """
    if file.sha256 is None:
        return [f"{file.path.name} has no hashes: that the target saw these images is not verified"]
    if hashes is None:
        raise DataError(
            f"{file.path}: its hashes must be compared with those of the run, got none; write the "
            "kit from this run with: shrinkproof kit"
        )
    wrong = [
        int(i)
        for i, text in zip(file.index, file.sha256, strict=True)
        if hashes[int(i)] != str(text).lower()
    ]
    if wrong:
        raise DataError(
            f"{file.path}: the target must have seen the images of the kit, got other hashes for "
            f"{len(wrong)} of {len(file.index)}: index {_some(wrong)}; is it the right condition, "
            "and are the pixels hashed before they are preprocessed?"
        )
    return ()


def _from_probabilities(
    file: PredictionFile, values_NC: NDArray[np.float64]
) -> tuple[NDArray[np.float64], str]:
    """Return the logarithms of probabilities, which are logits up to a constant per image.

    An exact 0 is what the number format could not tell from 0, so it stands for half the smallest
    probability above 0 that the file shows.

    Raises:
        DataError: they are no probabilities.
    """
    if not file.are_probabilities:
        raise DataError(
            f"{file.path}: with --probabilities every row must be 0 to 1 and sum to 1, got others; "
            "leave the option out for logits"
        )
    # The smallest normal float32 keeps the logarithm finite for subnormal probabilities, too.
    smallest = max(float(values_NC[values_NC > 0].min()), float(np.finfo(np.float32).tiny))
    zeros = int((values_NC == 0).sum())
    note = f"{file.path.name} holds probabilities; their logarithms serve as logits"
    if zeros:
        note += (
            f"; {zeros} exact zeros count as {smallest / 2:.3g}, half the smallest one above 0, so "
            "NLL is only as exact as that"
        )
    return np.log(np.where(values_NC == 0, smallest / 2, values_NC)), note


def _some(values: list[Any]) -> str:
    more = len(values) - _SHOWN
    return ", ".join(map(str, values[:_SHOWN])) + (f" and {more} more" if more > 0 else "")
