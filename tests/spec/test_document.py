import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.errors import SpecError
from shrinkproof.spec.document import MISSING, dotted, parse


def _problems(text):
    try:
        parse(text, "f")
    except SpecError as error:
        return error.problems
    return ()


def _problem(text):
    with pytest.raises(SpecError) as caught:
        parse(text, "study.yaml")
    return "\n".join(caught.value.problems)


def test_values_and_their_places():
    document = parse("a: 1\nb:\n  - {c: x}\n  - y\n", "f.yaml")
    assert document.content == {"a": 1, "b": [{"c": "x"}, "y"]}
    assert document.place(("b", 0, "c")) == (3, 9)
    assert document.place(("b", 0, "c"), is_key=True) == (3, 6)
    assert document.place(("b", 1)) == (4, 5)


def test_a_missing_field_stands_at_what_encloses_it():
    document = parse("a:\n  b: {c: 1}\n", "f.yaml")
    assert document.place(("a", "b", "missing")) == (2, 3)
    assert document.place(("nothing",)) == (1, 1)
    assert document.at(("a", "nothing")) is MISSING


def test_resolve_drops_what_validators_insert():
    document = parse("a: {b: [1, 2]}\n", "f.yaml")
    assert document.resolve(("a", "SomeClass", "b", 1, "constrained-int")) == ("a", "b", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("0.5", 0.5),
        ("2026-11-20", "2026-11-20"),
        ("true", True),
        ("~", None),
        ("none", "none"),
        ("'1'", "1"),
    ],
)
def test_scalars(text, value):
    got = parse(f"a: {text}", "f")
    assert got.content == {"a": value}
    assert type(got.content["a"]) is type(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "study.yaml:3:1: a: is given twice (first in line 1)"),
        ("a: {b: 1, b: 2}\n", "study.yaml:1:11: a.b: is given twice (first in line 1)"),
        ("1: x\n", "study.yaml:1:1: keys must be text, got 1; put it in quotes: '1'"),
        ("off: x\n", "keys must be text, got False; put it in quotes: 'off'"),
        ("[a]: x\n", "not allowed here"),
        ("a: &x 1\nb: *x\n", "study.yaml:1:4: b: aliases are not allowed"),
        ("a: &x [*x]\n", "aliases are not allowed"),
        ("a: .inf\n", "study.yaml:1:4: a: must be a finite number, got .inf"),
        ("a: .nan\n", "must be a finite number"),
        ("a: !!binary aGk=\n", "must be text, a number, true or false, got bytes"),
        ("a: !!python/object:os.system x\n", "cannot be read as tag:yaml.org"),
        ("a: !!set {x: null}\n", "is not allowed here"),
        ("a: !!int x\n", "'x' cannot be read as tag:yaml.org,2002:int"),
        ("a: [1\n", "study.yaml:2:1: is no valid YAML"),
        ("a: b: c\n", "study.yaml:1:5: is no valid YAML: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2\n", "study.yaml:2:1: is no valid YAML"),
        ("a: 1\nb: \x07\n", "study.yaml:2:4: a character that YAML does not allow"),
        ("", "study.yaml: is empty"),
        ("# nothing\n", "study.yaml: is empty"),
        ("[" * 3000, "study.yaml: is nested too deeply"),
    ],
)
def test_what_a_study_file_cannot_hold(text, expected):
    assert expected in _problem(text)


def test_many_problems_of_one_text_are_reported_together():
    assert len(_problem("a: 1\na: 2\n3: x\nb: .inf\n").splitlines()) == 3


def test_billion_laughs_are_refused_quickly():
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    assert "aliases are not allowed" in _problem("\n".join(lines))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_reason(text):
    problems = _problems(text)
    assert all(problem.startswith("f:") for problem in problems)


def test_dotted():
    assert dotted(("recipes", "a", 0, "cluster")) == "recipes.a.0.cluster"
