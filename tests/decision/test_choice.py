"""The choice: rules first, then the front, then the rule; controls never take part."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.decision.choice import Alternative, Objective, Option, decide
from shrinkproof.errors import UsageError
from shrinkproof.protocols import Better
from shrinkproof.selectors import Constraint, Selector

ERROR, BYTES, TOP1 = "robustness.mean_error", "cost.bytes", "accuracy.top1@clean"
MINIMIZE = [
    Objective(Selector.parse(ERROR), Better.LOWER),
    Objective(Selector.parse(BYTES), Better.LOWER),
]


def option(label, error, size, top1=0.9, role="recipe", **reasons):
    values = {ERROR: error, BYTES: size, TOP1: top1}
    return Option(label, label, role, values, {ERROR: reasons["reason"]} if reasons else {})


def study():
    return [
        option("m/baseline", 0.20, 100.0, 0.95, role="baseline"),
        option("m/a", 0.22, 50.0, 0.94),
        option("m/b", 0.30, 40.0, 0.93),
        option("m/c", 0.31, 60.0, 0.92),
        option("m/tiny", 0.60, 5.0, 0.60),
        option("m/control", 0.01, 1.0, 0.99, role="control"),
    ]


def test_knee_by_hand():
    # Front after the rule: baseline (.20, 100), a (.22, 50), b (.30, 40). With c (.31, 60) the
    # ranges are .11 and 60. Distances: baseline 1, a sqrt((2/11)^2 + (1/6)^2) = .247, b 10/11.
    rule = Constraint.parse(f"{TOP1} >= 0.9")
    decision = decide(study(), MINIMIZE, [rule])
    assert decision.front == ("m/baseline", "m/a", "m/b")
    assert decision.chosen == "m/a"
    assert decision.dominated == {"m/c": ("m/a", "m/b")}
    assert decision.infeasible == {"m/tiny": ("accuracy.top1@clean >= 0.9, got 0.6",)}
    assert decision.undefined == {}
    text = " ".join(decision.why)
    assert "select split" in text
    assert "m/b comes next, 3.69 times as far" in text  # 10/11 / sqrt((2/11)^2 + (1/6)^2)
    assert "4 of 5 options keep the rules" in text
    assert "1 control served as a yardstick" in text
    assert decision.alternatives == (
        Alternative("m/b", "best on the front in cost.bytes"),
        Alternative("m/baseline", "best on the front in robustness.mean_error"),
    )


def test_a_front_of_two_does_not_tie():
    # Ranges over all three options: .4 and 90. Distances: x 80/90, y .1/.4.
    options = [option("x", 0.1, 90.0), option("y", 0.2, 10.0), option("z", 0.5, 100.0)]
    decision = decide(options, MINIMIZE)
    assert decision.front == ("x", "y")
    assert decision.chosen == "y"
    assert "alphabetical" not in " ".join(decision.why)


def test_lexicographic_takes_the_first_objective_and_then_the_next():
    options = [option("x", 0.1, 9.0), option("y", 0.1, 8.0), option("z", 0.2, 1.0)]
    decision = decide(options, MINIMIZE, rule="lexicographic")
    assert decision.front == ("y", "z")
    assert decision.chosen == "y"
    assert "in the order robustness.mean_error, then cost.bytes" in " ".join(decision.why)


def test_higher_is_better_is_respected():
    goal = [Objective(Selector.parse(TOP1), Better.HIGHER)]
    assert decide(study(), goal).chosen == "m/baseline"
    assert "no compression is advised" in " ".join(decide(study(), goal).why)


def test_controls_are_never_on_the_front_and_never_chosen():
    decision = decide(study(), MINIMIZE)
    everything = [*decision.front, *decision.dominated, *decision.infeasible, *decision.undefined]
    assert "m/control" not in everything
    assert sorted(everything) == ["m/a", "m/b", "m/baseline", "m/c", "m/tiny"]


def test_a_single_member_is_chosen_without_a_range():
    decision = decide([option("x", 0.1, 1.0), option("y", 0.2, 2.0)], MINIMIZE)
    assert (decision.front, decision.chosen, decision.alternatives) == (("x",), "x", ())


def test_duplicates_stay_on_the_front_and_the_tie_is_told():
    decision = decide([option("y", 0.1, 1.0), option("x", 0.1, 1.0)], MINIMIZE)
    assert decision.front == ("x", "y")
    assert decision.chosen == "x"
    assert "x and y are equally close" in " ".join(decision.why)


def test_an_objective_without_range_counts_nothing():
    goals = [*MINIMIZE, Objective(Selector.parse(TOP1), Better.HIGHER)]
    options = [option("a", 0.0, 10.0), option("b", 0.4, 2.0), option("c", 1.0, 0.0)]
    assert decide(options, goals).chosen == "b"


def test_undefined_numbers_are_set_aside_with_their_reason():
    options = [option("x", None, 1.0, reason="no corrupted images"), option("y", 0.2, 2.0)]
    decision = decide(options, MINIMIZE)
    assert decision.chosen == "y"
    assert decision.undefined == {"x": "robustness.mean_error is undefined: no corrupted images"}
    assert "could not be compared" in " ".join(decision.why)


def test_a_rule_on_a_number_that_was_not_measured_cannot_be_kept():
    decision = decide(study(), MINIMIZE, [Constraint.parse("cost.latency_p95 <= 0.02")])
    assert decision.chosen is None
    assert decision.front == ()
    assert decision.undefined["m/a"] == "cost.latency_p95 is not measured"


def test_nothing_is_chosen_when_every_option_breaks_a_rule():
    decision = decide(study(), MINIMIZE, [Constraint.parse(f"{BYTES} < 1")])
    assert decision.chosen is None
    assert len(decision.infeasible) == 5
    assert "nothing is chosen" in decision.why[-1]


def test_no_options_give_no_choice():
    assert decide([], MINIMIZE).chosen is None


def test_the_split_is_named():
    assert "certify split" in decide(study(), MINIMIZE, split="certify").why[0]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
    st.sampled_from(["knee", "lexicographic"]),
)
@settings(max_examples=60, deadline=None)
def test_the_decision_does_not_depend_on_the_order_of_options(points, random, rule):
    options = [option(f"o{i}", float(x), float(y)) for i, (x, y) in enumerate(points)]
    before = decide(options, MINIMIZE, rule=rule)
    random.shuffle(options)
    assert decide(options, MINIMIZE, rule=rule) == before
    assert before.chosen in before.front


@pytest.mark.parametrize(
    ("options", "objectives", "message"),
    [
        ([], [], "at least one number"),
        ([], [Objective(Selector.parse(BYTES), Better.NONE)], "no better direction"),
        ([option("x", 1.0, 1.0)] * 2, MINIMIZE, "'x' more than once"),
        ([option("x", float("nan"), 1.0)], MINIMIZE, r"x: robustness.mean_error must be finite"),
    ],
    ids=["no-objective", "no-direction", "same-label", "nan"],
)
def test_impossible_calls_are_refused(options, objectives, message):
    with pytest.raises(UsageError, match=message):
        decide(options, objectives)


def test_an_unknown_rule_is_refused():
    with pytest.raises(UsageError, match="'knee' or 'lexicographic', got 'best'"):
        decide([], MINIMIZE, rule="best")


def test_asking_an_option_for_a_missing_number_names_it():
    with pytest.raises(UsageError, match=r"x: cost.macs is not measured"):
        option("x", 1.0, 1.0).number("cost.macs")


def test_one_byte_earns_no_place_on_the_front():
    # By plain dominance a, b and c are all on the front; b is one byte smaller than a and worse.
    options = [
        option("m/a", 0.20, 1000.0),
        option("m/b", 0.30, 999.0),
        option("m/c", 0.40, 500.0),
        option("m/d", 0.31, 999.5),
    ]
    assert decide(options, MINIMIZE).front == ("m/a", "m/b", "m/c")
    decision = decide(options, MINIMIZE, tolerances={BYTES: 10.0})
    assert decision.front == ("m/a", "m/c")
    # d is dominated by b, whose place a has taken.
    assert decision.dominated == {"m/b": ("m/a",), "m/d": ("m/a",)}
    assert "m/b is dominated within the stated tolerances only: m/a" in " ".join(decision.why)
    assert decide(options, MINIMIZE, tolerances={BYTES: 0.5}).front == ("m/a", "m/b", "m/c")
