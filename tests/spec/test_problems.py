import json
from dataclasses import dataclass
from typing import Annotated, Literal

import pydantic
import pytest

from shrinkproof.errors import SpecError
from shrinkproof.registry import Fraction, component
from shrinkproof.spec.document import parse
from shrinkproof.spec.problems import Problems, shown


@component
class Inner:
    share: Fraction = 0.5
    half_open: Annotated[float, pydantic.Field(gt=0, le=10)] = 1.0
    below: Annotated[float, pydantic.Field(lt=5)] = 1.0
    text: Annotated[str, pydantic.Field(min_length=1)] = "x"
    code: Annotated[str, pydantic.Field(pattern="^[a-z]+$")] = "x"
    either: Annotated[int, pydantic.Field(ge=1)] | Literal["rest"] | None = None
    pair: tuple[Annotated[int, pydantic.Field(ge=0, le=9)], Fraction] = (1, 0.5)
    few: Annotated[tuple[int, ...], pydantic.Field(max_length=2)] = ()
    flag: bool = False
    shares: dict[str, Fraction] = pydantic.Field(default_factory=dict)
    place: Annotated[str, pydantic.Field(max_length=2)] = ""


@component
class Outer:
    inner: Inner | None = None
    many: tuple[Inner, ...] = ()


def _problems(text):
    document = parse(text, "f")
    problems = Problems(document)
    try:
        pydantic.TypeAdapter(Outer).validate_json(json.dumps(document.content), strict=True)
    except pydantic.ValidationError as error:
        problems.add_validation((), error, Outer)
    with pytest.raises(SpecError) as caught:
        problems.raise_if_any()
    assert len(problems) == len(caught.value.problems)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("share: -0.5", "f:1:16: inner.share: must be between 0 and 1, got -0.5"),
        (
            "share: 30",
            "inner.share: must be between 0 and 1, got 30. Fractions, not percent: ",
        ),
        ("share: 300", "inner.share: must be between 0 and 1, got 300. Fractions, not percent"),
        ("half_open: 0", "inner.half_open: must be greater than 0 and at most 10, got 0"),
        ("half_open: 11", "inner.half_open: must be greater than 0 and at most 10, got 11"),
        ("below: 5", "inner.below: must be less than 5, got 5"),
        ("text: ''", "inner.text: must not be empty, got ''"),
        ("text: 3", "inner.text: must be text, got 3"),
        ("code: A", "inner.code: must match the pattern ^[a-z]+$, got 'A'"),
        ("either: 0", "inner.either: must be at least 1 or 'rest', got 0"),
        ("either: res", "inner.either: must be a whole number or 'rest', got 'res'"),
        ("pair: [10, 0.5]", "f:1:16: inner.pair.0: must be between 0 and 9, got 10"),
        ("pair: [1, 2]", "inner.pair.1: must be between 0 and 1, got 2"),
        ("few: [1, 2, 3]", "inner.few: must have at most 2 entries, got [1, 2, 3]"),
        ("flag: 1", "inner.flag: must be true or false, got 1"),
        ("flag: null", "inner.flag: must be true or false, got nothing"),
        ("flag: {a: 1}", "inner.flag: must be true or false, got a mapping"),
        ("shares: {a: 2}", "inner.shares.a: must be between 0 and 1, got 2"),
        ("shares: []", "inner.shares: must be a mapping, got []"),
        ("place: abc", "inner.place: string should have at most 2 characters, got 'abc'"),
        ("shaer: 1", "f:1:9: inner.shaer: unknown field; did you mean"),
    ],
)
def test_rules_are_told_in_our_grammar(text, expected):
    (problem,) = _problems(f"inner: {{{text}}}\n")
    assert expected in problem


def test_items_of_lists_are_found():
    assert _problems("many: [{}, {share: 2, txet: x}]\n") == (
        "f:1:20: many.1.share: must be between 0 and 1, got 2. Fractions, not percent: write 0.02",
        "f:1:23: many.1.txet: unknown field; did you mean 'text'?",
    )


def test_one_line_is_noted_once():
    problems = Problems(parse("a: 1\n", "f"))
    problems.add(("a",), "is wrong")
    problems.add(("a",), "is wrong")
    problems.add((), "all is wrong")
    assert len(problems) == 2


def test_plain_dataclasses_are_understood():
    @dataclass
    class Plain:
        name: str

    problems = Problems(parse("name: 3\n", "f"))
    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(Plain).validate_python({"name": 3})
    problems.add_validation((), caught.value, Plain)
    with pytest.raises(SpecError, match="f:1:7: name: must be text, got 3"):
        problems.raise_if_any()


def test_long_values_are_shortened():
    assert len(shown("x" * 200)) == 60
    assert shown([True, None, "a"]) == "[true, nothing, 'a']"
