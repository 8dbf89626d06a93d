"""What must not become a verdict: copies, missing cells, seen images, hidden recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shrinkproof.errors import UsageError
from shrinkproof.records import Candidate
from shrinkproof.results import Results
from shrinkproof.verdict.claims import Correlation, Effect, FormGap, Joint
from shrinkproof.verdict.judging import judge
from shrinkproof.verdict.network import epochs_of

from .made_runs import Made, baseline, channels, prune, run_of, step, trainings
from .test_judging import ACCURACY, GAINS, one, paper_of


def test_repeats_of_what_trains_nothing_are_one(tmp_path: Path) -> None:
    effect = Effect(ACCURACY, "cluster", "higher")
    made = trainings("c", [360, 360, 360], (step("cluster", levels=16),))
    found = one(tmp_path, effect, *made)
    assert (found.trainings, found.verdict) == (1, "consistent, single run")
    assert any("nothing is trained" in reason for reason in found.reasons)


def test_trainings_with_equal_answers_are_one(tmp_path: Path) -> None:
    found = one(tmp_path, GAINS, *trainings("p", [370, 370, 370], prune(0.5)))
    assert (found.trainings, found.verdict) == (1, "consistent, single run")
    assert "all trainings gave the same answers, so they count as one" in "; ".join(found.reasons)


def test_a_recipe_with_fewer_trainings_limits_the_others(tmp_path: Path) -> None:
    made = [
        *trainings("p3", [370, 371, 372], prune(0.3)),
        *trainings("p7", [370], prune(0.7)),
    ]
    found = one(tmp_path, GAINS, *made)
    assert (found.trainings, found.verdict) == (1, "consistent, single run")
    assert any("p7 was not trained as often as others" in reason for reason in found.reasons)


def test_few_trainings_are_counted_after_failures(tmp_path: Path) -> None:
    made = [*trainings("p", [360, 361], prune(0.5)), Made("p", 0, prune(0.5), 2, fails=True)]
    found = one(tmp_path, GAINS, *made)
    assert "2 trainings: too few to say something of other trainings" in found.reasons
    assert "failed: net/p#2" in found.reasons


def test_recipes_at_one_ratio_are_named(tmp_path: Path) -> None:
    made = [*trainings("a", [370], prune(0.5)), *trainings("b", [330], prune(0.5))]
    found = one(tmp_path, GAINS, *made)
    assert found.value == pytest.approx(0.075)
    assert "several recipes at one ratio, each counts as much: a, b" in found.reasons


def test_a_run_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"net": [baseline(), *trainings("p", [360], prune(0.5))]})
    with pytest.raises(UsageError, match="every run must be given once"):
        judge(paper_of(GAINS), [run, Results.load(tmp_path / "run")])


def test_images_that_were_seen_before_forbid_a_comparison(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", {"net": [baseline(), *trainings("p", [360], prune(0.5))]})
    data = {**run.data, "contamination": {"net": {"report": "9 images are also in train"}}}
    run.store.write_json("data.json", data)
    (found,) = judge(paper_of(GAINS), [Results.load(run.store.path)])
    assert found.verdict == "not comparable"
    assert found.reasons[0] == "contaminated: 9 images are also in train"


def test_an_unfinished_run_is_named(tmp_path: Path) -> None:
    tried = ((0, 360, 210), (1, 361, 212), (2, 362, 214))
    made = [Made("p", right, prune(0.5), repeat, fog=fog) for repeat, right, fog in tried]
    made = [baseline(fog=200), *made]
    run = run_of(tmp_path / "run", {"net": made})
    (run.store.path / "cells" / "net-p-2-fog-5-artifact.jsonl").unlink()
    run = Results.load(run.store.path)
    fog = replace(GAINS, selector="calibration.ece[bins=10]@corrupted")
    error = replace(GAINS, selector="robustness.mean_error", direction="lower")
    for found in judge(paper_of(fog, error), [run]):
        assert found.trainings == 2
        assert any("left out, one training: net/p#2" in reason for reason in found.reasons)
        assert "not finished: 1 of 8 cells missing" in found.reasons


@pytest.mark.parametrize(
    ("rights", "text"),
    [
        ([280, 281, 282], "the change is in the opposite direction"),
        ([321, 320, 322], "smaller than the margin; no opposite one is shown"),
    ],
)
def test_a_contradiction_says_whether_it_got_worse(
    tmp_path: Path, rights: list[int], text: str
) -> None:
    test = replace(GAINS, margin=0.05)
    found = one(tmp_path, test, *trainings("p", rights, prune(0.5)))
    assert found.verdict == "not reproduced"
    assert text in "; ".join(found.reasons)


def test_epochs_of_iterations_and_layers_count(tmp_path: Path) -> None:
    fields = {"ratio": 0.5, "criterion": "hrank", "iterations": "layers", "groups": 13}
    layers = step("prune.channels", finetune={"epochs": 1}, **fields)
    tuned = step("finetune", epochs=5)
    steps = [
        ((layers, tuned), 18),
        ((step("prune.channels", ratio=0.5, iterations=3, finetune={"epochs": 2}),), 6),
        ((step("prune.weights", ratio=0.5), tuned, step("cluster", levels=16), tuned), 5),
        ((step("prune.weights", ratio=0.5), tuned, step("quantize.static")), 5),
        ((step("quantize.static"),), 0),
    ]
    for recipe, epochs in steps:
        assert epochs_of(Candidate("k", "m", "r", steps=recipe)) == epochs


def test_one_epoch_is_one_epoch(tmp_path: Path) -> None:
    steps = (step("prune.weights", ratio=0.5), step("finetune", epochs=1))
    found = one(tmp_path, GAINS, *trainings("p", [370], steps))
    assert "recovery: 1 epoch instead of 40" in found.reasons


def test_a_gap_of_several_recipes_says_which_is_left_out(tmp_path: Path) -> None:
    steps = (step("quantize.qat", finetune={"epochs": 40}),)
    made = [Made(name, 358, steps, twin=360) for name in ("a", "b")]
    found = one(tmp_path, FormGap(ACCURACY, "qat", "lower", 0.05), *made)
    assert "shown is a, left out: b" in found.reasons


def test_correlations_count_the_trainings_of_what_is_trained(tmp_path: Path) -> None:
    made = [
        m
        for i in range(5)
        for m in trainings(
            f"p{i}", [340 - 10 * i, 341 - 10 * i, 342 - 10 * i], prune(0.1 + i / 10), fog=200 - i
        )
    ]
    made.append(Made("c", 200, (step("cluster", levels=16),), fog=100))
    run = run_of(tmp_path / "run", {"net": [baseline(320, fog=220), *made]})
    (found,) = judge(paper_of(Correlation(ACCURACY, "accuracy.top1@fog")), [run])
    assert (found.trainings, found.verdict) == (3, "reproduced")


def test_what_other_engines_predicted_is_left_out(tmp_path: Path) -> None:
    run = run_of(
        tmp_path / "run", {"net": [baseline(), *trainings("p", [360, 361, 362], prune(0.5))]}
    )
    of = run.by_key["net-p-0"]
    mine = replace(of, key="foreign", recipe="p-npu")
    item = {"candidate": mine.as_json(), "of": of.key, "label": of.label, "device": ""}
    run.store.write_json("imported.json", {"candidates": [item], "cells": []})
    (found,) = judge(paper_of(GAINS), [Results.load(run.store.path)])
    assert (found.trainings, found.verdict) == (3, "reproduced")
    assert "left out, predicted elsewhere: net/p-npu" in found.reasons


def test_the_part_that_contradicts_is_shown(tmp_path: Path) -> None:
    # The first part is unclear and speaks least for the claim, the second one is far too small.
    unclear = trainings("p", [300, 318, 335], prune(0.5))
    small = trainings("f", [321, 322, 323], channels(0.5))
    other = replace(GAINS, method="filters", margin=0.2)
    found = one(tmp_path, Joint((GAINS, other)), *unclear, *small)
    assert found.verdict == "not reproduced"
    assert found.value == pytest.approx(0.005)
    assert found.high is not None
    assert found.high < 0.2
    levels = [
        *trainings("p3", [300, 318, 335], prune(0.3)),
        *trainings("p7", [250, 251, 252], prune(0.7)),
    ]
    found = one(tmp_path / "every", replace(GAINS, over="every"), *levels)
    assert (found.verdict, found.value) == ("not reproduced", pytest.approx(-0.1725))
