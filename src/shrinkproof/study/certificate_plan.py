"""What a certificate will test, fixed and hashed before its images are looked at."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Final

from shrinkproof.corruptions import CORRUPTIONS
from shrinkproof.decision.promises import Evidence, Promise, class_of, promises_of
from shrinkproof.environment import describe_cpu, installed_version
from shrinkproof.errors import DataError, StoreError, UsageError
from shrinkproof.records import Candidate, Condition, Json, canonical_json
from shrinkproof.registry import fields_of
from shrinkproof.results import Results
from shrinkproof.spec.certify import CertifySpec
from shrinkproof.spec.recipes import full_name
from shrinkproof.store import digest_of

SPLIT: Final = "certify"
"""The split that nothing else reads."""

_FORMAT: Final = 1
"""Raise it when the same plan would be tested in another way."""

_DIGITS: Final = 9
"""Decimals of planned numbers, so that rounding errors make no new plan."""


@dataclass(frozen=True, slots=True)
class Taker:
    """One exported file that takes the test, or that paired losses are compared with.

    Attributes:
        label: readable name of the candidate.
        key: identity of the candidate.
        model: name of its model.
        sha256: digest of the exported file; empty where there is none.
        bytes: size of that file.
        family: recipes that differ in settings only belong together.
        slack: smallest distance of a risk to its limit on the split that decides, for the order of
            chains; None where nobody asks for it, or where it was not measured there.
    """

    label: str
    key: str
    model: str
    sha256: str
    bytes: int
    family: str
    slack: float | None = None


@dataclass(frozen=True)
class CertificatePlan:
    """Everything that a certificate tests, and how.

    Attributes:
        promises: what is promised.
        takers: the candidates, smallest file first.
        baselines: model -> its baseline, where a loss is paired.
        spec: settings of the study file.
        classes: names of the classes.
        surroundings: images, machine and versions.
    """

    promises: tuple[Promise, ...]
    takers: tuple[Taker, ...]
    baselines: Mapping[str, Taker]
    spec: CertifySpec
    classes: tuple[str, ...]
    surroundings: Json

    @property
    def error(self) -> float:
        """Probability of a wrong certificate that all looks share."""
        return round(1 - self.spec.confidence, _DIGITS)

    @property
    def chains(self) -> tuple[tuple[str, ...], ...]:
        """Labels of each family, the one with the largest slack first; none for other methods."""
        if self.spec.method != "chains":
            return ()
        families: dict[str, list[Taker]] = {}
        for taker in self.takers:
            families.setdefault(taker.family, []).append(taker)
        return tuple(
            tuple(t.label for t in sorted(members, key=_by_slack))
            for _, members in sorted(families.items())
        )

    @cached_property
    def conditions(self) -> tuple[Condition, ...]:
        """All conditions that a promise is about."""
        return tuple(dict.fromkeys(c for p in self.promises for c in p.conditions))

    @property
    def is_corrupted(self) -> bool:
        """Whether a promise is about corrupted images."""
        return any(not condition.is_clean for condition in self.conditions)

    @cached_property
    def paired(self) -> frozenset[Condition]:
        """Conditions under which baselines are needed, too."""
        return frozenset(c for p in self.promises if p.is_paired for c in p.conditions)

    def as_json(self) -> Json:
        """Return plain JSON values, the same ones for the same plan."""
        return {
            "format": _FORMAT,
            "promises": [promise.as_json() for promise in self.promises],
            "candidates": [asdict(taker) for taker in self.takers],
            "baselines": {model: asdict(t) for model, t in sorted(self.baselines.items())},
            "confidence": self.spec.confidence,
            "method": self.spec.method,
            "chains": [list(chain) for chain in self.chains],
            "looks": self.spec.looks,
            "test": self.spec.test,
            **self.surroundings,
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the plan in canonical JSON, 64 hex digits."""
        return hashlib.sha256(canonical_json(self.as_json()).encode()).hexdigest()


def plan_certificate(results: Results) -> CertificatePlan:
    """Return what the study's certificate tests; no certify image is read.

    Raises:
        UsageError: the study promises nothing, there is no candidate to test, or a class is none
            of the data.
        StoreError: the exported file of a candidate is damaged.
    """
    spec = results.spec.certify
    if spec is None:
        raise UsageError(
            f"{results.store.path}: the study has no 'certify' section, so nothing is promised; "
            "add one, for example certify: {promises: [{error: 0.2, over: every}]}, and run the "
            "study again (what is finished is kept)"
        )
    images = results.data["splits"].get(SPLIT)
    if images is None or "classes" not in images:
        raise UsageError(
            f"{results.store.path}: the run knows no certify images; run the study again into this "
            "directory (what is finished is kept)"
        )
    promises = promises_of(spec.promises, results.spec.conditions_list())
    for promise in promises:
        class_of(promise, images["classes"])
    classes = tuple(images["classes"])
    chosen = _chosen(results, spec)
    families = _families(results)
    takers = []
    for candidate in chosen:
        slack = None
        if spec.method == "chains":
            slack = slack_of(deciding_evidence(results, candidate, promises, classes))
        takers.append(_taker(results, candidate, families, slack))
    needs_baseline = any(promise.is_paired for promise in promises)
    models = {candidate.model for candidate in chosen if needs_baseline}
    return CertificatePlan(
        promises,
        tuple(sorted(takers, key=lambda taker: (taker.bytes, taker.label))),
        {model: _taker(results, baseline_of(results, model), families) for model in sorted(models)},
        spec,
        classes,
        _surroundings(results, images, promises),
    )


def _by_slack(taker: Taker) -> tuple[bool, float, str]:
    return (taker.slack is None, -(taker.slack or 0.0), taker.label)


def baseline_of(results: Results, model: str) -> Candidate:
    """Return the uncompressed network of a model."""
    return next(c for c in results.candidates if c.model == model and c.role == "baseline")


def _chosen(results: Results, spec: CertifySpec) -> list[Candidate]:
    """Return the candidates that are tested.

    Raises:
        UsageError: there are none, or a pattern matches none.
    """
    able = [c for c in results.candidates if c.role != "control"]
    if spec.candidates == "all":
        found = [c for c in able if c.role == "recipe"]
    elif spec.candidates == "front":
        decision = results.decision
        labels = set(() if decision is None else decision.front)
        found = [c for c in able if c.label in labels]
    else:
        for pattern in spec.candidates:
            if not any(fnmatchcase(c.label, pattern) for c in able):
                known = ", ".join(c.label for c in able)
                raise UsageError(
                    f"certify.candidates: must match a candidate, got {pattern!r}; there are "
                    f"{known}"
                )
        found = [c for c in able if any(fnmatchcase(c.label, p) for p in spec.candidates)]
    if not found:
        raise UsageError(
            f"certify.candidates: must give at least one candidate, got none for "
            f"{spec.candidates!r}; relax select.require, or write 'candidates: all'"
        )
    return found


def _families(results: Results) -> dict[str, str]:
    """Return recipe -> the name of its sweep, or its own."""
    return {
        full_name(name, chosen): name
        for name, recipe in results.spec.recipes.items()
        for chosen, _ in recipe.members()
    }


def _taker(
    results: Results, candidate: Candidate, families: Mapping[str, str], slack: float | None = None
) -> Taker:
    file = artifact_of(results, candidate.key)
    family = families.get(candidate.recipe, candidate.recipe)
    size = file.stat().st_size if file.is_file() else 0
    facts = results.store.read_json(f"candidates/{candidate.key}/complete.json") or {}
    made = facts.get("sha256"), facts.get("cost.bytes")
    sha256 = digest_of(file)
    if size and (made[0] not in (None, sha256) or made[1] not in (None, size)):
        raise StoreError(
            f"{file}: must be the file that was measured, got another one; delete "
            f"{file.parent} and run the study again"
        )
    return Taker(
        label=candidate.label,
        key=candidate.key,
        model=candidate.model,
        sha256=sha256,
        bytes=size,
        family=f"{candidate.model}/{family}",
        slack=None if slack is None else round(slack, _DIGITS),
    )


def artifact_of(results: Results, key: str) -> Path:
    """Return the exported file of a candidate, whether it is there or not."""
    return results.store.candidate(key) / "model.onnx"


def deciding_evidence(
    results: Results,
    candidate: Candidate,
    promises: Sequence[Promise],
    classes: Sequence[str],
) -> Evidence | None:
    """Return the losses of a candidate on the split that decides; None where some are missing."""
    mine = dict(_predicted(results, candidate))
    others = mine
    if any(promise.is_paired for promise in promises):
        others = dict(_predicted(results, baseline_of(results, candidate.model)))
    evidence = Evidence(tuple(promises), classes)
    for condition in dict.fromkeys(c for p in promises for c in p.conditions):
        keys = mine.get(condition), others.get(condition)
        shown, beside = (results.store.read_logits(key or "-") for key in keys)
        if shown is None or beside is None:
            return None
        evidence.add(condition, shown, beside)
    return evidence


def _predicted(results: Results, candidate: Candidate) -> Iterator[tuple[Condition, str]]:
    for cell in results.cells:
        is_mine = cell.candidate == candidate.key and cell.evaluator == "scores"
        if is_mine and cell.split == results.deciding and cell.form == results.form:
            yield cell.condition, cell.key


def slack_of(evidence: Evidence | None) -> float | None:
    """Return the smallest distance of a risk to its limit; None where one is not known."""
    if evidence is None:
        return None
    try:
        return min(promise.limit - evidence.risk(promise) for promise in evidence.promises)
    except DataError:  # no image of a class is among those that decide
        return None


def _machine() -> Json:
    """Return what of the machine can change a prediction; threads and clocks cannot."""
    cpu = describe_cpu()
    return {"system": platform.system(), "cpu": cpu["model"], "flags": cpu["flags"]}


def _surroundings(results: Results, images: Json, promises: Sequence[Promise]) -> Json:
    """Return what else decides about the numbers: images, corruptions, machine, versions."""
    corruptions = sorted({c.corruption for p in promises for c in p.conditions if not c.is_clean})
    return {
        "study": results.spec.full_name,
        "images": {name: images[name] for name in ("source", "count", "fingerprint")},
        "decided_on": results.deciding,
        "data": fields_of(results.spec.data),
        "seed": results.spec.seed,
        "threads": results.spec.threads,
        "corruptions": {name: CORRUPTIONS.get(name).version for name in corruptions},
        "machine": _machine(),
        "versions": {
            name: installed_version(name) for name in ("shrinkproof", "onnxruntime", "numpy")
        },
    }
