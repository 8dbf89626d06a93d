"""What a look at certify images shows, and what may be said after it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet
from shrinkproof.decision.certificate import (
    FamilyTest,
    chain_certified,
    holm_certified,
    intersection_p,
)
from shrinkproof.decision.ledger import Look
from shrinkproof.decision.promises import Evidence, Promise, Verdict, method_of
from shrinkproof.records import Json
from shrinkproof.results import Results
from shrinkproof.spec.certify import MEAN
from shrinkproof.statistics.planning import SURE, loss_ranks, units_for_all, units_needed
from shrinkproof.study.certificate_plan import (
    SPLIT,
    CertificatePlan,
    Taker,
    deciding_evidence,
    slack_of,
)

POWER: Final = 0.8
"""Probability of being certified with the images that are called needed."""


@dataclass(frozen=True)
class Outcome:
    """The tests of one look, and the certificate made of them.

    Attributes:
        results: the run.
        plan: what is tested.
        images: the certify images, each only once.
        look: the use of these images, as the ledger has it.
        evidence: label -> losses, of the candidates that could be measured.
        failed: key of a candidate -> why it could not.
        seen: why images are not new for any model; empty where they are.
    """

    results: Results
    plan: CertificatePlan
    images: ImageSet
    look: Look
    evidence: Mapping[str, Evidence]
    failed: Mapping[str, str]
    seen: str = ""

    @property
    def error(self) -> float:
        """Error of this look; of the whole budget where it is invalid and only explores."""
        return self.look.error if self.look.is_valid else self.plan.error

    @cached_property
    def verdicts(self) -> Mapping[str, tuple[Verdict, ...]]:
        """Verdict on each promise, by label."""
        return {
            label: tuple(
                evidence.verdict(promise, self.error, self.plan.spec.test)
                for promise in self.plan.promises
            )
            for label, evidence in self.evidence.items()
        }

    @cached_property
    def p_values(self) -> Mapping[str, float]:
        """P-value of "a promise is broken", by label; 1 where nobody could tell."""
        return {
            taker.label: intersection_p([v.p for v in self.verdicts[taker.label]])
            if taker.label in self.verdicts
            else 1.0
            for taker in self.plan.takers
        }

    @cached_property
    def family(self) -> FamilyTest:
        """Adjusted p-values of all candidates of the plan."""
        if self.plan.spec.method == "chains":
            return chain_certified(self.p_values, self.plan.chains, self.error)
        return holm_certified(self.p_values, self.error)

    @cached_property
    def why_invalid(self) -> str:
        """Why nothing may be claimed; empty where something may."""
        told = [] if self.look.is_valid else [self.look.why]
        dirty = self.results.data["contamination"]
        for model in dict.fromkeys(taker.model for taker in self.plan.takers):
            reason = dirty.get(model, {}).get(SPLIT)
            told += [f"{model}: the certify images are not new: {reason}"] if reason else []
        told += [f"the certify images are not new: {self.seen}"] if self.seen else []
        return "; ".join(told)

    def certificate(self) -> Json:
        """Return the certificate as plain JSON values."""
        certified = [] if self.why_invalid else list(self.family.certified)
        certified = [taker.label for taker in self.plan.takers if taker.label in certified]
        return {
            "plan": self.plan.digest,
            "status": "invalid" if self.why_invalid else "valid",
            "why": self.why_invalid or self._outcome(certified),
            "confidence": self.plan.spec.confidence,
            "method": self.plan.spec.method,
            "promises": [promise.as_json() for promise in self.plan.promises],
            "candidates": [self._row(taker, certified) for taker in self.plan.takers],
            "certified": certified,
            "smallest": certified[0] if certified else None,
            "images": len(self.images),
            "units": self._units,
            "needed": self._needed(certified),
            "look": {
                "number": self.look.number,
                "of": self.look.of,
                "error": self.look.error,
                "why": self.look.why,
            },
            "scope": list(self._scope()),
            "made": datetime.now(UTC).isoformat(timespec="microseconds"),
        }

    @property
    def _units(self) -> int:
        groups = self.images.groups
        return len(self.images) if groups is None else len(np.unique(groups))

    def _outcome(self, certified: list[str]) -> str:
        count, promises = len(self.plan.takers), len(self.plan.promises)
        candidates = "tested candidate" if count == 1 else "tested candidates"
        verb = "is" if len(certified) == 1 else "are"
        which = "the promise" if promises == 1 else f"all {promises} promises"
        return f"{len(certified)} of {count} {candidates} {verb} shown to keep {which}"

    def _row(self, taker: Taker, certified: list[str]) -> Json:
        verdicts = self.verdicts.get(taker.label, ())
        return {
            "label": taker.label,
            "sha256": taker.sha256,
            "bytes": taker.bytes,
            "certified": taker.label in certified,
            "p": self.p_values[taker.label],
            "adjusted_p": self.family[taker.label],
            "promises": [verdict.as_json() for verdict in verdicts],
            "why": self._why(taker, certified),
        }

    def _why(self, taker: Taker, certified: list[str]) -> str:
        """Return why a candidate is, or is not, certified."""
        if taker.key in self.failed:
            return f"could not be tested: {self.failed[taker.key]}"
        adjusted = f"adjusted p {self.family[taker.label]:.2g}, error {self.error:.3g}"
        if taker.label in certified:
            return f"every promise is shown to be kept ({adjusted})"
        if self.why_invalid:
            return "the certificate is invalid; its numbers are exploration"
        open_ones = [v for v in self.verdicts[taker.label] if v.p > self.error]
        if not open_ones:
            rule = "an earlier candidate of its chain failed, or " * (
                self.plan.spec.method == "chains"
            )
            return f"{rule}it is not sure enough among {len(self.plan.takers)} ({adjusted})"
        promises = {promise.name: promise for promise in self.plan.promises}
        return "; ".join(
            f"{v.name}: not shown, {v.risk:.4g} {_where(promises[v.name], v)} (upper bound "
            f"{v.upper:.4g}), limit {promises[v.name].limit:.4g}"
            for v in open_ones
        )

    def _needed(self, certified: list[str]) -> Json | None:
        """Return how many images would certify the next smaller candidate.

        It is planned with the losses on the images that decide, where they were measured there.
        """
        others = [
            t for t in self.plan.takers if t.label not in certified and t.key not in self.failed
        ]
        if certified:
            smallest = next(t for t in self.plan.takers if t.label == certified[0])
            others = [taker for taker in others if taker.bytes < smallest.bytes][-1:]
        plans = [self._images_needed(taker) for taker in others]
        able = [found for found in plans if found["images"] is not None]
        return min(able, key=lambda found: found["images"], default=plans[-1] if plans else None)

    def _images_needed(self, taker: Taker) -> Json:
        evidence, split = self._planned_with(taker)
        found: Json = {
            "label": taker.label,
            "images": None,
            "split": split,
            "why": "",
            "power": POWER,
        }
        if evidence is None:
            return {**found, "why": "its losses are not known"}
        counts: list[tuple[int, int]] = []
        for promise in self.plan.promises:
            needed = self._of_promise(evidence, promise)
            if needed is None:
                risk = evidence.risk(promise)
                why = f"{promise.name} is {risk:.4g} on {split}, too near to {promise.limit:.4g}"
                if risk >= promise.limit:
                    why = f"{promise.name} is {risk:.4g} on {split}, above {promise.limit:.4g}"
                return {**found, "why": why}
            counts += needed
        first_T, sure_T = np.array(counts).T
        ranks = self._ranks(evidence)
        return {**found, "images": units_for_all(first_T, sure_T, ranks, POWER)}

    def _ranks(self, evidence: Evidence) -> NDArray[np.float64]:
        """Return which tests fail together, (R, T); promises about one class share their units."""
        losses: dict[str, list[tuple[int, NDArray[Any]]]] = {}
        place = 0
        for promise in self.plan.promises:
            for _, losses_U in evidence.units(promise):
                losses.setdefault(promise.class_name, []).append((place, losses_U))
                place += 1
        found: dict[int, NDArray[np.float64]] = {}
        for name, members in losses.items():
            ranks = loss_ranks([losses_U for _, losses_U in members], name)
            found |= {at: ranks[:, t] for t, (at, _) in enumerate(members)}
        return np.stack([found[at] for at in range(place)], axis=1)

    def _planned_with(self, taker: Taker) -> tuple[Evidence | None, str]:
        """Return the losses that more images are planned with, and their split."""
        plan = self.plan
        candidate = self.results.by_key[taker.key]
        found = deciding_evidence(self.results, candidate, plan.promises, plan.classes)
        if found is not None and slack_of(found) is not None:
            return found, self.results.deciding
        return self.evidence.get(taker.label), SPLIT

    def _of_promise(self, evidence: Evidence, promise: Promise) -> list[tuple[int, int]] | None:
        """Return the images for each test of a promise, None where no number is enough.

        Two numbers for each: for `POWER`, and for `SURE`.
        """
        is_chain = self.plan.spec.method == "chains"
        share = self.error / len(self.plan.chains if is_chain else self.plan.takers)
        found = []
        own = {v.name: v.units for v in next(iter(self.verdicts.values()), ())}
        per_unit = len(self.images) / own.get(promise.name, self._units)
        for _, losses_U in evidence.units(promise):
            method = method_of(losses_U, self.plan.spec.test)
            counts = [
                units_needed(
                    float(losses_U.mean()),
                    promise.limit,
                    error=share,
                    power=power,
                    sd=None if method == "binomial" else float(losses_U.std()),
                    low=promise.low,
                    method=method,
                )
                for power in (POWER, SURE)
            ]
            images = [math.ceil(count * per_unit) for count in counts if count is not None]
            if len(images) < len(counts):
                return None
            found.append((images[0], images[1]))
        return found

    def _scope(self) -> Iterator[str]:
        """Yield what the certificate is about, and what it is not."""
        data, versions = self.results.spec.data, self.plan.surroundings["versions"]
        yield from filter(None, [self.results.spec.scale_note])
        yield (
            f"The promises are about images that are exchangeable with the {len(self.images)} "
            f"certify images ({self.images.source}). Nothing is said about other images, and "
            "nothing about safety in the field."
        )
        copies = self.plan.surroundings["images"]["count"] - len(self.images)
        if copies:
            yield (
                f"{copies} more certify images are identical copies of these and do not count: a "
                "copy is no new evidence."
            )
        if self.plan.is_corrupted:
            source = f"read from {data.stored}" if data.stored else "made from clean ones"
            yield (
                f"Corrupted images are synthetic ({source}): these corruptions at these severities "
                "stand for no real weather and no real camera."
            )
        if self.images.groups is not None:
            yield (
                f"The {self._units} groups of images are the independent units: every promise is "
                "about the mean over groups, a small one counts as much as a large one."
            )
        machine = self.plan.surroundings["machine"]
        yield (
            "Certified is the exported file with this SHA-256, run by ONNX Runtime "
            f"{versions['onnxruntime']} on {machine['cpu']}; not the network before export, and "
            "not another conversion of it."
        )
        if self.why_invalid:
            return
        yield (
            f"With a probability of at least {100 * (1 - self.error):.4g} % over the draw of "
            f"these images, none of the {len(self.plan.takers)} tested candidates is certified "
            "wrongly. Looks at these images that this ledger does not know make that untrue."
        )


def _where(promise: Promise, verdict: Verdict) -> str:
    """Return what the risk of a verdict is about."""
    if promise.over == MEAN:
        return f"in the mean of {len(promise.conditions)} conditions (worst: {verdict.worst})"
    return f"under {verdict.worst}"
