"""Test candidates for promises on images that nothing else has touched.

The order matters. The plan, with the digest of each exported file, is written first; then the look
is written to the ledger; only then are the certify images shown to a candidate. Whatever is killed
in between goes on where it was: the same plan is the same look.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.atomic import explained
from shrinkproof.data.imageset import ImageSet
from shrinkproof.decision.ledger import Ledger
from shrinkproof.decision.promises import Evidence, class_of
from shrinkproof.engines.inline import Inline
from shrinkproof.errors import DataError
from shrinkproof.evaluators.scores import Scores
from shrinkproof.protocols import Engine
from shrinkproof.records import Cell, Condition, Failure, Json, key_of
from shrinkproof.results import Results
from shrinkproof.results.certificate import CERTIFICATE, PLAN, name_of
from shrinkproof.store import Store, digest_of
from shrinkproof.study.certificate_outcome import Outcome
from shrinkproof.study.certificate_plan import (
    SPLIT,
    CertificatePlan,
    Taker,
    artifact_of,
    plan_certificate,
)
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.progress import Progress, Silence
from shrinkproof.study.work.measuring import Pass, measure
from shrinkproof.study.work.workplace import forget_workplace

LEDGER: Final = "certify-ledger.jsonl"
"""Name of the ledger, in the folder of the study file: all runs of that folder share it."""


def certify(
    path: Path | str,
    *,
    ledger: Path | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Json:
    """Test the candidates of a run for the promises of its study; return the certificate.

    The same plan gives the same certificate again, without a new look at the images.

    Args:
        path: the run directory.
        ledger: file with the looks at certify images; ``certify-ledger.jsonl`` beside the study
            file by default.
        engine: where the work happens; this process by default.
        progress: who is told how far it is.

    Raises:
        UsageError: the study promises nothing, or there is nothing to test.
        StoreError: an exported file or the ledger is damaged, or something cannot be written.
        DataError: the certify images are not those of the run.
    """
    results = Results.load(path)
    plan = plan_certificate(results)
    store = results.store
    known: Json | None = store.read_json(name_of(plan.digest))
    if known is not None and all(row["promises"] for row in known["candidates"]):
        return known
    folder = (store.path / name_of(plan.digest)).parent
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    store.write_json(name_of(plan.digest, PLAN), plan.as_json())
    inputs = Inputs.from_json(store.read_json("inputs.json"))
    images = inputs.splits([SPLIT]).sets[SPLIT]
    _check_images(images, plan)
    seen = _seen_groups(images, inputs)
    look = Ledger.open(ledger or inputs.folder / LEDGER).spend(
        purpose="certify",
        digests=images.hashes.tolist(),
        groups=_groups(images),
        plan=plan.digest,
        looks=plan.spec.looks,
        error=plan.error,
    )
    looking = _Looking(results, plan, inputs, images)
    looking.measure(engine or Inline(), progress or Silence())
    evidence = looking.evidence()
    distinct = images.take(_firsts(images))
    outcome = Outcome(results, plan, distinct, look, evidence, looking.failed, seen)
    certificate = outcome.certificate()
    store.write_json(name_of(plan.digest, CERTIFICATE), certificate)
    return certificate


def _check_images(images: ImageSet, plan: CertificatePlan) -> None:
    planned = plan.surroundings["images"]["fingerprint"]
    if images.fingerprint != planned:
        raise DataError(
            f"certify: the images of {images.source} must be those of the run, got others "
            f"({images.fingerprint} instead of {planned}); run the study again"
        )
    for promise in plan.promises:
        wanted = class_of(promise, plan.classes)
        if wanted is not None and not (images.labels == wanted).any():
            raise DataError(
                f"certify: {promise.name}: at least one certify image must be of class "
                f"{promise.class_name}, got none of {len(images)}; give the split more images"
            )


def _firsts(images: ImageSet) -> NDArray[np.int64]:
    """Return the position of the first copy of each image, in order: a copy is no new unit."""
    return np.sort(np.unique(images.hashes, return_index=True)[1]).astype(np.int64)


def _groups(images: ImageSet) -> list[str]:
    """Return a name of each group of the images that no group of another source has."""
    if images.groups is None:
        return []
    return [f"{images.source} {group}" for group in np.unique(images.groups).tolist()]


def _seen_groups(images: ImageSet, inputs: Inputs) -> str:
    """Return which groups of the images another split has, too; empty where none has.

    Another image of a drive or a patient that was learned from, or decided with, is not new.
    Groups of different sources are different groups.
    """
    if images.groups is None:
        return ""
    mine = set(_groups(images))
    others = [name for name in inputs.spec.data.names if name != SPLIT]
    shared = {
        name: len(mine.intersection(_groups(found)))
        for name, found in inputs.splits(others).sets.items()
    }
    return "; ".join(
        f"{count} of {len(mine)} groups are also in {name}"
        for name, count in shared.items()
        if count
    )


@dataclass(eq=False)
class _Looking:
    """One look: the exported files predict the certify images.

    Attributes:
        results: the run.
        plan: what is tested.
        inputs: the study.
        images: the certify images.
        failed: key of a candidate -> why it could not be tested.
    """

    results: Results
    plan: CertificatePlan
    inputs: Inputs
    images: ImageSet
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Store:
        return self.results.store

    @cached_property
    def cells(self) -> Mapping[tuple[str, Condition], Cell]:
        """What is measured, by key of the candidate and condition; in no plan of the study."""
        world = self.inputs.world(self.images) if self.plan.is_corrupted else None
        found = {}
        for taker, condition in self._measured():
            parts: Json = {
                "batch": self.inputs.batch_of(self.images),
                "candidate": taker.key,
                "condition": str(condition),
                "images": self.images.fingerprint,
                "sha256": taker.sha256,
                "threads": self.inputs.spec.threads,
                "version": Scores.version,
            }
            if world is not None and not condition.is_clean:
                parts["corruption"] = world.identity(condition)
            key = key_of("certify", parts)
            cell = Cell(key, taker.key, Scores.name, "artifact", SPLIT, condition)
            found[taker.key, condition] = cell
        return found

    def _measured(self) -> Iterator[tuple[Taker, Condition]]:
        for condition in self.plan.conditions:
            others = self.plan.baselines.values() if condition in self.plan.paired else ()
            takers = {taker.key: taker for taker in (*self.plan.takers, *others)}
            yield from ((taker, condition) for taker in takers.values())

    def measure(self, engine: Engine, progress: Progress) -> None:
        """Let every exported file predict the certify images, where it has not yet."""
        forget_workplace()
        passes: dict[Condition, list[Cell]] = {}
        for (key, condition), cell in self.cells.items():
            if not artifact_of(self.results, key).is_file():
                self.failed[key] = "it has no exported file, and only such a file is certified"
            elif self.store.read_logits(cell.key) is None:
                passes.setdefault(condition, []).append(cell)
        items = [Pass(str(self.store.path), SPLIT, c, tuple(cells)) for c, cells in passes.items()]
        if items:
            start = time.perf_counter()
            progress.begin("certify", len(items))
            for item, outcome in engine.map(measure, items):
                for cell in item.cells:
                    result = outcome if isinstance(outcome, Failure) else outcome.measured[cell.key]
                    if isinstance(result, Failure):
                        self.failed.setdefault(
                            cell.candidate, f"{item.condition}: {result.message}"
                        )
                progress.advance(str(item.condition))
            progress.end("certify", time.perf_counter() - start)
        self._check_unchanged()
        for key, why in self.failed.items():
            progress.warn(f"{self._labels[key]}: {why}")

    @property
    def _labels(self) -> dict[str, str]:
        takers = (*self.plan.takers, *self.plan.baselines.values())
        return {taker.key: taker.label for taker in takers}

    def _check_unchanged(self) -> None:
        """Refuse predictions of a file that is not the planned one any more, and forget them."""
        for taker in (*self.plan.takers, *self.plan.baselines.values()):
            if digest_of(artifact_of(self.results, taker.key)) == taker.sha256:
                continue
            self.failed[taker.key] = "its exported file has changed while it was tested"
            for (key, _), cell in self.cells.items():
                if key == taker.key:
                    folder = self.store.path / "predictions" / cell.key
                    shutil.rmtree(folder, ignore_errors=True)

    def evidence(self) -> dict[str, Evidence]:
        """Return the losses on the certify images, by label, of whoever could be measured."""
        found = {}
        for taker in self.plan.takers:
            if taker.key in self.failed:
                continue
            try:
                found[taker.label] = self._gathered(taker)
            except DataError as error:
                self.failed[taker.key] = str(error)
        return found

    def _gathered(self, taker: Taker) -> Evidence:
        evidence = Evidence(self.plan.promises, self.plan.classes)
        firsts = _firsts(self.images)
        for condition in self.plan.conditions:
            shown = self.store.read_logits(self.cells[taker.key, condition].key)
            if shown is None:
                raise DataError(f"its predictions under {condition} are missing; certify again")
            beside = None
            if condition in self.plan.paired:
                baseline = self.plan.baselines[taker.model]
                if baseline.key in self.failed:
                    raise DataError(f"its baseline: {self.failed[baseline.key]}")
                beside = self.store.read_logits(self.cells[baseline.key, condition].key)
                beside = None if beside is None else beside.take(firsts)
            evidence.add(condition, shown.take(firsts), beside)
        return evidence
