"""Claims of the papers: every one can be asked of a run, says why it counts, and is documented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.names import known_metric, without_prefixes
from shrinkproof.metrics.spelling import metric_of, name_of
from shrinkproof.selectors import Selector
from shrinkproof.verdict.claims import (
    Between,
    Claim,
    Correlation,
    Count,
    Effect,
    FormGap,
    Front,
    Joint,
    Table,
    Test,
    Threshold,
)
from shrinkproof.verdict.methods import METHODS
from shrinkproof.verdict.papers import PAPERS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/claims.md"
CLAIMS = [(paper, claim) for paper in PAPERS.values() for claim in paper.claims]
EACH = pytest.mark.parametrize(
    ("paper", "claim"), [pytest.param(p, c, id=f"{p.name}-{c.name}") for p, c in CLAIMS]
)


def effects_of(test: Test) -> tuple[Effect, ...]:
    if isinstance(test, Joint):
        return test.parts
    if isinstance(test, Between):
        return (test.effect,)
    return (test,) if isinstance(test, Effect) else ()


def selectors_of(test: Test) -> Iterator[str]:
    yield from (effect.selector for effect in effects_of(test))
    match test:
        case Threshold():
            yield test.selector
            yield from filter(None, [test.relative_to])
        case Correlation():
            yield from (test.x, test.y)
        case Between():
            yield test.by
        case FormGap() | Count():
            yield test.selector
        case Front():
            yield from test.objectives
        case Table():
            yield from test.selectors.values()


def methods_of(test: Test) -> Iterator[str]:
    yield from (effect.method for effect in effects_of(test))
    if isinstance(test, FormGap):
        yield test.method


def asked_by(claim: Claim) -> tuple[Test, ...]:
    return (claim.test, *claim.controls)


def test_papers_are_called_as_the_command_spells_them():
    assert list(PAPERS) == ["mitra2024", "mantowsky2023", "dasilva2025"]
    assert all(name == paper.name for name, paper in PAPERS.items())
    assert all(paper.title and paper.reference and paper.notes for paper in PAPERS.values())


@pytest.mark.parametrize(("letter", "paper"), list(zip("ABC", PAPERS.values(), strict=True)))
def test_claims_are_numbered_in_order(letter, paper):
    names = [claim.name for claim in paper.claims]
    assert names == [f"{letter}{number}" for number in range(1, len(names) + 1)]
    assert len({claim.says for claim in paper.claims}) == len(names)


@EACH
def test_every_selector_names_a_known_metric(paper, claim):
    for test in asked_by(claim):
        for text in selectors_of(test):
            selector = Selector.parse(text)
            known = known_metric(selector.metric)
            assert known is not None, text
            assert known.per_condition == bool(selector.condition), text
            bare = without_prefixes(selector.metric)
            if name_of(bare) in METRICS:
                metric_of(bare)


@EACH
def test_every_method_is_known(paper, claim):
    for test in asked_by(claim):
        assert set(methods_of(test)) <= set(METHODS)


@EACH
def test_statements_are_single_sentences(paper, claim):
    assert re.fullmatch(r"[A-Z0-9][^|\n]*[^.]\.", claim.says)
    assert claim.published
    assert claim.where
    assert claim.family


@EACH
def test_primary_tests_state_a_margin(paper, claim):
    for effect in effects_of(claim.test):
        assert 0 < effect.margin < 1


@EACH
def test_a_control_is_another_test_than_the_primary_one(paper, claim):
    tests = asked_by(claim)
    assert all(a != b for i, a in enumerate(tests) for b in tests[:i])


@EACH
def test_effects_of_a_method_have_the_equal_budget_control(paper, claim):
    effects = effects_of(claim.test)
    if effects and claim.name != "C11":  # nothing is trained where integers are made afterwards
        wanted = tuple(replace(effect, against="control") for effect in effects)
        assert wanted in [effects_of(control) for control in claim.controls]


@EACH
def test_claims_about_detectors_ask_for_numbers_of_boxes(paper, claim):
    about_boxes = any("detection." in text for text in selectors_of(claim.test))
    assert (claim.task == "detection") == about_boxes


@EACH
def test_published_effects_are_claims_about_numbers(paper, claim):
    published = [effect.published for effect in effects_of(claim.test)]
    assert any(value is not None for value in published) <= claim.is_number


def test_directions_are_where_the_numbers_would_go():
    harmful = {"B4", "C11"}
    for _, claim in CLAIMS:
        for effect in effects_of(claim.test):
            known = known_metric(Selector.parse(effect.selector).metric)
            assert known is not None
            assert (known.better.value == effect.direction) == (claim.name not in harmful)


def test_calibration_is_tested_with_both_kinds_of_bins():
    for paper, claim in CLAIMS:
        if "calibration.ece[bins=10]" in "".join(selectors_of(claim.test)):
            is_joint = isinstance(claim.test, Joint)
            found = {Selector.parse(s).metric for c in claim.controls for s in selectors_of(c)}
            wanted = "calibration.ece_equal_mass[bins=10]"
            assert wanted in found or is_joint or claim.is_number, (paper.name, claim.name)


# the document

CELLS = re.compile(r"^\| (?P<name>[ABC]\d+) \| (?P<rest>.*) \|$", re.MULTILINE)


def test_the_document_has_every_claim_as_the_code_states_it():
    found = {m["name"]: m["rest"].split(" | ") for m in CELLS.finditer(DOCUMENT.read_text("utf-8"))}
    assert list(found) == [claim.name for _, claim in CLAIMS]
    for _, claim in CLAIMS:
        says, published, where, _, margin, unit, family = found[claim.name]
        assert (says, published, where) == (claim.says, claim.published, claim.where)
        assert (unit, family) == (claim.unit, claim.family)
        assert margin == margin_of(claim.test)


def margin_of(test: Test) -> str:
    if isinstance(test, FormGap):
        return f"{100 * test.margin:g} points"
    for effect in effects_of(test):
        points = 100 * effect.margin
        if effect.is_relative:
            return f"{points:g} % of the original's"
        if effect.over == "slope":
            return f"{points:.2f} points per ratio of 1"
        return "1 point" if points == 1 else f"{points:g} points"
    return "-"


@pytest.mark.parametrize("paper", list(PAPERS.values()), ids=lambda paper: paper.name)
def test_the_document_says_what_is_not_known_and_which_claims_have_controls(paper):
    section = DOCUMENT.read_text("utf-8").partition(f"## `{paper.name}`")[2].partition("\n## ")[0]
    assert paper.title in section
    assert paper.reference in section
    assert all(f"* {note}\n" in section for note in paper.notes)
    controlled = re.findall(r"^\* ([ABC]\d+): ", section, re.MULTILINE)
    assert controlled == [claim.name for claim in paper.claims if claim.controls]
    numbers = ", ".join(claim.name for claim in paper.claims if claim.is_number)
    assert f"networks are the published ones: {numbers}." in section
