"""Why a candidate breaks a rule: everything that is known about it, put into words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.diagnosis.breakdown import Breakdown, Hit, break_down
from shrinkproof.diagnosis.layers import LayerEffects, explain_layers
from shrinkproof.diagnosis.paired import read_paired
from shrinkproof.diagnosis.rules import (
    MarginFinding,
    RuleFinding,
    Scope,
    baseline_of,
    check_rules,
    scope_of,
    unkept_margins,
)
from shrinkproof.diagnosis.wording import (
    layers_in_words,
    margins_in_words,
    rules_in_words,
    scope_in_words,
)
from shrinkproof.errors import ShrinkproofError, UsageError
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Undefined
from shrinkproof.records import CLEAN, Candidate, Condition, Json
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.summary.saliency import HEATMAPS

if TYPE_CHECKING:
    from shrinkproof.study.inputs import Inputs

IMAGES: Final = 256
"""Images that layers are compared on, where nobody says otherwise."""

_HEAVIEST: Final = 10
"""Layers that are listed for a rule about costs."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is behind the numbers of one candidate.

    Attributes:
        candidate: its label.
        baseline: the label of its uncompressed network.
        control: the label of its dense control; empty where that is the baseline.
        words: the findings in plain sentences, most important first.
        rules: every rule on the split that decides and on the printed one.
        margins: metrics that are not shown to be kept within the study's margins.
        scopes: where the errors come from, for everything that a broken rule is about; clean and
            corrupted images where none is broken.
        layers: what each layer alone does; None where it was not measured.
        costs: the layers with the most bytes, where a rule about costs is broken.
        maps: the images whose heat maps are least alike the baseline's, where there are any.
        files: where pictures, certificates and the page are, by name.
        notes: what is missing and how to get it.
    """

    candidate: str
    baseline: str
    control: str
    words: tuple[str, ...]
    rules: tuple[RuleFinding, ...]
    margins: tuple[MarginFinding, ...]
    scopes: tuple[Breakdown, ...]
    layers: LayerEffects | None
    costs: tuple[Json, ...]
    maps: tuple[Json, ...]
    files: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def broken(self) -> tuple[RuleFinding, ...]:
        """The rules that are broken, or have no number."""
        return tuple(found for found in self.rules if not found.is_met)

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


def explain(
    results: Results,
    label: str,
    *,
    rules: Sequence[str] = (),
    images: int = IMAGES,
    roots: Mapping[str, Path] | None = None,
) -> Explanation:
    """Return why a candidate is what it is: which rules it breaks, and what is behind it.

    Everything but the layers comes from stored predictions of the printed split. Layers need the
    model and images; where these are not found, a note says so.

    Args:
        results: the run.
        label: the candidate, ``model/recipe``, or its recipe alone where that is unique.
        rules: rules as in ``select.require``; those of the study by default.
        images: most images that layers are compared on; 0 leaves the layers out.
        roots: named places of data and weights; ``study`` stands for the folder of the study file.

    Raises:
        UsageError: there is no such candidate, it is a baseline, the run is no classification, or
            a rule cannot be read.
    """
    if results.spec.task != "classification":
        raise UsageError(
            "explain: the run must be of task classification, whose images are right or wrong, got "
            f"{results.spec.task}; its report shows the images with the most lost boxes"
        )
    candidate = find_candidate(results, label)
    baseline = baseline_of(results, candidate)
    if candidate.key == baseline.key:
        raise UsageError(
            f"{label}: must be a compressed candidate, got a baseline; it is what others are "
            "compared with"
        )
    wanted = tuple(map(_rule, rules)) or results.constraints
    checked = check_rules(results, candidate, wanted)
    margins = tuple(unkept_margins(results, candidate))
    notes = list(filter(None, [results.spec.scale_note]))
    scopes = tuple(_scopes(results, candidate, baseline, wanted, checked, notes))
    inputs = _inputs(results, roots or {}) if images else None
    if images and inputs is None:
        notes.append("layers are unknown: the run does not say where its model and data are")
    layers = None
    if inputs is not None:
        layers = _layers(results, candidate, inputs, _worst(scopes), images, notes)
        scopes = _with_files(scopes, inputs)
    maps = tuple(_maps(results, candidate, notes))
    control = results.by_key.get(candidate.control)
    words = [
        *rules_in_words(checked, wanted, results.printing),
        *margins_in_words(margins),
        *(sentence for scope in scopes for sentence in scope_in_words(scope)),
        *layers_in_words(layers),
    ]
    return Explanation(
        candidate=candidate.label,
        baseline=baseline.label,
        control="" if control is None or control.role != "control" else control.label,
        words=tuple(words),
        rules=checked,
        margins=margins,
        scopes=scopes,
        layers=layers,
        costs=tuple(_costs(results, candidate, checked)),
        maps=maps,
        files=_files(results),
        notes=tuple(notes),
    )


def _rule(text: str) -> Constraint:
    try:
        rule = Constraint.parse(text)
    except ValueError as error:
        raise UsageError(f"rule {text!r}: {error}") from error
    selector = rule.selector
    known = described(selector.metric)
    if known is not None and known.per_condition and not selector.condition:
        raise UsageError(
            f"rule {text!r}: {selector.metric} must have a condition, got none; write "
            f"{Selector(selector.metric, 'clean', part=selector.part)}"
        )
    return rule


def _scopes(
    results: Results,
    candidate: Candidate,
    baseline: Candidate,
    rules: Sequence[Constraint],
    checked: Sequence[RuleFinding],
    notes: list[str],
) -> Iterator[Breakdown]:
    """Yield what is behind the broken rules, or behind everything where none is broken."""
    conditions = results.spec.conditions_list()
    broken = {found.rule for found in checked if not found.is_met}
    wanted: dict[str, Scope] = {}
    for rule in rules:
        scope = scope_of(rule.selector, conditions)
        if str(rule) in broken and scope.conditions:
            wanted.setdefault(scope.name, scope)
    if not wanted:
        places = (Selector("", "clean"), Selector("", "corrupted"))
        found_scopes = (scope_of(place, conditions) for place in places)
        wanted = {scope.name: scope for scope in found_scopes if scope.conditions}
    paired = read_paired(results, candidate, baseline, results.printing)
    if isinstance(paired, Undefined):
        notes.append(f"where errors come from is unknown: {paired.reason}")
        return
    for scope in wanted.values():
        found = break_down(paired, scope)
        if isinstance(found, str):
            notes.append(found)
        else:
            yield replace(found, images=tuple(_with_pictures(results, found)))


def _with_pictures(results: Results, found: Breakdown) -> Iterator[Hit]:
    """Yield the images with the conditions under which there is a picture of them."""
    for hit in found.images:
        places = dict.fromkeys(("clean", *hit.under))
        shown = [at for at in places if results.pictures.find(found.split, hit.index, at)]
        yield replace(hit, pictures=tuple(shown))


def _layers(
    results: Results,
    candidate: Candidate,
    inputs: Inputs,
    condition: Condition,
    images: int,
    notes: list[str],
) -> LayerEffects | None:
    if not results.store.has_candidate(candidate.key):
        notes.append(f"layers are unknown: {candidate.label} is not prepared in this run")
        return None
    found = explain_layers(results, candidate, inputs, condition=condition, count=images)
    if isinstance(found, str):
        notes.append(found)
        return None
    return found


def _with_files(scopes: Sequence[Breakdown], inputs: Inputs) -> tuple[Breakdown, ...]:
    """Return the scopes with the names of the files of their images, where they have any."""
    splits = {scope.split for scope in scopes}
    try:
        sets = inputs.splits(splits).sets
    except (ShrinkproofError, OSError):
        return tuple(scopes)  # the note about the layers says what is missing
    names = {
        (split, index): str(file)
        for split in splits
        if (files := sets[split].files) is not None
        for index, file in zip(sets[split].index.tolist(), files, strict=True)
    }
    return tuple(
        replace(
            scope,
            images=tuple(
                replace(hit, file=names.get((scope.split, hit.index), "")) for hit in scope.images
            ),
        )
        for scope in scopes
    )


def _inputs(results: Results, roots: Mapping[str, Path]) -> Inputs | None:
    from shrinkproof.study.inputs import Inputs, roots_of_environment

    stored = results.store.read_json("inputs.json")
    if stored is None:
        return None
    try:
        inputs = Inputs.from_json(stored)
    except (KeyError, TypeError):
        return None
    places = {**inputs.roots, **roots_of_environment(), **roots}
    return replace(inputs, roots=places, folder=roots.get("study", inputs.folder))


def _worst(scopes: Sequence[Breakdown]) -> Condition:
    """Return the condition with the largest loss that is shown, or else that of the first scope."""
    for scope in scopes:
        shown = {row.name for row in (*scope.single, *scope.corruptions) if row.is_shown}
        for row in scope.single:
            if row.loss > 0 and shown & {row.name, row.name.partition(":")[0]}:
                return Condition.parse(row.name)
    if scopes and scopes[0].conditions == 1:
        return Condition.parse(scopes[0].single[0].name)
    return CLEAN


def _costs(
    results: Results, candidate: Candidate, checked: Sequence[RuleFinding]
) -> Iterator[Json]:
    """Yield the layers with the most bytes, where a rule about costs is broken."""
    if not any(found.rule.startswith("cost.") and not found.is_met for found in checked):
        return
    account = results.store.read_json(f"candidates/{candidate.key}/layers.json") or {}
    layers: dict[str, Json] = account.get("layers", {})
    total = sum(entry["bytes_packed"] for entry in layers.values()) or 1
    for name, entry in sorted(layers.items(), key=lambda item: -item[1]["bytes_packed"])[
        :_HEAVIEST
    ]:
        yield {
            "layer": name,
            "bytes_packed": entry["bytes_packed"],
            "bytes_dense": entry["bytes_dense"],
            "parameters": entry["parameters"],
            "macs": entry["macs"],
            "share": entry["bytes_packed"] / total,
        }


def _maps(results: Results, candidate: Candidate, notes: list[str]) -> Iterator[Json]:
    """Yield the images whose heat maps are least alike; a note where there are none."""
    exhibits = [e for e in results.exhibits(HEATMAPS) if e["candidate"] == candidate.label]
    for exhibit in exhibits:
        for image in exhibit["images"]:
            yield {
                "index": image["index"],
                "class": image["class"],
                "explained": image["explained"],
                "hcc": image["hcc"],
                "method": exhibit["method"],
                "split": exhibit["split"],
                "condition": exhibit["condition"],
            }
    if exhibits:
        return
    if any(cell.evaluator == "saliency" for cell in results.cells):
        notes.append(
            "heat maps of this candidate are not among the least alike; 'shrinkproof results' has "
            "its HCC"
        )
    else:
        notes.append(
            "no heat maps were made; add 'saliency: {methods: [gradcam]}' under 'measure:' in the "
            "study file and run it again"
        )


def _files(results: Results) -> dict[str, str]:
    names = {"page": "report.html", "pictures": "pictures", "certificates": "certificates"}
    paths = {name: results.store.path / file for name, file in names.items()}
    return {name: str(path) for name, path in paths.items() if path.exists()}
