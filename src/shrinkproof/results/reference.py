"""Errors of a network of another run, to which corruption errors are relative."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from shrinkproof.errors import DataError, StoreError, UsageError
from shrinkproof.metrics.references import Reference
from shrinkproof.protocols import Undefined
from shrinkproof.records import Condition, key_of
from shrinkproof.store import Store
from shrinkproof.summary.split import Split


def reference_digest(folder: Path, label: str) -> str | None:
    """Return the identity of what `reference_in` reads; None where the run is not there now."""
    try:
        store = Store.open(folder)
        candidates, cells = store.read_plan()
    except StoreError:
        return None
    keys = {c.key for c in candidates if c.label == label}
    shards = [
        store.read_cell(c.key) for c in cells if c.candidate in keys and c.evaluator == "scores"
    ]
    values = {
        s.cell.key: [" ".join(repr(m.value) for m in s.measurements), dict(s.versions)]
        for s in shards
        if s is not None
    }
    return key_of("reference", values)


def reference_in(folder: Path, label: str, split: Split) -> Reference | Undefined:
    """Return the errors of a candidate of another run on the images of a split.

    Args:
        folder: the other run directory.
        label: label of the candidate in it.
        split: the images that its errors must be about.

    Raises:
        StoreError: there is no run in that directory.
        UsageError: it has no candidate of that label.
        DataError: the images are others.
    """
    store = Store.open(folder)
    candidates, cells = store.read_plan()
    keys = {c.label: c.key for c in candidates}
    if label not in keys:
        raise UsageError(
            f"measure.robustness.reference: must be a candidate of {folder}, got {label!r}; there "
            f"are {', '.join(keys)}"
        )
    name = f"{label} of {folder.name}"
    errors: dict[Condition, np.ndarray] = {}
    for cell in cells:
        place = (cell.candidate, cell.evaluator, cell.split, cell.form)
        if place != (keys[label], "scores", split.name, split.form):
            continue
        found = store.read_logits(cell.key)
        if found is None:
            continue
        own = split.images
        if own is not None and not (
            np.array_equal(own.index, found.index) and np.array_equal(own.target, found.target)
        ):
            raise DataError(
                f"reference {name}: must be about the same images of {split.name} as this run, in "
                f"the same order, got others under {cell.condition}"
            )
        wrong_N = (found.prediction() != found.target).astype(np.float32)
        # Numbers without images are divided by an error rate, which is not resampled either.
        errors[cell.condition] = wrong_N if own is not None else wrong_N.mean(keepdims=True)
    if not errors:
        return Undefined(f"the reference {name} was not measured on {split.name}")
    return Reference(name=name, errors=errors)
