"""Heat maps in a study file: each task has its own methods, and boxes have settings."""

from __future__ import annotations

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.records import CLEAN
from shrinkproof.spec.document import Document
from shrinkproof.spec.problems import Problems
from shrinkproof.spec.saliency import SaliencyCheck, SaliencySpec


def problems_of(spec: SaliencySpec, task: str) -> list[str]:
    problems = Problems(Document("study.yaml", {"measure": {"saliency": {}}}))
    SaliencyCheck(problems, ["m"], [CLEAN], task).check(spec)
    try:
        problems.raise_if_any()
    except SpecError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("task", ["classification", "detection"])
def test_the_default_method_is_there_for_both_tasks(task: str) -> None:
    assert not problems_of(SaliencySpec(), task)


def test_boxes_have_methods_and_settings_of_their_own() -> None:
    methods = ("hirescam", {"drise": {"masks": 100}})
    assert not problems_of(SaliencySpec(methods=methods, boxes=5, score=0.3), "detection")
    (problem,) = problems_of(SaliencySpec(methods=("rise",)), "detection")
    assert "unknown attribution 'rise' of boxes" in problem
    assert "drise" in problem
    (problem,) = problems_of(SaliencySpec(methods=("drise",)), "classification")
    assert "unknown attribution 'drise'" in problem
    (problem,) = problems_of(SaliencySpec(methods=({"drise": {"masks": 1}},)), "detection")
    assert "must be at least 2, got 1" in problem


def test_images_without_boxes_have_no_settings_of_boxes() -> None:
    (problem,) = problems_of(SaliencySpec(boxes=5), "classification")
    assert "boxes: must be left out for task classification, which has no boxes, got 5" in problem
