"""Recipes that are for some models only."""

from __future__ import annotations

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.spec import load_study_spec
from shrinkproof.study import Study

STUDY = """\
study: some
models:
  small: {use: cifar:resnet8w8, preprocess: {mean: [0, 0, 0], std: [1, 1, 1]}, seen: []}
  large: {use: cifar:resnet20, preprocess: {mean: [0, 0, 0], std: [1, 1, 1]}, seen: []}
data: {split: {from: digits, report: rest}, preset: cifar}
recipes:
  narrow{ratio}:
    models: [small]
    grid: {ratio: [0.5, 0.25]}
    steps: [{prune.channels: {ratio: "{ratio}", include: [layer1.0.conv1], round_to: 1}}]
  wide:
    models: [large]
    steps: [{prune.channels: {ratio: 0.5, include: [layer1.2.conv1], round_to: 1}}]
  fold: {steps: [fold]}
"""


def test_each_model_has_its_recipes(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY)
    plan = Study.load(tmp_path / "study.yaml").plan()
    assert [candidate.label for candidate in plan.candidates] == [
        *("small/baseline", "small/narrow0.5", "small/narrow0.25", "small/fold"),
        *("large/baseline", "large/wide", "large/fold"),
    ]


def test_all_recipes_are_known_without_a_model():
    spec = load_study_spec(STUDY)
    assert list(spec.candidate_recipes()) == ["narrow0.5", "narrow0.25", "wide", "fold"]
    assert list(spec.candidate_recipes("large")) == ["wide", "fold"]


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(SpecError, match=r"recipes.wide.models.0: unknown model 'larg'; did you"):
        load_study_spec(STUDY.replace("[large]", "[larg]"))
