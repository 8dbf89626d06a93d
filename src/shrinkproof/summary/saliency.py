"""What heat maps say about all candidates of a model together, from stored maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.errors import DataError
from shrinkproof.metrics.agreement import Agreement
from shrinkproof.metrics.heatmaps import NO_OBJECT, UNTOLD, HeatMaps
from shrinkproof.metrics.names import CHANGE
from shrinkproof.metrics.similarity import pearson
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Json
from shrinkproof.summary.known import Known
from shrinkproof.summary.maps import ALWAYS, Maps
from shrinkproof.summary.pictures import overlay_of, picture_of
from shrinkproof.summary.run import Run
from shrinkproof.summary.together import together
from shrinkproof.summary.values import Derived, Exhibit

# Shape suffixes: n images.

HEATMAPS: Final = "heatmaps"
CORRELATION: Final = "saliency-correlation"

SHOWN_IMAGES: Final = 6
SHOWN_CANDIDATES: Final = 6

_ABSENT: Final = (
    "heat maps are missing or damaged; delete the folder 'saliency' of the run directory and run "
    "the study again"
)
_HCC: Final = "saliency.hcc"


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """One candidate beside its baseline.

    Attributes:
        candidate: who it is.
        cell: where its maps are; large ones do not fit into memory all at once.
        about: what every number about its maps says of them.
        hcc_n: correlation of each image, ``nan`` where it is undefined.
    """

    candidate: Candidate
    cell: Cell
    about: str
    hcc_n: NDArray[np.float64]


def saliency_of(run: Run, rows: Sequence[Derived]) -> Iterator[Derived | Exhibit]:
    """Yield the correlation on common images, the least alike maps, and what goes with accuracy."""
    maps = run.maps
    if maps is None:
        return
    places: dict[tuple[object, ...], list[Cell]] = {}
    for cell in maps.cells:
        if cell.evaluator == "saliency":
            model = run.by_key[cell.candidate].model
            places.setdefault((model, cell.method, cell.split, cell.condition), []).append(cell)
    for cells in places.values():
        yield from _of_place(run, maps, cells)
    yield from _correlations(run, maps, Known(run, rows))


def _of_place(run: Run, maps: Maps, cells: Sequence[Cell]) -> Iterator[Derived | Exhibit]:
    """Yield what one method says under one condition of one model."""
    label = maps.label(cells[0])
    agreement = Agreement(label, run.settings.replicates, run.settings.seed)
    baseline = next((c for c in cells if run.by_key[c.candidate].role == "baseline"), None)
    reference = None if baseline is None else maps.read(baseline.key)
    if reference is None:
        why = f"the baseline's {_ABSENT}"
        yield from (_derived(cell, agreement.no_common(why)) for cell in cells)
        return
    seen = []
    for cell in cells:
        hcc_n, about = _beside(reference if cell is baseline else maps.read(cell.key), reference)
        if hcc_n is None:
            yield _derived(cell, agreement.no_common(about))
        else:
            seen.append(_Seen(run.by_key[cell.candidate], cell, about, hcc_n))
    beside = [one.hcc_n for one in seen]
    for one in seen:
        yield _derived(one.cell, agreement.common(one.hcc_n, beside, reference, one.about))
    if not label and cells[0].condition == CLEAN:
        recipes = [one for one in seen if one.candidate.role == "recipe"]
        yield from _strips(run, maps, recipes, reference)


def _beside(found: HeatMaps | None, reference: HeatMaps) -> tuple[NDArray[np.float64] | None, str]:
    """Return the correlation of each image, and what maps are about or why there is none."""
    if found is None:
        return None, _ABSENT
    try:
        found.check_beside(reference)
        return pearson(found.own, reference.own), found.about
    except DataError as error:
        return None, str(error)


def _derived(cell: Cell, measurement: Measurement) -> Derived:
    condition = cell.condition
    return Derived(
        cell.candidate,
        cell.split,
        condition.corruption,
        condition.severity,
        cell.form,
        measurement,
    )


def _strips(run: Run, maps: Maps, seen: Sequence[_Seen], reference: HeatMaps) -> Iterator[Exhibit]:
    """Yield the pictures of the candidates whose maps are least alike their baseline's."""
    means = [float(np.nan_to_num(one.hcc_n).mean()) for one in seen]
    order = np.argsort(means, kind="stable")[:SHOWN_CANDIDATES]
    for place in order.tolist():
        one = seen[place]
        found = maps.read(one.cell.key)
        assert found is not None, "it has been read before"
        yield Exhibit(
            HEATMAPS,
            {
                "model": one.candidate.model,
                "candidate": one.candidate.label,
                "baseline": run.baseline(one.candidate).label,
                "method": found.method,
                "layer": found.layer,
                "resolution": list(found.resolution),
                "split": one.cell.split,
                "condition": str(one.cell.condition),
                "about": one.about,
                "count": len(found),
                "undefined": int(np.isnan(one.hcc_n).sum()),
                "others": len(seen) - len(order),
                "images": list(_least_alike(run, found, one.hcc_n, reference)),
            },
        )


def _least_alike(
    run: Run, found: HeatMaps, hcc_n: NDArray[np.float64], reference: HeatMaps
) -> Iterator[Json]:
    """Yield the images with the lowest correlation; undefined ones have none and are left out."""
    if reference.images is None:
        return
    order = np.argsort(hcc_n, kind="stable")  # nan comes last
    for at in order[: min(SHOWN_IMAGES, int((~np.isnan(hcc_n)).sum()))].tolist():
        image = reference.images[at]
        classes = (int(found.target[at]), int(found.explained[at]))
        target, explained = (_named(run.settings.classes, c) for c in classes)
        boxes = {
            side: maps.boxes[at].tolist()
            for side, maps in (("baseline_box", reference), ("candidate_box", found))
            if maps.boxes is not None
        }
        yield {
            **boxes,
            "index": int(found.index[at]),
            "class": target,
            "explained": explained,
            "hcc": float(hcc_n[at]),
            "image": picture_of(image),
            "baseline_map": overlay_of(image, reference.own[at]),
            "candidate_map": overlay_of(image, found.own[at]),
        }


def _named(classes: Sequence[str], number: int) -> str:
    """Return the name of a class, or what stands for none where a box is explained."""
    if number < 0:
        return {NO_OBJECT: "no object", UNTOLD: "part of a crowd"}[number]
    return classes[number] if number < len(classes) else f"class {number}"


def _correlations(run: Run, maps: Maps, known: Known) -> Iterator[Exhibit]:
    """Yield how HCC goes with accuracy and with the change of calibration, by network."""
    hcc = maps.numbers("saliency", _HCC)
    looked = maps.numbers("saliency", ALWAYS)
    others = (run.settings.quality, *(CHANGE + name for name in known.calibrations))
    for baseline in known.baselines():
        recipes = known.recipes(baseline.model)
        for other in others if any(c.key in looked for c in recipes) else ():
            points = {
                c.key: (value, hcc[c.key])
                for c in recipes
                if c.key in hcc
                for value in [known.value(c.key, other, "clean")]
                if value is not None
            }
            found = {
                "model": baseline.model,
                "split": run.printing,
                "x": f"{other}@clean",
                "y": f"{_HCC}@clean",
                "candidates": [c.label for c in recipes if c.key in points],
                "left_out": [c.label for c in recipes if c.key not in points],
                "points": [list(point) for point in points.values()],
            }
            yield Exhibit(CORRELATION, {**found, **together(points, maps)})
