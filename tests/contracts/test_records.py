import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.records import (
    CLEAN,
    COLUMNS,
    SPLITS,
    Candidate,
    Cell,
    Change,
    Condition,
    Failure,
    Record,
    canonical_json,
    key_of,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


def record(**changes):
    values = {
        "study": "s",
        "cell": "c",
        "model": "m",
        "recipe": "r",
        "repeat": 0,
        "role": "recipe",
        "control": "",
        "evaluator": "scores",
        "form": "twin",
        "split": "report",
        "slice": "",
        "condition": "fog",
        "severity": 3,
        "metric": "accuracy.top1",
        "value": 0.5,
        "unit": "fraction",
        "better": "higher",
        "low": 0.4,
        "high": 0.6,
        "interval": "bootstrap-percentile",
        "count": 100,
        "basis": "measured",
        "status": "ok",
        "reason": "",
        "environment": "e",
    }
    return Record(**{**values, **changes})


def test_columns_are_golden():
    assert (
        *("study", "cell", "model", "recipe", "repeat", "role", "control", "evaluator", "form"),
        *("split", "slice", "condition", "severity", "metric", "value", "unit", "better", "low"),
        *("high", "interval", "count", "basis", "status", "reason", "environment"),
    ) == COLUMNS
    assert tuple(record().as_json()) == COLUMNS
    assert SPLITS == ("train", "calibrate", "select", "certify", "report")


def test_keys_are_golden():
    """A change here makes every stored result unfindable; raise KEY_FORMAT if it is meant."""
    assert key_of("candidate", {"a": 1, "b": [0.5, None]}) == "a86f37b075539b31"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_keys_ignore_the_order_of_fields_and_nothing_else(parts):
    assert key_of("k", parts) == key_of("k", dict(reversed(parts.items())))
    assert key_of("k", parts) != key_of("other", parts)
    assert key_of("k", parts) != key_of("k", {**parts, "one more": 1})
    assert len(key_of("k", parts)) == 16
    assert json.loads(canonical_json(parts)) == parts


def test_a_key_refuses_what_json_cannot_say():
    with pytest.raises(ValueError, match="JSON"):
        key_of("k", {"a": math.nan})


def test_conditions_are_spelled_and_parsed():
    assert str(CLEAN) == "clean"
    assert str(Condition("fog", 3)) == "fog:3"
    for condition in (CLEAN, Condition("fog", 3)):
        assert Condition.parse(str(condition)) == condition
    assert CLEAN.is_clean
    assert not Condition("fog", 1).is_clean


@pytest.mark.parametrize(
    "text", ["fog", "fog:0", "fog:6", "fog:x", "fog:", "clean:1", "", "fog:-1"]
)
def test_what_is_no_condition(text):
    with pytest.raises(ValueError, match="condition: "):
        Condition.parse(text)


@pytest.mark.parametrize("name", ["value", "low", "high"])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_record_carries_a_number_that_is_none(name, number):
    with pytest.raises(ValueError, match=f"record accuracy.top1: {name} must be finite or None"):
        record(**{name: number})


@pytest.mark.parametrize(
    ("value", "status", "is_allowed"),
    [
        (0.5, "ok", True),
        (0.5, "contaminated", True),
        (None, "undefined", True),
        (None, "failed", True),
        (None, "ok", False),
        (None, "contaminated", False),
        (0.5, "undefined", False),
        (0.5, "failed", False),
    ],
)
def test_a_number_is_missing_exactly_where_the_status_says_so(value, status, is_allowed):
    if is_allowed:
        assert record(value=value, status=status, reason="because").value == value
        return
    with pytest.raises(ValueError, match="does not fit status"):
        record(value=value, status=status)


@pytest.mark.parametrize(
    "value",
    [
        record(),
        record(value=None, low=None, high=None, status="undefined", reason="no images"),
        Cell("k", "c", "scores", "artifact", "report", Condition("fog", 2)),
        Cell("k", "c", "size", "artifact"),
        Candidate("k", "m", "r", 2, "recipe", "control key", ({"name": "fold", "fields": {}},)),
        Change("cluster", 1, {"levels": 16}, {"levels": 16}, {"levels": 15}, {"a": {"mse": 0.1}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_survive_json(value):
    plain = json.loads(json.dumps(value.as_json(), allow_nan=False))
    assert type(value).from_json(plain) == value


def test_labels_are_readable():
    assert Candidate("k", "m", "r").label == "m/r"
    assert Candidate("k", "m", "r", repeat=2).label == "m/r#2"
    assert Failure("E", "text").as_json() == {"type": "E", "message": "text", "traceback": ""}
