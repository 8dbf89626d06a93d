"""What is said about a choice: with numbers of images that did not choose."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better
from shrinkproof.records import Condition
from shrinkproof.results import deciding
from shrinkproof.results.pairs import Compared
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.statistics import Interval
from shrinkproof.table import Number, Numbers

TOP1 = Selector("accuracy.top1", "clean")


@pytest.mark.parametrize(
    ("number", "is_met", "is_sure"),
    [
        (Number(0.95, 0.91, 0.97, status="ok"), True, True),
        (Number(0.95, 0.89, 0.97, status="ok"), True, False),
        (Number(0.95, None, None, status="ok"), True, False),
        (Number(0.95, 0.91, 0.97, status="contaminated"), True, False),
        (Number(0.89, 0.85, 0.92, status="ok"), False, False),
        (Number(None, reason="not measured"), False, False),
    ],
)
def test_a_rule_is_sure_only_where_the_whole_interval_keeps_it(number, is_met, is_sure):
    check = deciding._checked(Constraint.parse("accuracy.top1@clean >= 0.9"), number)
    assert (check.is_met, check.is_sure) == (is_met, is_sure)
    json.dumps(check.as_json(), allow_nan=False)


def test_bytes_are_counted_and_need_no_interval():
    check = deciding._checked(Constraint.parse("cost.bytes <= 10"), Number(10.0, status="ok"))
    assert (check.is_met, check.is_sure) == (True, True)


class Pair:
    """Stands for two candidates: a difference and a ratio."""

    def __init__(self, value, low=None, high=None):
        self.found = Compared(value, Interval(low, high))

    def change(self, selector):
        return self.found

    def ratio(self, selector):
        return self.found


@pytest.mark.parametrize(
    ("pair", "selector", "better", "said"),
    [
        (
            Pair(-0.005, -0.03, 0.02),
            TOP1,
            Better.HIGHER,
            "accuracy.top1@clean -0.50 points [-3.00, +2.00] (no difference shown)",
        ),
        (
            Pair(0.02, 0.01, 0.03),
            TOP1,
            Better.HIGHER,
            "accuracy.top1@clean +2.00 points [+1.00, +3.00] (better)",
        ),
        (Pair(0.02), TOP1, Better.HIGHER, "accuracy.top1@clean +2.00 points (no interval)"),
        (
            Pair(0.5, 0.5, 0.5),
            Selector("cost.bytes"),
            Better.LOWER,
            "cost.bytes 0.50 times (better)",
        ),
        (
            Pair(1.0, 1.0, 1.0),
            Selector("cost.bytes"),
            Better.LOWER,
            "cost.bytes 1.00 times (equal)",
        ),
        (
            Pair(0.2, 0.1, 0.3),
            Selector("accuracy.nll", "clean"),
            Better.LOWER,
            "accuracy.nll@clean +0.2 [+0.1, +0.3] (worse)",
        ),
        (Pair(None), TOP1, Better.HIGHER, ""),
    ],
)
def test_a_trade_is_told_with_its_interval(pair, selector, better, said):
    assert deciding._traded(pair, selector, better) == said


def record(condition, severity, value, part, metric="accuracy.top1"):
    return SimpleNamespace(
        **{"evaluator": "scores", "form": "artifact", "slice": part, "model": "net"},
        **{"recipe": "a", "repeat": 0, "split": "report", "metric": metric, "value": value},
        **{"condition": condition, "severity": severity, "low": None, "high": None},
        **{"reason": "", "status": "ok", "count": 3},
    )


def test_a_part_of_the_images_has_numbers_of_its_own():
    fog = (Condition("fog", 1), Condition("fog", 2))
    rows = [
        record("clean", 0, 0.9, ""),
        record("clean", 0, 0.5, "light=night"),
        record("fog", 1, 0.4, "light=night"),
        record("fog", 2, 0.2, "light=night"),
    ]
    numbers = Numbers(rows, "artifact", (Condition(), *fog))

    def value(text):
        return numbers.find("net/a", "report", Selector.parse(text)).value

    assert value("accuracy.top1@clean") == 0.9
    assert value("accuracy.top1{light=night}@clean") == 0.5
    assert value("accuracy.top1{light=night}@fog:2") == 0.2
    assert value("accuracy.top1{light=night}@fog") == pytest.approx(0.3)
    assert value("accuracy.top1{light=night}@corrupted") == pytest.approx(0.3)
    absent = numbers.find("net/a", "report", Selector.parse("accuracy.top1{light=day}@clean"))
    assert absent.value is None
    assert "no image is of light=day; there are light=night" in absent.reason
    partial = Numbers(rows[:3], "artifact", (Condition(), *fog))
    gap = partial.find("net/a", "report", Selector.parse("accuracy.top1{light=night}@corrupted"))
    assert gap.value is None
    assert "fog:2 is missing on report" in gap.reason


def test_images_that_chose_make_nobody_sure():
    rule, number = (
        Constraint.parse("accuracy.top1@clean >= 0.9"),
        Number(0.95, 0.91, 0.97, "", "ok"),
    )
    check = deciding._checked(rule, number, is_apart=False)
    assert (check.is_met, check.is_sure, check.reason) == (True, False, "the same images chose it")
    size = deciding._checked(
        Constraint.parse("cost.bytes <= 10"), Number(10.0, status="ok"), is_apart=False
    )
    assert size.is_sure


def test_a_trade_of_a_part_is_told():
    selector = Selector.parse("accuracy.recall{class=cat}@clean")
    said = deciding._traded(Pair(-0.1), selector, Better.HIGHER)
    assert said == "accuracy.recall{class=cat}@clean -10.00 points (no interval)"


def test_a_number_of_several_conditions_needs_one():
    rows = [record("clean", 0, 0.9, ""), record("fog", 1, 0.4, "")]
    numbers = Numbers(rows, "artifact", (Condition(), Condition("fog", 1)))
    found = numbers.find("net/a", "report", Selector("accuracy.top1"))
    assert found.value is None
    assert found.reason == "accuracy.top1 needs a condition, for example accuracy.top1@clean"
    with pytest.raises(UsageError, match="must name a condition"):
        deciding.objectives_of([], ["accuracy.top1"])


def test_an_objective_named_twice_counts_once():
    assert len(deciding.objectives_of(["cost.bytes", "cost.bytes"], [])) == 1
