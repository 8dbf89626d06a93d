"""Each word of a verdict, from runs whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from shrinkproof.errors import UsageError
from shrinkproof.verdict.claims import (
    Between,
    Claim,
    Correlation,
    Effect,
    FormGap,
    Joint,
    Paper,
    Protocol,
    Threshold,
)
from shrinkproof.verdict.claims import (
    Test as Tested,
)
from shrinkproof.verdict.judging import judge
from shrinkproof.verdict.outcomes import Outcome

from .made_runs import TUNE, Made, baseline, channels, prune, run_of, step, trainings

ACCURACY = "accuracy.top1@clean"
GAINS = Effect(ACCURACY, "weights", "higher", margin=0.02)
KEEPS = Effect(ACCURACY, "weights", "higher", goal="keeps", margin=0.02)


def paper_of(
    *tests: Tested,
    unit: Any = "training",
    controls: tuple[Tested, ...] = (),
    **more: Any,
) -> Paper:
    """A paper with one claim for each test, all of one family."""
    words = ("Something holds.", "curves only", "Fig. 1", "family")
    claims = tuple(
        Claim(f"X{number}", *words, unit, test, controls, **more)
        for number, test in enumerate(tests, 1)
    )
    protocol = Protocol(("cifar:vgg16_bn",), ("cifar10:test",), epochs=40, images=10_000, runs=3)
    return Paper("made", "A paper", "arXiv:0", protocol, claims)


def one(path: Path, test: Tested, *made: Made, **more: Any) -> Outcome:
    """The only outcome of a test in one network."""
    run = run_of(path / "run", {"net": [baseline(), *made]})
    (outcome,) = judge(paper_of(test, **more), [run])
    return outcome


def test_three_trainings_that_all_gain_are_reproduced(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("p", [360, 361, 362], prune(0.5)))
    assert found.verdict == "reproduced"
    assert found.value == pytest.approx(0.1025)  # (.9 + .9025 + .905) / 3 - .8
    assert found.trainings == 3
    assert found.low is not None
    assert found.low > 0.06
    assert "repeats are of the recovery, all of one trained network" in found.reasons
    assert "400 of 10000 test images" in found.reasons


def test_trainings_that_all_lose_are_not_reproduced(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("p", [280, 281, 282], prune(0.5)))
    assert found.verdict == "not reproduced"
    assert found.value == pytest.approx(-0.0975)


def test_trainings_that_disagree_are_inconclusive(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("p", [280, 330, 370], prune(0.5)))
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("rights", "verdict"),
    [
        ([370], "consistent, single run"),
        ([270], "contrary, single run"),
        ([370, 371], "consistent, 2 runs"),
        ([270, 271], "contrary, 2 runs"),
        ([324], "inconclusive"),
    ],
)
def test_few_trainings_say_little_of_a_method(
    tmp_path: Path, rights: list[int], verdict: str
) -> None:
    found = one(tmp_path, GAINS, *trainings("p", rights, prune(0.5)))
    assert found.verdict == verdict
    assert any("too few" in reason for reason in found.reasons)


def test_one_training_is_enough_for_a_claim_about_images(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("p", [370], prune(0.5)), unit="image")
    assert found.verdict == "reproduced"


def test_a_gain_below_the_margin_is_said_to_be_small(tmp_path: Path) -> None:
    test = replace(GAINS, margin=0.3)
    found = one(tmp_path, test, *trainings("p", [360, 361, 362], prune(0.5)))
    assert found.verdict == "reproduced"
    assert any("smaller than the margin" in reason for reason in found.reasons)


@pytest.mark.parametrize(
    ("rights", "verdict"),
    [
        ([320, 321, 319], "reproduced"),
        ([300, 301, 299], "not reproduced"),
        ([312, 313, 311], "inconclusive"),
    ],
)
def test_kept_is_non_inferiority(tmp_path: Path, rights: list[int], verdict: str) -> None:
    assert one(tmp_path, KEEPS, *trainings("p", rights, prune(0.5))).verdict == verdict


def test_unchanged_answers_leave_room_for_unseen_images(tmp_path: Path) -> None:
    found = one(tmp_path, KEEPS, *trainings("p", [320], prune(0.5)), unit="image")
    assert found.verdict == "reproduced"
    assert found.high == pytest.approx(1.96 * 2 / 400, rel=1e-3)  # four unseen images
    assert any("images show a change" in reason for reason in found.reasons)


def test_every_level_counts_and_the_weakest_is_shown(tmp_path: Path) -> None:
    made = [
        *trainings("p3", [370, 371, 372], prune(0.3)),
        *trainings("p7", [300, 301, 302], prune(0.7)),
    ]
    found = one(tmp_path, replace(GAINS, over="every"), *made)
    assert found.value == pytest.approx(-0.0475)
    assert found.verdict == "not reproduced"
    assert "shown is p7, the weakest of 2" in found.reasons
    assert [detail["level"] for detail in found.details] == [0.3, 0.7]


def test_levels_choose_the_recipes(tmp_path: Path) -> None:
    made = [
        *trainings("p3", [370, 371, 372], prune(0.3)),
        *trainings("p7", [300, 301, 302], prune(0.7)),
    ]
    found = one(tmp_path, replace(GAINS, levels=(0.0, 0.5)), *made)
    assert found.value == pytest.approx(0.1275)


def test_a_slope_goes_through_the_original_at_ratio_zero(tmp_path: Path) -> None:
    made = [
        *trainings("p4", [328, 328, 329], prune(0.4)),
        *trainings("p8", [336, 336, 337], prune(0.8)),
    ]
    found = one(tmp_path, replace(GAINS, over="slope", margin=0.0), *made)
    # Points (0, .8), (.4, .82), (.8, .84), and one training a quarter of a point higher in both.
    assert found.value == pytest.approx(0.05 + 0.0025 / 3 * (0.4 / 0.32))
    assert found.unit == "slope"


def test_relative_effects_are_fractions_of_what_they_are_compared_with(tmp_path: Path) -> None:
    found = one(tmp_path, replace(GAINS, is_relative=True), *trainings("p", [360], prune(0.5)))
    assert found.value == pytest.approx(360 / 320 - 1)
    assert found.unit == "relative"


def test_the_dense_control_of_the_same_training_is_compared_with(tmp_path: Path) -> None:
    made = [
        *trainings("dense", [350, 360, 370], (TUNE,), role="control"),
        *trainings("p", [355, 365, 375], prune(0.5), control="dense"),
    ]
    found = one(tmp_path, replace(GAINS, against="control"), *made)
    assert found.value == pytest.approx(5 / 400)
    assert [row["change"] for row in found.details] == [pytest.approx(5 / 400)]


def test_a_missing_control_is_said(tmp_path: Path) -> None:
    made = trainings("p", [355, 365, 375], prune(0.5))
    found = one(tmp_path, replace(GAINS, against="control"), *made)
    assert found.verdict == "not comparable"
    assert "no dense network that was trained as long" in found.reasons[0]


def test_controls_have_a_family_of_their_own_and_decide_nothing(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", {"net": [baseline(), *trainings("p", [360, 361, 362], prune(0.5))]}
    )
    paper = paper_of(GAINS, controls=(replace(GAINS, margin=0.3),))
    primary, control = judge(paper, [run])
    assert (primary.is_control, control.is_control) == (False, True)
    assert control.family == "family, controls"
    assert primary.p == primary.adjusted_p


def test_a_family_is_corrected_over_networks_and_runs(tmp_path: Path) -> None:
    made = [baseline(), *trainings("p", [360, 361, 362], prune(0.5))]
    runs = [
        run_of(tmp_path / "one", {"a": made, "b": made}),
        run_of(tmp_path / "two", {"a": made}),
    ]
    found = judge(paper_of(GAINS), runs)
    assert [(outcome.run, outcome.network) for outcome in found] == [
        ("one", "a"),
        ("one", "b"),
        ("two", "a"),
    ]
    for outcome in found:
        assert outcome.p is not None
        assert outcome.adjusted_p == pytest.approx(3 * outcome.p)


def test_a_failed_training_is_left_out_and_said(tmp_path: Path) -> None:
    made = [
        *trainings("p", [360, 361], prune(0.5)),
        Made("p", 0, prune(0.5), repeat=2, fails=True),
    ]
    found = one(tmp_path, GAINS, *made)
    assert found.trainings == 2
    assert any("net/p#2 failed: it fell apart" in reason for reason in found.reasons)


def test_where_all_failed_nothing_is_comparable(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, Made("p", 0, prune(0.5), fails=True))
    assert found.verdict == "not comparable"
    assert "net/p failed: it fell apart" in found.reasons[0]


def test_a_method_that_the_run_lacks_is_not_comparable(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("f", [360], channels(0.5)))
    assert found.verdict == "not comparable"
    assert found.reasons[0] == "nothing measured: the run has no unstructured pruning"


def test_a_number_that_was_not_measured_is_not_comparable(tmp_path: Path) -> None:
    effect = replace(GAINS, selector="saliency.hcc@clean")
    found = one(tmp_path, effect, *trainings("p", [360], prune(0.5)))
    assert found.verdict == "not comparable"
    assert "saliency.hcc@clean was not measured" in found.reasons[0]


def test_one_training_of_a_plain_number_has_no_interval(tmp_path: Path) -> None:
    costs = [{"cost.bytes": 100.0}, {"cost.bytes": 40.0}]
    run = run_of(
        tmp_path / "run",
        {"net": [baseline(costs=costs[0]), *trainings("p", [320], prune(0.5), costs=costs[1])]},
    )
    (found,) = judge(paper_of(Effect("cost.bytes", "weights", "lower")), [run])
    assert (found.value, found.low, found.verdict) == (-60.0, None, "inconclusive")
    assert any("known as a number only" in reason for reason in found.reasons)


def test_other_data_forbid_every_comparison(tmp_path: Path) -> None:
    made = [baseline(), *trainings("p", [360, 361, 362], prune(0.5))]
    run = run_of(tmp_path / "run", {"net": made}, source="digits")
    (found,) = judge(paper_of(GAINS), [run])
    assert found.verdict == "not comparable"
    assert found.reasons[0] == "data: digits instead of cifar10:test"
    assert found.value is not None


def test_another_network_forbids_numbers_but_not_directions(tmp_path: Path) -> None:
    made = [baseline(), *trainings("p", [360, 361, 362], prune(0.5))]
    run = run_of(tmp_path / "run", {"net": made}, uses={"net": "cifar:resnet20"})
    (direction,) = judge(paper_of(GAINS), [run])
    assert direction.verdict == "reproduced"
    assert "network: cifar:resnet20 is not among the published ones" in direction.reasons
    number = replace(GAINS, published=0.1, margin=0.1)
    (found,) = judge(paper_of(number, is_number=True), [run])
    assert found.verdict == "not comparable"


@pytest.mark.parametrize(
    ("published", "verdict"),
    [(0.1, "reproduced"), (0.5, "not reproduced"), (0.03, "inconclusive")],
)
def test_a_number_is_reproduced_within_the_margin(
    tmp_path: Path, published: float, verdict: str
) -> None:
    test = replace(GAINS, published=published, margin=0.075)
    made = trainings("p", [360, 361, 362], prune(0.5))
    assert one(tmp_path, test, *made, is_number=True).verdict == verdict


def test_joint_claims_need_all_their_parts(tmp_path: Path) -> None:
    other = replace(GAINS, method="filters")
    made = trainings("p", [360, 361, 362], prune(0.5))
    good = trainings("f", [350, 351, 352], channels(0.5))
    bad = trainings("f", [280, 281, 282], channels(0.5))
    assert one(tmp_path / "a", Joint((GAINS, other)), *made, *good).verdict == "reproduced"
    found = one(tmp_path / "b", Joint((GAINS, other)), *made, *bad)
    assert found.verdict == "not reproduced"
    assert found.value == pytest.approx(-0.0975)


@pytest.mark.parametrize(
    ("value", "direction", "verdict"),
    [
        (0.7, "higher", "consistent, single run"),
        (0.9, "higher", "contrary, single run"),
        (0.9, "lower", "consistent, single run"),
        (0.79, "higher", "inconclusive"),
    ],
)
def test_originals_lie_above_or_below(
    tmp_path: Path, value: float, direction: Any, verdict: str
) -> None:
    found = one(tmp_path, Threshold(ACCURACY, direction, value))
    assert (found.value, found.verdict) == (pytest.approx(0.8), verdict)


def test_a_threshold_can_be_a_relative_rise(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"net": [baseline(320, fog=200)]})
    rise = Threshold("robustness.mean_error", "higher", 1.0, relative_to=ACCURACY)
    (found,) = judge(paper_of(rise), [run])
    assert found.value == pytest.approx(0.5 / 0.8 - 1)


def test_numbers_go_together_over_recipes(tmp_path: Path) -> None:
    made = [
        m
        for i in range(5)
        for m in trainings(f"p{i}", [340 - 10 * i], prune(0.1 + i / 10), fog=200 - 10 * i)
    ]
    run = run_of(tmp_path / "run", {"net": [baseline(320, fog=220), *made]})
    test = Correlation(ACCURACY, "accuracy.top1@fog")
    rising, falling = judge(paper_of(test, replace(test, direction="lower"), unit="image"), [run])
    assert (rising.value, rising.verdict) == (pytest.approx(1.0), "reproduced")
    assert rising.p == pytest.approx(1 / 120)
    assert falling.verdict == "not reproduced"


def test_few_recipes_have_no_correlation(tmp_path: Path) -> None:
    found = one(tmp_path, Correlation(ACCURACY, ACCURACY), *trainings("p", [360], prune(0.5)))
    assert found.verdict == "not comparable"
    assert found.reasons[0] == "a correlation needs 4 recipes, got 1"


def test_the_larger_network_gains_more(tmp_path: Path) -> None:
    small = [
        baseline(320, costs={"cost.macs": 1.0}),
        *trainings("p", [320, 321, 322], prune(0.5)),
    ]
    large = [
        baseline(320, costs={"cost.macs": 2.0}),
        *trainings("p", [360, 361, 362], prune(0.5)),
    ]
    run = run_of(tmp_path / "run", {"small": small, "large": large})
    (found,) = judge(paper_of(Between(GAINS)), [run])
    assert found.value == pytest.approx(0.1)
    assert found.verdict == "reproduced"
    assert found.reasons[0].startswith("large minus small")


def test_one_network_cannot_be_compared_with_another(tmp_path: Path) -> None:
    found = one(tmp_path, Between(GAINS), *trainings("p", [360], prune(0.5)))
    assert found.verdict == "not comparable"


@pytest.mark.parametrize(("twin", "verdict"), [(360, "not reproduced"), (390, "reproduced")])
def test_a_file_is_compared_with_its_twin(tmp_path: Path, twin: int, verdict: str) -> None:
    steps = (step("quantize.qat", finetune={"epochs": 40}),)
    made = trainings("qat", [358, 359, 360], steps, twin=twin)
    found = one(tmp_path, FormGap(ACCURACY, "qat", "lower", 0.05), *made)
    assert found.value == pytest.approx((359 - twin) / 400)
    assert found.verdict == verdict


def test_a_run_of_another_task_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"net": [baseline()]})
    with pytest.raises(UsageError, match="claims of made are about detection, got classification"):
        judge(paper_of(GAINS, task="detection"), [run])


def test_a_claim_of_a_task_without_a_run_is_not_comparable(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"net": [baseline()]})
    paper = paper_of(GAINS)
    boxes = replace(paper.claims[0], name="X2", task="detection")
    _, found = judge(replace(paper, claims=(*paper.claims, boxes)), [run])
    assert (found.verdict, found.reasons) == ("not comparable", ("no run of detection was given",))


def test_the_original_is_the_control_of_what_trains_nothing(tmp_path: Path) -> None:
    effect = Effect(ACCURACY, "cluster", "higher", against="control")
    found = one(tmp_path, effect, Made("c", 360, (step("cluster", levels=16),)))
    assert (found.value, found.verdict) == (pytest.approx(0.1), "consistent, single run")
    assert "c: nothing is trained, so the original is the control" in found.reasons


def test_what_is_recalibrated_has_no_control_in_the_original(tmp_path: Path) -> None:
    effect = Effect(ACCURACY, "cluster", "higher", against="control")
    steps = (step("cluster", levels=16), step("recalibrate"))
    found = one(tmp_path, effect, Made("c", 360, steps))
    assert found.verdict == "not comparable"
