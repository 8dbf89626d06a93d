"""Fronts with ranks, hypervolume and reasons, and those of a run in both bases."""

from __future__ import annotations

import json
import random
from types import SimpleNamespace

import pytest

from shrinkproof.cli.fronts import _cell, print_fronts
from shrinkproof.cli.tables import heading_of
from shrinkproof.decision.choice import Objective
from shrinkproof.decision.fronts import Axis, explain_domination, make_front
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better
from shrinkproof.records import Candidate
from shrinkproof.results.fronts import deciding_front, fronts_of, relation_of
from shrinkproof.selectors import Constraint, Selector
from shrinkproof.table import Number

ERROR, BYTES, TOP1 = "robustness.mean_error", "cost.bytes_zip", "accuracy.top1@clean"
AXES = (Axis(ERROR, Better.LOWER), Axis(BYTES, Better.LOWER))
VALUES = {
    "baseline": {ERROR: 0.20, BYTES: 1000.0},
    "int8": {ERROR: 0.20, BYTES: 250.0},
    "cluster": {ERROR: 0.30, BYTES: 125.0},
    "prune": {ERROR: 0.40, BYTES: 500.0},
}


def front(values=VALUES, axes=AXES, **settings):
    return make_front(values, axes, name="net", model="net", **settings)


# one front


def test_members_ranks_and_dominators_by_hand():
    found = front()
    assert found.members == ("int8", "cluster")
    assert found.ranks == {"baseline": 1, "cluster": 0, "int8": 0, "prune": 1}
    assert found.dominated == {"baseline": ("int8",), "prune": ("int8", "cluster")}
    assert not found.across
    json.dumps(found.as_json(), allow_nan=False)


def test_hypervolume_is_the_share_of_the_box_between_best_and_worst():
    # Ranges .2 and 875: int8 leaves (0, 125/875) uncovered below, cluster stands at (.5, 0).
    found = front()
    assert found.hypervolume == pytest.approx(1 - 0.5 * 125 / 875)
    assert found.reference == {ERROR: 0.40, BYTES: 1000.0}
    assert found.contributions["cluster"] == pytest.approx(0.5 * 125 / 875)


def test_an_objective_without_range_counts_nothing_in_the_hypervolume():
    values = {name: {**row, TOP1: 0.9} for name, row in VALUES.items()}
    found = front(values, (*AXES, Axis(TOP1, Better.HIGHER)))
    assert found.hypervolume == front().hypervolume


def test_without_any_range_there_is_no_hypervolume_and_a_note():
    found = front({name: VALUES["int8"] for name in ("a", "b")})
    assert found.hypervolume is None
    assert found.members == ("a", "b")
    assert found.notes == ("no hypervolume: all options are equal in every objective",)


def test_more_than_three_objectives_have_no_hypervolume_and_a_note():
    names = [f"cost.c{i}" for i in range(4)]
    values = {str(k): {name: float(k + i) for i, name in enumerate(names)} for k in range(3)}
    found = front(values, [Axis(name, Better.LOWER) for name in names])
    assert found.hypervolume is None
    assert "up to 3 objectives" in found.notes[0]


def test_a_front_of_nobody_is_empty():
    found = front({}, left_out={"net/a": "broken"})
    assert (found.members, found.hypervolume, found.reference) == ((), None, {})
    assert found.left_out == {"net/a": "broken"}


def test_a_front_does_not_depend_on_the_order_of_the_options():
    names = list(VALUES)
    random.Random(3).shuffle(names)
    assert front({name: VALUES[name] for name in names}).as_json() == front().as_json()


# reasons


def test_reasons_name_the_nearest_dominator_and_how_much_better_it_is():
    found = explain_domination(VALUES, AXES)
    assert found["baseline"] == f"int8 is 4x smaller, equal in {ERROR}"
    # scaled gaps of prune: int8 (1, 2/7), cluster (.5, 3/7)
    assert found["prune"] == f"cluster is 10.0 points lower in {ERROR} and 4x smaller"


@pytest.mark.parametrize(
    ("axis", "own", "other", "words"),
    [
        (Axis(TOP1, Better.HIGHER), 0.904, 0.9, "0.4 points more accurate"),
        (Axis("accuracy.top1@fog", Better.HIGHER), 0.8, 0.7, "10.0 points more accurate in fog"),
        (Axis(BYTES, Better.LOWER), 999.0, 1000.0, "0.1 % smaller"),
        (Axis("cost.latency_median", Better.LOWER), 0.01, 0.019, "1.9x faster"),
        (Axis("cost.macs", Better.LOWER), 1e6, 3e6, "3x lower in cost.macs"),
        (Axis(ERROR, Better.LOWER, "ratio"), 0.8, 1.2, f"1.5x lower in {ERROR}"),
        (
            Axis("robustness.mce", Better.LOWER, "relative by nature"),
            0.75,
            1.0,
            "0.25 lower in robustness.mce",
        ),
    ],
)  # fmt: skip
def test_differences_are_told_in_the_unit_of_the_number(axis, own, other, words):
    values = {"a": {axis.selector: own}, "b": {axis.selector: other}}
    assert explain_domination(values, [axis]) == {"b": f"a is {words}"}


def test_printed_numbers_may_say_that_the_dominator_is_worse_in_one():
    printed = {**VALUES, "int8": {ERROR: 0.21, BYTES: 250.0}}
    said = front(printed=printed).why["baseline"]
    assert said == f"int8 is 4x smaller but 1.0 points higher in {ERROR}"


def test_a_byte_within_the_tolerance_earns_no_place():
    values = {**VALUES, "int8b": {ERROR: 0.21, BYTES: 249.0}, "int8c": {ERROR: 0.22, BYTES: 249.0}}
    assert front(values).members == ("int8", "int8b", "cluster")
    found = front(values, tolerances={BYTES: 2.5})
    assert found.members == ("int8", "cluster")
    assert found.dominated["int8b"] == found.dominated["int8c"] == ("int8",)
    assert (found.ranks["int8"], found.ranks["int8b"], found.ranks["int8c"]) == (0, 1, 2)
    assert found.tolerances == {BYTES: 2.5}
    assert found.why["int8b"] == (
        f"int8 is 1.0 points lower in {ERROR} but 0.4 % larger (within the tolerance)"
    )


# those of a run

PEOPLE = [
    Candidate(f"{model}/{recipe}", model, recipe, role=role)
    for model in ("big", "small")
    for recipe, role in (("baseline", "baseline"), ("control", "control"), ("int8", "recipe"))
]
# big is better in error, small in bytes; int8 of small gains more against its own baseline
NUMBERS = {
    "big/baseline": (0.20, 4000.0, 0.95),
    "big/control": (0.01, 1.0, 0.99),
    "big/int8": (0.22, 1000.0, 0.94),
    "small/baseline": (0.40, 400.0, 0.80),
    "small/int8": (0.40, 50.0, 0.82),
}


class Found:
    """Numbers by label; on the report split errors are 0.01 larger."""

    def __init__(self, numbers):
        self.numbers = numbers

    def find(self, label, split, selector):
        if label not in self.numbers:
            return Number(None, reason="never run")
        at = dict(zip((ERROR, BYTES, TOP1), self.numbers[label], strict=True))
        value = at[str(selector)]
        return Number(value + (0.01 if split == "report" and str(selector) == ERROR else 0))


def run(numbers=NUMBERS, people=PEOPLE, rules=(), reference="baseline"):
    return SimpleNamespace(
        candidates=tuple(people),
        numbers=Found(numbers),
        objectives=tuple(Objective(Selector.parse(a.selector), a.better) for a in AXES),
        constraints=tuple(Constraint.parse(rule) for rule in rules),
        deciding="select",
        printing="report",
        settings=SimpleNamespace(reference={"name": reference}),
        spec=SimpleNamespace(select=None, measure=SimpleNamespace(margins={})),
    )


def test_a_run_has_one_front_per_network_and_two_across():
    found = fronts_of(run())
    assert [(f.model, f.basis, f.across) for f in found] == [
        ("big", "absolute", False),
        ("small", "absolute", False),
        ("", "absolute", True),
        ("", "relative", True),
    ]
    big, small, absolute, relative = found
    assert big.members == ("big/baseline", "big/int8")
    assert small.members == ("small/int8",)
    assert absolute.members == ("big/baseline", "big/int8", "small/int8")
    # big/int8: 1.1 of the error at 1/4 of the bytes; small/int8: the same error at 1/8
    assert relative.members == ("small/int8",)
    assert relative.values["big/int8"] == pytest.approx({ERROR: 1.1, BYTES: 0.25})
    assert {axis.relation for axis in relative.objectives} == {"ratio"}
    assert any("hide how good the baselines are" in note for note in relative.notes)


def test_controls_stay_out_and_missing_numbers_are_told():
    big, *_ = fronts_of(run())
    assert "big/control" not in {*big.values, *big.left_out}
    small = fronts_of(run({k: v for k, v in NUMBERS.items() if k != "small/int8"}))[1]
    assert "never run" in small.left_out["small/int8"]


def test_options_that_break_a_rule_are_left_out_but_their_baseline_still_counts():
    *_, absolute, relative = fronts_of(run(rules=[f"{ERROR} >= 0.21"]))
    assert absolute.left_out == {"big/baseline": f"{ERROR} >= 0.21, got 0.2"}
    assert relative.values["big/int8"][BYTES] == 0.25


def test_numbers_of_the_printed_split_stand_beside_those_that_decided():
    big, *_, relative = fronts_of(run())
    assert big.values["big/int8"][ERROR] == 0.22
    assert big.printed["big/int8"][ERROR] == pytest.approx(0.23)
    assert relative.printed["big/int8"][ERROR] == pytest.approx(0.23 / 0.21)


def test_a_baseline_without_errors_has_no_ratio():
    numbers = {**NUMBERS, "big/baseline": (0.0, 4000.0, 0.95)}
    relative = fronts_of(run(numbers))[-1]
    assert relative.left_out["big/int8"].endswith(f"{ERROR} of the baseline is 0")


def test_a_network_without_baseline_has_no_relative_value():
    people = [p for p in PEOPLE if p.label != "big/baseline"]
    relative = fronts_of(run(people=people))[-1]
    assert relative.left_out["big/int8"].endswith("the network has no baseline here")


def test_one_network_has_its_own_front_only():
    assert [f.model for f in fronts_of(run(people=PEOPLE[:3]))] == ["big"]


def test_without_objectives_there_are_no_fronts():
    assert fronts_of(run(), []) == ()


def test_objectives_need_a_direction():
    with pytest.raises(UsageError, match="no better direction"):
        fronts_of(run(), [Objective(Selector("flips.churn", "clean"), Better.NONE)])


@pytest.mark.parametrize(
    ("metric", "relation"),
    [
        ("cost.bytes_zip", "ratio"),
        ("cost.latency_p95", "ratio"),
        ("cost.macs", "ratio"),
        ("robustness.mean_error", "ratio"),
        ("accuracy.top1", "difference"),
        ("calibration.ece[bins=10]", "difference"),
        ("accuracy.nll", "difference"),
        ("robustness.retention", "difference"),
        ("robustness.mce", "relative by nature"),
        ("robustness.relative", "relative by nature"),
        ("cost.compression_ratio_zip", "relative by nature"),
        ("cost.latency_ratio", "relative by nature"),
        ("flips.negative", "relative by nature"),
        ("change.calibration.ece", "relative by nature"),
    ],
)
def test_how_a_number_is_made_relative(metric, relation):
    assert relation_of(metric) == relation


def test_corruption_errors_of_one_reference_for_all_are_not_relative_by_nature():
    assert relation_of("robustness.mce", "resnet20/baseline") == "difference"


def test_the_front_of_the_choice_pools_all_options_in_absolute_values():
    several, one = with_fronts(run()), with_fronts(run(people=PEOPLE[:3]))
    assert deciding_front(several) is several.fronts[2]
    assert deciding_front(one) is one.fronts[0]
    assert deciding_front(SimpleNamespace(fronts=())) is None


# on the terminal


def printed(capsys, monkeypatch, results, columns="80"):
    monkeypatch.setenv("COLUMNS", columns)
    print_fronts(results, results.fronts)
    return capsys.readouterr().out


def with_fronts(results, decision=None):
    results.fronts = fronts_of(results)
    results.decision = decision
    return results


def test_fronts_fit_the_terminal_and_tell_members_ranks_and_reasons(capsys, monkeypatch):
    text = printed(capsys, monkeypatch, with_fronts(run()))
    lines = text.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "\x1b" not in text
    assert "front of big, decided on the select split: 2 of 2 options, hypervolume 0.000" in lines
    assert "rank 2: baseline" in lines
    assert "dominated baseline: int8 is 8x smaller, equal in robustness.mean_error" in lines
    # 1.1 of the baseline's error where it was decided, .23 / .21 where numbers are printed
    assert any(line.split()[:3] == ["small/int8", "1x", "0.125x"] for line in lines)
    assert text.count("hide how good the baselines are") == 1


def test_the_table_of_the_decision_is_not_printed_twice(capsys, monkeypatch):
    one = run(people=PEOPLE[:3])
    shown = printed(capsys, monkeypatch, with_fronts(one))
    known = printed(capsys, monkeypatch, with_fronts(one, "a decision"))
    assert "candidate" in shown
    assert "candidate" not in known


def test_a_missing_printed_number_is_never_replaced_by_one_that_decided():
    values = {"a": {ERROR: 0.2, BYTES: 10.0}, "b": {ERROR: 0.3, BYTES: 20.0}}
    front = make_front(values, AXES, name="f", printed={"b": values["b"]})
    assert front.why["b"] == "a dominates it, but a number to print is missing"
    assert front.as_rows()[0][ERROR] is None
    assert front.shown == {"b": values["b"]}
    assert make_front(values, AXES, name="f").shown == values


def test_sizes_of_any_objectives_have_their_usual_tolerance():
    numbers = {**NUMBERS, "big/int8": (0.2001, 3999.0, 0.94)}
    big = fronts_of(run(numbers))[0]
    assert big.members == ("big/baseline",)
    assert big.tolerances == {BYTES: 39.99}  # 1 % of the smallest one of this network


def test_settings_and_parts_stand_in_headings():
    assert heading_of("calibration.ece[bins=10]@clean") == "calibration.\nece\\[bins=10]\n@clean"
    assert heading_of("accuracy.recall{class=3}@clean") == "accuracy.\nrecall\n{class=3}\n@clean"
    axis = Axis("accuracy.recall{class=3}@clean", Better.HIGHER)
    assert _cell(axis, 0.5) == "50.0 %"
