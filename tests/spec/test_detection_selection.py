"""What a study of detectors may decide by."""

from __future__ import annotations

from typing import Any

import pytest

from shrinkproof.records import CLEAN, Condition
from shrinkproof.spec.selection import SelectionCheck

CONDITIONS = (CLEAN, Condition("fog", 1), Condition("fog", 2))


class Found:
    """Collects the rules that are broken."""

    def __init__(self) -> None:
        self.rules: list[str] = []

    def add(self, _: object, rule: str, **__: object) -> None:
        self.rules.append(rule)


def problems(require: str, task: str = "detection", **select: Any) -> list[str]:
    found = Found()
    check = SelectionCheck(
        found,  # type: ignore[arg-type]
        ("detection.ap", "detection.d_ece"),
        False,
        CONDITIONS,
        is_apart=True,
        task=task,
    )
    wanted = {"minimize": ("cost.bytes",), "maximize": (), "require": (require,)}
    check.check({**wanted, **select})
    return found.rules


@pytest.mark.parametrize(
    "text",
    [
        "detection.ap@clean >= 0.3",
        "change.detection.ap@fog:2 >= -0.05",
        "robustness.mpc@corrupted >= 0.2",
        "robustness.mpc@fog >= 0.2",
        "robustness.mpc@weather >= 0.2",
        "robustness.rpc@corrupted >= 0.5",
        "robustness.mpc_of_baseline@corrupted >= 0.5",
        "boxes.miss_rate@fog:1 <= 0.3",
        "boxes.miss_rate{class=RBC}@clean <= 0.3",
        "boxes.miss_rate{size=small}@corrupted <= 0.3",
        "boxes.lost@corrupted <= 0.1",
        "boxes.flipped@clean <= 0.1",
        "calibration.temperature <= 3",
    ],
)
def test_numbers_of_detectors_can_decide(text: str) -> None:
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("accuracy.top1@clean >= 0.9", "is about the classes of images"),
        ("robustness.mean_error <= 0.4", "use detection.ap, robustness.mpc or detection.d_ece"),
        ("flips.negative@clean <= 0.1", "is about the classes of images"),
        ("detection.ap50@clean >= 0.5", "add it to measure.scores"),
        ("robustness.mpc >= 0.2", "needs a condition, for example robustness.mpc@corrupted"),
        ("robustness.mpc@clean >= 0.2", "write robustness.mpc@corrupted"),
        ("change.robustness.rpc@fog:1 >= 0.2", "is a mean over severities of corruptions"),
        ("robustness.mpc@noise >= 0.2", "unknown condition"),
        ("boxes.miss_rate{size=tiny}@clean <= 0.3", "unknown size 'tiny'"),
        ("boxes.miss_rate{class=RBC}@fog:1 <= 0.3", "@clean or @corrupted"),
        ("boxes.lost{class=RBC}@clean <= 0.3", "only boxes.miss_rate is computed class by"),
        ("boxes.threshold >= 0.3", "is the same for all candidates"),
        ("isotonic.detection.d_ece@clean <= 0.1", "was fitted on the select split"),
        ("platt.detection.d_ece@clean <= 0.1", "was fitted on the select split"),
        ("scaled.detection.d_ece@clean <= 0.1", "was fitted on the select split"),
        ("null_mean.detection.d_ece@clean <= 0.1", "is computed on the images that are printed"),
    ],
)
def test_what_does_not_exist_cannot_decide(text: str, expected: str) -> None:
    (rule,) = problems(text)
    assert expected in rule


def test_numbers_of_boxes_are_no_numbers_of_classifiers() -> None:
    (rule,) = problems("boxes.miss_rate@clean <= 0.1", task="classification")
    assert rule == "boxes.miss_rate is about detected boxes, and the task is classification"


def test_objectives_have_a_direction() -> None:
    wrong = problems("detection.ap@clean >= 0.3", minimize=("robustness.mpc@corrupted",))
    assert wrong == ["robustness.mpc is better when higher; put it under 'maximize'"]
    (rule,) = problems("detection.ap@clean >= 0.3", minimize=("boxes.new@clean",))
    assert rule == "boxes.new has no better direction and cannot be an objective"
