import json
from typing import Annotated, ClassVar, Literal

import pydantic
import pytest

from shrinkproof.errors import UnknownNameError
from shrinkproof.registry import (
    Fraction,
    OpenFraction,
    Registry,
    Strings,
    component,
    fields_of,
    identity_of,
)


@component
class Step:
    """A step for these tests."""

    name: ClassVar[str] = "test.step"
    version: ClassVar[int] = 3

    ratio: OpenFraction
    floor: Fraction = 0.0
    scope: Literal["global", "layer"] = "global"
    words: Strings = ()
    count: Annotated[int, pydantic.Field(ge=1)] = 1
    is_fast: bool = False


MEMBERS = Registry(
    "member",
    "shrinkproof.no_such_group",
    {"step": f"{__name__}:Step", "sleeper": "shrinkproof.absent:Nothing"},
)


def test_a_component_is_its_own_configuration():
    step = Step(ratio=0.5, words=["a", "b"])
    assert step.words == ("a", "b")
    assert step == Step(ratio=0.5, words=("a", "b"))
    assert hash(step) == hash(Step(ratio=0.5, words=("a", "b")))
    assert "ratio=0.5" in repr(step)
    assert Step(**json.loads(json.dumps(fields_of(step)))) == step


@pytest.mark.parametrize(
    "settings",
    [
        {"ratio": 0.5, "raito": 0.5},
        {"ratio": 0},
        {"ratio": 1},
        {"ratio": 30},
        {"ratio": float("nan")},
        {"ratio": "0.5"},
        {"ratio": True},
        {"ratio": 0.5, "floor": -0.1},
        {"ratio": 0.5, "scope": "all"},
        {"ratio": 0.5, "words": "ab"},
        {"ratio": 0.5, "words": [1]},
        {"ratio": 0.5, "count": 1.0},
        {"ratio": 0.5, "count": True},
        {"ratio": 0.5, "is_fast": 1},
        {},
    ],
    ids=str,
)
def test_nothing_is_guessed(settings):
    with pytest.raises(pydantic.ValidationError):
        Step(**settings)


def test_a_component_is_frozen_and_keyword_only():
    with pytest.raises(AttributeError):
        Step(ratio=0.5).ratio = 0.1
    with pytest.raises(pydantic.ValidationError):
        Step(0.5)


def test_whole_numbers_are_fractions_too():
    assert Step(ratio=0.5, floor=1).floor == 1.0


def test_identity_is_name_version_and_every_setting():
    assert identity_of(Step(ratio=0.5)) == {
        "name": "test.step",
        "version": 3,
        "fields": {
            "ratio": 0.5,
            "floor": 0.0,
            "scope": "global",
            "words": [],
            "count": 1,
            "is_fast": False,
        },
    }


def test_names_are_listed_without_importing_them():
    assert MEMBERS.names() == ("sleeper", "step") == tuple(MEMBERS)
    assert "step" in MEMBERS
    assert "stepp" not in MEMBERS


def test_members_are_created_and_described():
    assert MEMBERS.create("step", {"ratio": 0.5}).ratio == 0.5
    row = MEMBERS.describe("step")
    assert (row["kind"], row["name"], row["origin"]) == ("member", "step", "shrinkproof")
    assert (row["version"], row["summary"]) == (3, "A step for these tests.")
    assert row["fields"] == ["ratio", "floor", "scope", "words", "count", "is_fast"]


def test_an_unknown_name_is_answered_with_suggestions():
    with pytest.raises(UnknownNameError, match=r"unknown member 'stpe'; did you mean 'step'\?"):
        MEMBERS.get("stpe")
    with pytest.raises(UnknownNameError):
        MEMBERS.get("somebody/step")
    assert MEMBERS.origin("stpe") == "unknown"


def test_our_own_mistakes_are_not_hidden():
    with pytest.raises(ModuleNotFoundError, match="absent"):
        MEMBERS.get("sleeper")
