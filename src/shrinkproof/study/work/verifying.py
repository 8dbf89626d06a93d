"""Compare what candidates answer in the arithmetic of a study with what they answer in float32."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from shrinkproof.evaluators.fidelity import Fidelity
from shrinkproof.evaluators.subject import Scene
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Failure
from shrinkproof.store import Store
from shrinkproof.study.twin import load_twin
from shrinkproof.study.work.loading import load_subject, remarks_of
from shrinkproof.study.work.measuring import PassResult
from shrinkproof.study.work.workplace import workplace


@dataclass(frozen=True, slots=True)
class Verifying:
    """Compare candidates with themselves in float32 on clean images of one split.

    Attributes:
        run: the run directory, absolute.
        split: whose images are shown.
        cells: what is measured.
    """

    run: str
    split: str
    cells: tuple[Cell, ...]


def verify(work: Verifying) -> PassResult:
    """Compare every candidate with itself in float32."""
    place = workplace(work.run)
    store = Store(place.run)
    images = place.images([work.split])[work.split]
    scene = Scene(images, CLEAN, None, place.inputs.batch_of(images))
    candidates = {c.key: c for c in store.read_candidates()}
    measured: dict[str, tuple[Measurement, ...] | Failure] = {}
    remarks: dict[str, tuple[str, ...]] = {}
    loaded = frozenset(place.predictors)
    for cell in work.cells:
        candidate = candidates[cell.candidate]
        found = load_subject(place, store, scene, cell, candidate)
        if isinstance(found, Failure):
            measured[cell.key] = found
            continue
        again = functools.partial(load_twin, str(store.path), candidate.model)
        subject = replace(found, load_twin=again)
        for _, outcome in Fidelity().measure([subject], CLEAN):
            measured[cell.key] = outcome if isinstance(outcome, Failure) else tuple(outcome)
        remarks[cell.key] = remarks_of(subject, candidate)
        # One more candidate is in memory at a time, however many the study has.
        for key in place.predictors.keys() - loaded:
            del place.predictors[key]
    return PassResult(measured, environment=place.machine, remarks=remarks)
