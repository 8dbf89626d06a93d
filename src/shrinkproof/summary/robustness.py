"""Errors under corruption: means, ratios to a reference, and equally accurate dense networks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from shrinkproof.metrics.alexnet import ALEXNET, mce_alexnet
from shrinkproof.metrics.effective import DensePoints, effective_robustness
from shrinkproof.metrics.references import Reference, against_reference, mce, relative_mce
from shrinkproof.metrics.robustness import (
    Errors,
    Quantity,
    relative_robustness_terms,
    under_corruption,
)
from shrinkproof.protocols import Undefined
from shrinkproof.records import Candidate
from shrinkproof.summary.run import Run
from shrinkproof.summary.split import Split
from shrinkproof.summary.values import CORRUPTED, Derived, Key, Number, measured

_EFFECTIVE: Final = "robustness.effective"
_ROUNDED: Final = "each corruption error rounded to whole percent before the mean was taken"
_OWN: Final = ("robustness.error", "robustness.mean_error")
"""Numbers of one network alone, whose differences to others are stated too."""


def corrupted_numbers(errors: Errors) -> dict[Key, Quantity]:
    """Return the numbers under corruption that need no other network."""
    return {(name, place, 0): found for (name, place), found in under_corruption(errors).items()}


def compared_numbers(quantities: Mapping[Key, Quantity]) -> dict[Key, Number]:
    """Return those whose differences to baseline and control are of interest."""
    return {
        key: found.terms
        for key, found in quantities.items()
        if key[0] in _OWN and not isinstance(found.terms, Undefined)
    }


def robustness(run: Run, split: Split, candidate: Candidate) -> Iterator[Derived]:
    """Yield everything about errors under corruption that is relative to something."""
    totals = split.totals[candidate.key]
    if all(condition.is_clean for condition in run.settings.conditions):
        return
    reference = _reference(run, split, candidate)
    if isinstance(reference, Undefined):
        yield from split.emit(candidate.key, {("robustness.mce", CORRUPTED, 0): reference})
        return
    found = {
        (name, place, 0): quantity
        for (name, place), quantity in against_reference(
            totals.errors, reference, groups=None if split.images is None else split.images.groups
        ).items()
    }
    if run.settings.reference.get("rounded"):
        yield from _rounded(split, candidate, totals.errors, reference, found)
    baseline = split.totals.get(run.baseline(candidate).key)
    is_corrupted = any(not condition.is_clean for condition in totals.errors)
    if baseline is not None and is_corrupted and candidate.role != "baseline":
        tau = relative_robustness_terms(totals.errors, baseline.errors)
        found["robustness.relative", CORRUPTED, 0] = Quantity(tau)
    if run.settings.origins.get("preset") == "imagenet":
        found["robustness.mce_alexnet", CORRUPTED, 0] = _alexnet(run, split, totals.errors)
    yield from split.emit_quantities(candidate.key, found)
    yield from _effective(run, split, candidate)


def _reference(run: Run, split: Split, candidate: Candidate) -> Reference | Undefined:
    """Return what the errors of a candidate are divided by."""
    name = run.settings.reference.get("name", "baseline")
    if name == "alexnet":
        return ALEXNET
    if run.reference is not None:
        return run.reference(split)
    chosen = run.baseline(candidate)
    if name != "baseline":
        chosen = next((c for c in run.candidates if c.label == name), chosen)
        if chosen.label != name:
            return Undefined(f"the reference {name} is no candidate of this study")
    totals = split.totals.get(chosen.key)
    if totals is None:
        return Undefined(f"the reference {chosen.label} was not measured on {split.name}")
    return Reference(name=chosen.label, errors=totals.errors)


def _rounded(
    split: Split,
    candidate: Candidate,
    errors: Errors,
    reference: Reference,
    found: dict[Key, Quantity],
) -> Iterator[Derived]:
    """Yield mCE and relative mCE as publications with rounded corruption errors print them."""
    for name, function in (("robustness.mce", mce), ("robustness.relative_mce", relative_mce)):
        exact = found.pop((name, CORRUPTED, 0))
        value = function(errors, reference, rounded=True)
        caveat = f"{exact.caveat}; {_ROUNDED}" if exact.caveat else _ROUNDED
        row = measured(name, value, count=split.count, caveat=caveat)
        yield Derived(candidate.key, split.name, CORRUPTED, 0, split.form, row)


def _alexnet(run: Run, split: Split, errors: Errors) -> Quantity:
    origins = run.settings.origins
    told = origins.get("told", {}).get(split.name, {})
    frost = [text for condition, text in told.items() if condition.startswith("frost")]
    notes = " ".join(origins.get("notes", ()))
    is_stored = bool(frost) and all(text.startswith("images read from") for text in frost)
    made_here = "written by shrinkproof" in notes
    is_published = is_stored and not made_here
    has_photos = bool(frost) and all("frost photos" in text for text in frost)
    return mce_alexnet(
        errors,
        preset=origins["preset"],
        has_frost_photos=has_photos or (is_stored and "frost layers are procedural" not in notes),
        is_jpeg85=is_published or any("JPEG of quality 85" in text for text in told.values()),
    )


def _effective(run: Run, split: Split, candidate: Candidate) -> Iterator[Derived]:
    """Yield the accuracy under corruption beyond that of equally accurate dense networks."""
    if candidate.role != "recipe" or not split.is_complete(candidate.key):
        return
    baseline = run.baseline(candidate)
    dense = [
        c
        for c in run.candidates
        if c.model == candidate.model and c.key in run.dense and split.is_complete(c.key)
    ]
    points = DensePoints(
        training=f"{baseline.model} and its dense controls",
        names=tuple(c.label for c in dense),
        errors=tuple(split.totals[c.key].errors for c in dense),
    )
    found = effective_robustness(split.totals[candidate.key].errors, points)
    if isinstance(found, Undefined):
        row = measured(_EFFECTIVE, found, count=split.count)
    else:
        stated = split.interval_of(found)
        row = measured(_EFFECTIVE, found.value, stated, count=split.count, caveat=found.caveat)
    yield Derived(candidate.key, split.name, CORRUPTED, 0, split.form, row)
