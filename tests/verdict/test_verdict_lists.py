"""Fronts, tables and counts: in runs of our own, and in the authors' own numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.results import Results
from shrinkproof.verdict.claims import Claim, Count, Effect, Front, Paper, Protocol, Table
from shrinkproof.verdict.claims import Test as Tested
from shrinkproof.verdict.judging import judge
from shrinkproof.verdict.lists import _digits
from shrinkproof.verdict.outcomes import Outcome

from .made_runs import Made, baseline, prune, run_of, step

ACCURACY, BYTES = "accuracy.top1@clean", "cost.bytes"
FRONT = Front(
    {ACCURACY: "higher", BYTES: "lower"},
    {"cifar10": ("vgg16_bn/original", "vgg16_bn/int8", "vgg16_bn/prune")},
)
TABLE = Table(
    {"accuracy": ACCURACY},
    {
        ("cifar10", "vgg16_bn", "original"): {"accuracy": 0.8},
        ("cifar10", "vgg16_bn", "prune"): {"accuracy": 0.75},
        ("cifar100", "vgg16_bn", "prune"): {"accuracy": 0.5},
    },
)
COUNT = Count(ACCURACY, 0.7, "higher", {"cifar10": (2, 3)})


def only(run: Results, test: Tested, **more: Any) -> Outcome:
    """The only outcome of a test."""
    claim = Claim("X1", "It is so.", "a table", "Table 1", "family", "training", test, **more)
    protocol = Protocol(("cifar:vgg16_bn",), ("cifar10:test",), epochs=40)
    (found,) = judge(Paper("made", "A paper", "arXiv:0", protocol, (claim,)), [run])
    return found


def members(*, pruned: int = 300, cost: float = 50.0) -> list[Made]:
    return [
        baseline(320, costs={BYTES: 100.0}),
        Made("half", pruned, prune(0.5), costs={BYTES: cost}),
        Made("q", 310, (step("quantize.static"),), costs={BYTES: 60.0}),
        Made("all", 200, (*prune(0.5), step("quantize.static")), costs={BYTES: 70.0}),
    ]


@pytest.fixture
def ours(tmp_path: Path) -> Results:
    return run_of(tmp_path / "ours", {"net": members()})


def published(path: Path, **more: Any) -> Results:
    """A run of numbers without predictions, as an import makes it."""
    names = {"half": "p50", "q": "int8", "all": "p50+int8"}
    made = [replace(m, recipe=names.get(m.recipe, m.recipe), steps=()) for m in members(**more)]
    model = "cifar10-vgg16_bn"
    run = run_of(path / "published", {model: made}, uses={model: "foreign:table.csv"})
    for folder in (run.store.path / "predictions").iterdir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    return Results.load(run.store.path)


def test_our_front_is_shown_beside_the_published_one(ours: Results) -> None:
    found = only(ours, FRONT)
    assert (found.value, found.published, found.verdict) == (3.0, 3.0, "inconclusive")
    assert "ours: vgg16_bn/original, vgg16_bn/prune, vgg16_bn/int8" in found.reasons


def test_a_front_of_unknown_data_is_not_comparable(ours: Results) -> None:
    found = only(ours, replace(FRONT, members={"cifar100": ()}))
    assert found.verdict == "not comparable"


def test_a_published_front_holds_or_fails(tmp_path: Path) -> None:
    assert only(published(tmp_path / "a"), FRONT).verdict == "holds in the published numbers"
    other = published(tmp_path / "b", cost=200.0)
    assert only(other, FRONT).verdict == "fails in the published numbers"


def test_a_count_is_certain_where_all_intervals_lie_on_one_side(ours: Results) -> None:
    found = only(ours, COUNT)
    assert (found.value, found.low, found.high) == (2.0, 2.0, 2.0)
    assert found.verdict == "reproduced"
    other = only(ours, replace(COUNT, published={"cifar10": (1, 3)}))
    assert other.verdict == "not reproduced"
    near = only(ours, replace(COUNT, value=0.76))
    assert (near.low, near.high, near.verdict) == (0.0, 2.0, "inconclusive")


def test_a_count_of_numbers_without_spread_is_not_certain(ours: Results) -> None:
    found = only(ours, Count(BYTES, 80.0, "lower", {"cifar10": (3, 3)}))
    assert (found.value, found.low, found.high) == (3.0, 0.0, 3.0)
    assert found.verdict == "inconclusive"


def test_digits_of_a_table_are_those_of_its_column() -> None:
    rows = {
        ("cifar10", "vgg16_bn", "prune"): {"accuracy": 0.75},
        ("cifar10", "vgg16_bn", "int8"): {"accuracy": 0.7512},
    }
    assert _digits(replace(TABLE, rows=rows), "accuracy") == 4


def test_a_published_count_holds_or_fails(tmp_path: Path) -> None:
    run = published(tmp_path)
    assert only(run, COUNT).verdict == "holds in the published numbers"
    lower = replace(COUNT, direction="lower")
    assert only(run, lower).verdict == "fails in the published numbers"


def test_a_table_stands_beside_ours_and_may_only_be_refuted(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", {"net": members()})
    found = only(run, TABLE)
    assert [row["ours"] for row in found.details] == pytest.approx([0.8, 0.75])
    assert (found.value, found.published, found.verdict) == (2.0, 2.0, "inconclusive")
    far = run_of(tmp_path / "b", {"net": members(pruned=200)})
    assert only(far, TABLE).verdict == "contrary, single run"  # two trainings, theirs and ours


def test_a_published_table_holds_to_the_digits_that_were_printed(tmp_path: Path) -> None:
    run = published(tmp_path)
    assert only(run, TABLE).verdict == "holds in the published numbers"
    rows = {**TABLE.rows, ("cifar10", "vgg16_bn", "prune"): {"accuracy": 0.7512}}
    assert only(run, replace(TABLE, rows=rows)).verdict == "fails in the published numbers"


def test_published_effects_are_compared_as_values(tmp_path: Path) -> None:
    run = published(tmp_path)
    lower = only(run, Effect(ACCURACY, "prune", "lower"))
    assert (lower.verdict, lower.low, lower.p) == ("holds in the published numbers", None, None)
    kept = Effect(ACCURACY, "prune", "higher", goal="keeps", margin=0.01)
    assert only(run, kept).verdict == "fails in the published numbers"


def test_numbers_of_another_protocol_are_shown_but_not_judged(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", {"net": members()}, uses={"net": "cifar:resnet20"})
    found = only(run, COUNT, is_number=True)
    assert found.verdict == "not comparable"
    assert found.value == 2.0
