"""The written files, loaded again and compared with each other and with what the run has kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.artifacts import candidate as files
from shrinkproof.errors import ExportError
from shrinkproof.evaluators.subject import Scene
from shrinkproof.export.agreement import STORED, Comparison, compared, logits_of
from shrinkproof.export.boxes import box_comparisons, chooses_inside, found_by, threshold_of
from shrinkproof.export.program import Predict, load_program, predict_with, write_program
from shrinkproof.export.source import Source
from shrinkproof.predictions import (
    ClassificationPredictions,
    DetectionPredictions,
    Predictions,
)
from shrinkproof.records import CLEAN, Candidate, Condition
from shrinkproof.results import Results

if TYPE_CHECKING:
    from torch import nn

PROGRAM: Final = "model.pt2"
"""The network as a program of ``torch.export``."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the comparison of the written files gave.

    Attributes:
        agreement: every pair that was compared.
        missing: file that was not written -> why.
    """

    agreement: tuple[Comparison, ...]
    missing: Mapping[str, str]


def write_and_verify(
    folder: Path, results: Results, candidate: Candidate, source: Source, count: int
) -> Verified:
    """Write the program beside the copied files, load all again, and compare them.

    Images are the first ones of the printed split, clean and under the hardest condition that was
    measured.

    Args:
        folder: holds copies of the candidate's files.
        results: the run.
        candidate: whose files they are.
        source: its images and base network.
        count: number of images.

    Raises:
        ExportError: the files do not agree as they must.
    """
    twin = _reloaded(folder, source)
    missing: dict[str, str] = {}
    try:
        write_program(twin, source.base.input_shape, folder / PROGRAM)
    except ExportError as error:
        (folder / PROGRAM).unlink(missing_ok=True)
        missing[PROGRAM] = str(error)
    forms = dict(_forms(folder, twin, source.inputs.spec.threads))
    found: list[Comparison] = []
    for condition in _conditions(results, candidate):
        world = None if condition.is_clean else source.inputs.world(source.images)
        scene = Scene(source.images, condition, world, source.inputs.batch_of(source.images))
        number = min(count, len(source.images))
        compare = _of_classes if source.base.detector is None else _of_boxes
        found += compare(results, candidate, source, scene, forms, number)
    if candidate.is_imitated and PROGRAM not in missing:
        found, reason = _without_bad_program(found)
        if reason:
            (folder / PROGRAM).unlink()
            missing[PROGRAM] = reason
    for item in found:
        if _is_demanded(item, results, candidate):
            item.check()
    return Verified(tuple(found), missing)


def _without_bad_program(found: list[Comparison]) -> tuple[list[Comparison], str]:
    """Return what is left where a program imitates the integers of the file badly, and why.

    Better no program than a wrong one: the file itself is what was measured.
    """
    own = [item for item in found if item.first == PROGRAM]
    bad = [item for item in own if item.second == files.NETWORK and not item.is_met]
    if not bad:
        return found, ""
    worst = min(bad, key=lambda item: item.same)
    what = "give the class" if worst.boxes is None else "find the boxes"
    reason = (
        f"its simulated integers {what} of {files.NETWORK} for only {worst.same} of {worst.count} "
        f"{'images' if worst.boxes is None else 'boxes'} under {worst.condition}"
    )
    return [item for item in found if item not in own], reason


def _is_demanded(item: Comparison, results: Results, candidate: Candidate) -> bool:
    """Return whether two forms must agree, or only say how far they do.

    Where PyTorch only imitates the file's integers, the form that was measured counts.
    """
    is_measured = item.second == STORED or PROGRAM in (item.first, item.second)
    return is_measured or not candidate.is_imitated or results.form == "twin"


def _reloaded(folder: Path, source: Source) -> nn.Module:
    """Return the network from the written files, after comparing both forms of its weights."""
    import torch

    twin = files.load_candidate(folder, source.base.module, packed=False)
    packed = files.load_candidate(folder, source.base.module, packed=True).state_dict()
    different = [n for n, t in twin.state_dict().items() if not torch.equal(t, packed[n])]
    if different:
        raise ExportError(
            f"{files.PACKED}: must hold the numbers of {files.WEIGHTS}, got others in "
            f"{', '.join(different[:3])}; make the candidate again in a new run directory"
        )
    return twin


def _forms(folder: Path, twin: nn.Module, threads: int) -> Iterator[tuple[str, Predict]]:
    from shrinkproof.artifacts.session import Session

    yield files.NETWORK, Session(folder / files.NETWORK, threads=threads)
    yield files.WEIGHTS, predict_with(twin)
    if (folder / PROGRAM).is_file():
        yield PROGRAM, load_program(folder / PROGRAM)


def _conditions(results: Results, candidate: Candidate) -> tuple[Condition, ...]:
    """Return the clean condition, and the hardest corrupted one that was measured.

    Raises:
        ExportError: the candidate was not measured on clean images.
    """
    measured = results.scored(candidate.key, results.printing)
    if CLEAN not in measured:
        raise ExportError(
            f"{candidate.label}: must be measured on the {results.printing} split to be exported, "
            "got no predictions of clean images; finish the run"
        )
    corrupted = [condition for condition in measured if not condition.is_clean]
    hardest = max(corrupted, key=lambda condition: condition.severity, default=None)
    return (CLEAN,) if hardest is None else (CLEAN, hardest)


def _stored(
    results: Results, candidate: Candidate, condition: Condition, index: NDArray[np.int64]
) -> Predictions:
    """Return the predictions that the run has kept for the first images.

    Raises:
        ExportError: they are missing, or of other images.
    """
    shard = results.scored(candidate.key, results.printing)[condition]
    kept = results.store.read_predictions(shard.cell.key)
    if kept is None or not np.array_equal(kept.index[: len(index)], index):
        what = "none that can be read" if kept is None else "those of other images"
        raise ExportError(
            f"{candidate.label}: the run must hold its predictions under {condition}, got {what}; "
            "run the study again in a new directory"
        )
    return kept.take(np.arange(len(index), dtype=np.int64))


def _measured(results: Results) -> str:
    """Return the file whose predictions the run holds."""
    return files.WEIGHTS if results.form == "twin" else files.NETWORK


def _of_classes(
    results: Results,
    candidate: Candidate,
    source: Source,
    scene: Scene,
    forms: Mapping[str, Predict],
    count: int,
) -> Iterator[Comparison]:
    """Yield the measured form against the run, and every file against those before it."""
    condition = str(scene.condition)
    logits = logits_of(scene, source.base.preprocess, forms, count)
    stored = _stored(results, candidate, scene.condition, source.images.index[:count])
    assert isinstance(stored, ClassificationPredictions), "a classifier was measured"
    is_float, own = not candidate.is_imitated, _measured(results)
    is_rounded = results.form == "twin" and results.spec.measure.inference.precision != "float32"
    kept = (STORED, stored.logits)
    yield compared((own, logits[own]), kept, condition, is_exact=is_float and not is_rounded)
    names = list(logits)
    for position, name in enumerate(names):
        for other in names[:position]:
            is_exact = is_float or other != files.NETWORK
            yield compared(
                (name, logits[name]), (other, logits[other]), condition, is_exact=is_exact
            )


def _of_boxes(
    results: Results,
    candidate: Candidate,
    source: Source,
    scene: Scene,
    forms: Mapping[str, Predict],
    count: int,
) -> Iterator[Comparison]:
    """Yield the same of a detector."""
    base, folder = source.base, results.store.candidate(candidate.key)
    assert base.detector is not None, "a detector was measured"
    stored = _stored(results, candidate, scene.condition, source.images.index[:count])
    assert isinstance(stored, DetectionPredictions), "a detector was measured"
    return box_comparisons(
        found_by(scene, base.preprocess, base.detector, forms, count),
        (STORED, stored),
        str(scene.condition),
        measured=_measured(results),
        threshold=threshold_of(results, candidate),
        has_exact=not chooses_inside(folder / files.NETWORK),
        integers=files.NETWORK if candidate.is_imitated else "",
    )
