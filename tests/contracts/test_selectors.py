import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.selectors import Constraint, Selector

METRICS = st.from_regex(r"[a-z][a-z0-9_]{0,5}(\.[a-z0-9_]{1,5}){1,2}", fullmatch=True)
CONDITIONS = st.from_regex(r"[a-z][a-z0-9_-]{0,6}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "selector"),
    [
        ("cost.bytes", Selector("cost.bytes")),
        ("accuracy.top1@clean", Selector("accuracy.top1", "clean")),
        ("accuracy.top1@fog", Selector("accuracy.top1", "fog")),
        ("accuracy.top1@fog:3", Selector("accuracy.top1", "fog", 3)),
        ("a.b.c@corrupted", Selector("a.b.c", "corrupted")),
        ("accuracy.recall{class=cat}@clean", Selector("accuracy.recall", "clean", 0, "class=cat")),
        ("a.b{light=late night}@fog:2", Selector("a.b", "fog", 2, "light=late night")),
        ("a.b[bins=10]{x=1}@clean", Selector("a.b[bins=10]", "clean", 0, "x=1")),
    ],
)
def test_selectors(text, selector):
    assert Selector.parse(text) == selector
    assert str(selector) == text


@settings(max_examples=50, deadline=None)
@given(METRICS, st.none() | st.tuples(CONDITIONS, st.integers(0, 5)))
def test_selectors_survive_being_written(metric, condition):
    selector = Selector(metric, *(condition or ()))
    assert Selector.parse(str(selector)) == selector


@pytest.mark.parametrize(
    "text",
    [
        *("", "top1", "accuracy.top1@", "accuracy.top1@fog:", "accuracy.top1@fog:0", "a.b@fog:6"),
        *("a.b{}@clean", "a.b{night}@clean", "a.b@clean{x=1}", "a.b{x=}@clean", "a.b{{x=1}}@clean"),
        *("accuracy.top1@fog:33", "Accuracy.top1", "accuracy.top1 @fog", "a.b@@c", "a.b\n", "a..b"),
    ],
)
def test_what_is_no_selector(text):
    with pytest.raises(ValueError, match="must be 'metric', 'metric@condition' or"):
        Selector.parse(text)


@pytest.mark.parametrize(
    ("text", "op", "number"),
    [
        ("accuracy.top1@clean >= 0.9", ">=", 0.9),
        ("cost.bytes<=1e6", "<=", 1e6),
        ("  cost.bytes < 10 ", "<", 10.0),
        ("cost.bytes > -1", ">", -1.0),
        ("accuracy.recall{class=traffic light}@clean >= 0.9", ">=", 0.9),
        ("a.b{size=<10 m}@clean<=0.5", "<=", 0.5),
    ],
)
def test_constraints(text, op, number):
    constraint = Constraint.parse(text)
    assert (constraint.op, constraint.number) == (op, number)
    assert Constraint.parse(str(constraint)) == constraint


def test_a_constraint_is_written_with_all_its_digits():
    assert str(Constraint.parse("cost.bytes <= 1234567")) == "cost.bytes <= 1234567"
    assert str(Constraint.parse("accuracy.top1@clean >= 0.912345678")).endswith(">= 0.912345678")


@pytest.mark.parametrize(
    ("op", "below", "equal", "above"),
    [
        (">=", False, True, True),
        (">", False, False, True),
        ("<=", True, True, False),
        ("<", True, False, False),
    ],
)
def test_a_constraint_is_met_or_not(op, below, equal, above):
    constraint = Constraint.parse(f"cost.bytes {op} 5")
    assert [constraint.is_met(value) for value in (4.0, 5.0, 6.0)] == [below, equal, above]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cost.bytes = 5", "with op one of >= <= > <"),
        ("cost.bytes == 5", "with op one of"),
        ("cost.bytes", "with op one of"),
        ("cost.bytes >= ", "must end in a number"),
        ("cost.bytes >= x", "must end in a number, got 'x'"),
        ("bytes >= 5", "must be 'metric'"),
        ("cost.bytes >= nan", "must end in a finite number"),
        ("cost.bytes >= inf", "must end in a finite number"),
        ("__import__('os') >= 5", "must be 'metric'"),
    ],
)
def test_what_is_no_constraint(text, expected):
    with pytest.raises(ValueError, match=expected):
        Constraint.parse(text)
