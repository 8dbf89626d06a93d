"""One study in several sizes."""

from __future__ import annotations

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.records import CLEAN, Condition
from shrinkproof.spec import load_study_spec
from shrinkproof.spec.scales import scales_of, with_scale

STUDY = """\
study: sizes
models:
  net: {use: cifar:resnet8w8, preprocess: {mean: [0, 0, 0], std: [1, 1, 1]}}
data:
  report: digits:test
  batch: 10
recipes:
  fold: {steps: [fold]}
  cluster: {steps: [{cluster: {levels: 4}}]}
conditions:
  fog: [1, 2, 3]
measure:
  cost: {latency: {}}
scales:
  small:
    says: one recipe, one severity
    set:
      recipes: {cluster: null}
      conditions: {fog: [3], frost: [1]}
      measure: {cost: {latency: {repeats: 40}}, intervals: {replicates: 100}}
  full: {says: everything}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        load_study_spec(text)
    return list(caught.value.problems)


def test_mappings_are_merged_and_the_rest_is_replaced():
    spec = load_study_spec(with_scale(STUDY, "small"))
    assert list(spec.recipes) == ["fold"]
    assert spec.conditions_list() == (CLEAN, Condition("fog", 3), Condition("frost", 1))
    assert spec.measure.cost.latency.repeats == 40
    assert spec.measure.intervals.replicates == 100
    assert spec.data.batch == 10
    assert (spec.full_name, spec.scale_note) == (
        "sizes-small",
        "scale small: one recipe, one severity",
    )


def test_a_scale_may_change_nothing():
    spec = load_study_spec(with_scale(STUDY, "full"))
    assert list(spec.recipes) == ["fold", "cluster"]
    assert len(spec.conditions_list()) == 4


def test_a_study_without_scales_has_no_note():
    spec = load_study_spec(STUDY[: STUDY.index("scales:")])
    assert (spec.full_name, spec.scale_note, spec.scale) == ("sizes", "", "")


@pytest.mark.parametrize("end", ["", "\n", "scale: full\n", "scale:   full # as published"])
def test_the_choice_is_written_once_and_moves_no_line(end):
    text = with_scale(STUDY + end, "small")
    assert text.splitlines() == [*STUDY.splitlines(), "scale: small"]
    assert load_study_spec(text).scale == "small"
    assert scales_of(text, "study.yaml") == ("small", "full")


def test_a_scale_must_be_chosen():
    (told,) = problems(STUDY)
    assert told == (
        "study.yaml:14:1: scales: one must be chosen; add --scale small, or another of small, "
        "full, or write it as scale: NAME"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (with_scale(STUDY, "smal"), "scale: unknown scale 'smal'; did you mean 'small'?"),
        (
            with_scale(STUDY[: STUDY.index("scales:")], "small"),
            "scale: must be left out: the study has no scales",
        ),
        (
            with_scale(STUDY.replace("recipes: {cluster: null}", "study: other"), "small"),
            "scales.small.set.study: cannot be changed by a scale; remove it",
        ),
        (
            with_scale(STUDY.replace("set:\n", "sets:\n"), "small"),
            "scales.small.sets: unknown field; did you mean 'set'?",
        ),
        (with_scale(STUDY.replace("says: everything", "set: {}"), "full"), "says: is required"),
        (with_scale(STUDY.replace("set:\n", "set: 3\n    x:\n"), "small"), "scales.small"),
    ],
)
def test_what_is_refused(text, told):
    assert any(told in line for line in problems(text)), problems(text)


def test_a_problem_in_a_scale_is_told_where_it_is_written():
    text = STUDY.replace("fog: [3], frost: [1]", "fog: [3], frost: [7]")
    (told,) = problems(with_scale(text, "small"))
    line = text[: text.index("frost: [7]")].count("\n") + 1
    assert told.startswith(f"study.yaml:{line}:")
    assert "conditions.frost.0" in told
