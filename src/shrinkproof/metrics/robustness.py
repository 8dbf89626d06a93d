"""Errors under corruption: the mean over the study's conditions, and mCE.

Pure functions of per-image errors. Averages over whatever was measured and the standardized mCE
have different names on purpose: mCE refuses partial input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import UsageError
from shrinkproof.records import SEVERITIES, STANDARD_15, Condition
from shrinkproof.statistics import Terms, estimate

# Shape suffixes: N images, K corruptions.

Errors = Mapping[Condition, NDArray[Any]]
"""Condition -> (N,) error of each image: bool or 0/1, or a fraction; one order of images."""


@dataclass(frozen=True, slots=True)
class Undefined:
    """A number that does not exist for this input.

    Attributes:
        reason: why, in one sentence.
    """

    reason: str


def mean_error(errors: Errors) -> NDArray[np.float64]:
    """Return each image's error, averaged over the corrupted conditions, (N,) float64.

    Its mean is ``robustness.mean_error``: the unnormalized mean corruption error, over exactly the
    conditions given, each with the same weight.

    Args:
        errors: error of each image under each corrupted condition, 0 to 1.

    Raises:
        UsageError: there is no condition, ``clean`` is among them, lengths differ, or an error is
            not 0 to 1.

    Reference: Hendrycks et al. 2020 (AugMix), arXiv:1912.02781.
    """
    _check(errors, "robustness.mean_error")
    total_N = np.zeros(len(next(iter(errors.values()))))
    for values_N in errors.values():
        total_N += values_N
    return total_N / len(errors)


def mean_error_terms(errors: Errors) -> Terms:
    """Return the terms of ``robustness.mean_error``, (N, 1): `mean_error` of each image.

    One row per image: the conditions of one image are not independent and are resampled together.

    Raises:
        UsageError: as `mean_error`.
    """
    values_N = mean_error(errors)
    is_binary = bool(((values_N == 0) | (values_N == 1)).all())
    return Terms(values=values_N[:, None], kind="mean", is_binary=is_binary)


def corruption_error(errors: Errors, reference: Errors) -> dict[str, float | Undefined]:
    """Return the corruption error CE of each corruption found in ``errors``.

    CE = (sum over severities 1 to 5 of the error) / (the same sum of the reference). 1 means as
    many errors as the reference.

    Args:
        errors: error of each image under each condition; clean is ignored.
        reference: the same for the reference model, for example the uncompressed baseline.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    names = dict.fromkeys(c.corruption for c in errors if not c.is_clean)
    return {name: _ratio(errors, reference, [name], f"CE of {name}") for name in names}


def mce(errors: Errors, reference: Errors) -> float | Undefined:
    """Return the mean corruption error: the mean CE of the 15 standard corruptions.

    In fractions: 1.0 is the reference. Further corruptions and clean are ignored; a missing
    corruption or severity makes it undefined.

    Args:
        errors: error of each image under each condition.
        reference: the same for the reference model.

    Raises:
        UsageError: lengths differ, or an error is not 0 to 1.

    Reference: Hendrycks and Dietterich 2019, arXiv:1903.12261, section 4.2.
    """
    return _ratio(errors, reference, STANDARD_15, "mCE")


def mce_terms(errors: Errors, reference: Errors) -> Terms | Undefined:
    """Return the terms of `mce`, (N, 30), for the same images in the same order.

    Columns are each image's error, averaged over severities: 15 corruptions of the model, then 15
    of the reference.

    Raises:
        UsageError: model and reference are not about the same number of images, or as `mce`.
    """
    return _ratio_terms(errors, reference, STANDARD_15, "mCE")


def _ratio(
    errors: Errors, reference: Errors, corruptions: tuple[str, ...] | list[str], what: str
) -> float | Undefined:
    terms = _ratio_terms(errors, reference, corruptions, what)
    return terms if isinstance(terms, Undefined) else estimate(terms)


def _ratio_terms(
    errors: Errors, reference: Errors, corruptions: tuple[str, ...] | list[str], what: str
) -> Terms | Undefined:
    for given, whose in ((errors, ""), (reference, " of the reference")):
        missing = _missing(given, corruptions)
        if missing:
            needs = "all 15 corruptions at" if len(corruptions) > 1 else "all"
            verb = "is" if missing.count(",") == 0 else "are"
            return Undefined(
                f"{what} needs {needs} severities 1-5; {missing}{whose} {verb} missing"
            )
    wanted = [Condition(name, severity) for name in corruptions for severity in SEVERITIES]
    tables = [{c: given[c] for c in wanted} for given in (errors, reference)]
    for table in tables:
        _check(table, what)
    counts = [len(table[wanted[0]]) for table in tables]
    if counts[0] != counts[1]:
        raise UsageError(
            f"{what}: model and reference must be about the same images, got "
            f"{counts[0]} and {counts[1]}"
        )
    if not counts[0]:
        return Undefined(f"{what} needs at least one image")
    columns_N2K = np.stack(
        [
            np.mean([table[Condition(name, s)] for s in SEVERITIES], axis=0, dtype=np.float64)
            for table in tables
            for name in corruptions
        ],
        axis=1,
    )
    totals_K = columns_N2K[:, len(corruptions) :].sum(axis=0)
    perfect = [name for name, total in zip(corruptions, totals_K, strict=True) if total == 0]
    if perfect:
        return Undefined(f"{what}: the reference makes no error under {', '.join(perfect)}")
    return Terms(values=columns_N2K, kind="mean-of-ratios")


def _missing(errors: Errors, corruptions: tuple[str, ...] | list[str]) -> str:
    """Return what is missing, in the order of the standard: ``fog, snow:4``; empty for nothing."""
    parts: list[str] = []
    for name in corruptions:
        gaps = [s for s in SEVERITIES if Condition(name, s) not in errors]
        if len(gaps) == len(SEVERITIES):
            parts.append(name)
        else:
            parts.extend(f"{name}:{severity}" for severity in gaps)
    return ", ".join(parts)


def _check(errors: Errors, what: str) -> None:
    if not errors:
        raise UsageError(f"{what}: needs at least one corrupted condition, got none")
    first, count = "", -1
    for condition, values_N in errors.items():
        if condition.is_clean:
            raise UsageError(f"{what}: clean is no corruption; leave it out")
        if count < 0:
            first, count = str(condition), len(values_N)
        if values_N.shape != (count,):
            raise UsageError(
                f"{what}: every condition must have one error per image, got ({count},) for "
                f"{first} and {values_N.shape} for {condition}"
            )
        if count and not (values_N.min() >= 0 and values_N.max() <= 1):
            raise UsageError(f"{what}: errors must be 0 to 1, got others under {condition}")
