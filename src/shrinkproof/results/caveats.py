"""Everything a reader must know before believing the numbers of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np

from shrinkproof.evaluators.fidelity import AGREEMENT as FLOAT32_AGREEMENT
from shrinkproof.evaluators.fidelity import DIFFERENCE as FLOAT32_DIFFERENCE
from shrinkproof.records import CLEAN
from shrinkproof.results.imported import read_imported
from shrinkproof.selectors import Selector
from shrinkproof.summary import winner_optimism

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

BLIND: Final = 0.01
"""Average precision below which an uncompressed detector finds nothing."""

AGREEMENT_FLOOR: Final = 0.99
"""Two forms must predict the same class at least this often, or the page says so."""


def caveats_of(results: Results) -> Iterator[str]:
    """Yield one sentence for each."""
    yield from results.data["notes"]
    yield from read_imported(results.store, *results.store.read_plan()).notes
    for model, splits in results.data["contamination"].items():
        for split in results.measuring:
            if splits.get(split):
                yield f"{model}, {split}: contaminated, {splits[split]}"
    if results.spec.select is not None and results.deciding == results.printing:
        yield _same_images(results)
    if results.spec.controls == "none":
        yield (
            "controls: none. Without a dense control of equal training, an improvement "
            "cannot be credited to compression"
        )
    yield from _blind(results) if results.spec.task == "detection" else _guessing(results)
    yield from _disagreements(results)
    yield from _roundings(results)
    if results.missing:
        yield (
            f"not finished: {sum(results.missing.values())} of {len(results.cells)} measurements "
            f"are missing, of {', '.join(results.missing)}; run the same command again"
        )
    if results.failures:
        yield f"{len(results.failures)} candidate(s) or cell(s) failed; why is listed at the end"
    yield from dict.fromkeys(note for shard in results.shards.values() for note in shard.notes)


def _same_images(results: Results) -> str:
    text = (
        f"selected and measured on the same images ({results.printing}): the chosen candidate's "
        "numbers are optimistic"
    )
    if results.spec.task == "detection":
        return text  # nobody knows by how much: average precision is no mean over images
    bias = winner_optimism(
        results.candidates,
        [shard.cell for shard in results.shards.values()],
        results.store.read_logits,
        results.settings,
        results.printing,
    )
    if bias is None:
        return text
    return f"{text}, its mean error by up to {100 * bias:.2g} percentage points"


def _guessing(results: Results) -> Iterator[str]:
    """Yield which uncompressed models know nothing: the usual sign of a wrong set-up."""
    for cell in results.cells:
        candidate = results.by_key[cell.candidate]
        place = (cell.evaluator, cell.form, cell.split, cell.condition)
        if candidate.role != "baseline" or place != (
            "scores",
            results.form,
            results.printing,
            CLEAN,
        ):
            continue
        number = results.numbers.find(
            candidate.label, results.printing, Selector("accuracy.top1", "clean")
        )
        predictions = results.store.read_logits(cell.key)
        if predictions is None or not len(predictions) or number.value is None:
            continue
        majority = float(np.bincount(predictions.target).max() / len(predictions))
        worst = number.value if number.low is None else number.low
        if worst <= majority:
            yield (
                f"{candidate.label}: {100 * number.value:.1f} % top-1 on clean images is no "
                f"better than guessing the most frequent class ({100 * majority:.1f} %); are "
                "the order of the labels, the preprocessing and the class map right?"
            )


def _blind(results: Results) -> Iterator[str]:
    """Yield which uncompressed detectors find nothing: the usual sign of a wrong set-up."""
    quality = Selector(results.spec.quality, "clean")
    for candidate in results.candidates:
        found = results.numbers.find(candidate.label, results.printing, quality)
        if candidate.role == "baseline" and found.value is not None and found.value < BLIND:
            yield (
                f"{candidate.label}: an average precision of {100 * found.value:.1f} % on clean "
                "images is next to nothing; are the order of the classes, the format of the boxes "
                "and the preprocessing right?"
            )


def _disagreements(results: Results) -> Iterator[str]:
    what = "boxes" if results.spec.task == "detection" else "images"
    for row in results.summary.rows:
        value = row.measurement.value
        if row.measurement.metric != "fidelity.agreement" or value is None:
            continue
        if value < AGREEMENT_FLOOR:
            yield (
                f"{results.by_key[row.candidate].label}: PyTorch and the exported file agree on "
                f"only {100 * value:.2f} % of the clean {row.split} {what}; numbers of one "
                "form must not be used for the other"
            )


def _roundings(results: Results) -> Iterator[str]:
    """Yield which candidates answer otherwise than in float32."""
    for shard in results.shards.values():
        for measurement in shard.measurements:
            value = measurement.value
            if measurement.metric == FLOAT32_DIFFERENCE and value is None:
                label = results.by_key[shard.cell.candidate].label
                yield f"{label}: cannot be compared with float32: {measurement.reason}"
            if measurement.metric != FLOAT32_AGREEMENT or value is None:
                continue
            if value < AGREEMENT_FLOOR:
                yield (
                    f"{results.by_key[shard.cell.candidate].label}: the precision of this study "
                    f"and float32 agree on only {100 * value:.2f} % of {measurement.count} clean "
                    f"{shard.cell.split} images; its numbers are those of the precision"
                )
