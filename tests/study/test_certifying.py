"""A certificate from start to end: plan, look, predictions, tests, and what may go wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.decision.ledger import Ledger
from shrinkproof.errors import DataError, StoreError, UsageError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.results import Results
from shrinkproof.statistics.risk import binomial_p
from shrinkproof.study import Inputs, certifying
from shrinkproof.study.certifying import certify
from shrinkproof.study.work.measuring import Pass, PassResult

from ..certify_builder import (
    CERTIFY,
    IMAGES,
    Planted,
    Shares,
    add_certify_images,
    write_promises,
)


@pytest.fixture
def mine(run_copy: Path, tmp_path: Path) -> Path:
    """A private run with certify images that nobody has looked at."""
    add_certify_images(run_copy, tmp_path)
    return run_copy


@pytest.fixture
def test(mine: Path, tmp_path: Path) -> Callable[..., Any]:
    """Certify with a ledger of its own."""

    def test(block: str = CERTIFY) -> Any:
        write_promises(mine, block)
        return certify(mine, ledger=tmp_path / "ledger.jsonl")

    return test


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Planted]:
    def plant(shares: Shares, *broken: str) -> Planted:
        planted = Planted(shares, broken)
        monkeypatch.setattr(certifying, "measure", planted)
        return planted

    return plant


def row(certificate: Any, recipe: str) -> Any:
    return next(r for r in certificate["candidates"] if r["label"] == f"net/{recipe}")


def test_an_exported_file_is_tested_in_its_real_runtime(mine: Path, test: Any) -> None:
    """The tiny network is wrong for most images: that, too, can be promised."""
    before = Results.load(mine)
    found = test("certify: {promises: [{error: 0.99, over: mean}], candidates: ['net/prune0.5']}\n")
    assert (found["status"], found["certified"]) == ("valid", ["net/prune0.5"])
    assert (found["images"], found["units"], found["needed"]) == (IMAGES, IMAGES, None)
    verdict = found["candidates"][0]["promises"][0]
    assert verdict["method"] == "betting"
    assert 0.5 < verdict["risk"] < verdict["upper"] < 0.99
    after = Results.load(mine)
    assert after.records == before.records
    assert after.progress == before.progress
    assert after.certificate == found


def test_whoever_keeps_the_promise_is_certified_and_the_smallest_named(
    test: Any, plant: Any
) -> None:
    plant({"prune0.8": 0.3, "cluster8": 0.1, "prune0.5": {"contrast:3": 0.18}})
    found = test()
    sizes = [r["bytes"] for r in found["candidates"]]
    assert sizes == sorted(sizes)
    assert found["certified"] == ["net/cluster8"]
    assert found["smallest"] == "net/cluster8"
    good, bad = row(found, "cluster8"), row(found, "prune0.8")
    assert good["p"] == pytest.approx(binomial_p(20, IMAGES, 0.2))
    assert good["adjusted_p"] == pytest.approx(3 * good["p"])
    assert bad["promises"][0]["risk"] == pytest.approx(0.3)
    assert row(found, "prune0.5")["promises"][0]["worst"] == "contrast:3"
    assert "0.18 under contrast:3" in row(found, "prune0.5")["why"]
    assert found["look"] == {"number": 1, "of": 1, "error": pytest.approx(0.05), "why": ""}
    assert any("ONNX Runtime" in sentence for sentence in found["scope"])


def test_plan_and_look_are_written_before_images_are_shown(
    mine: Path, tmp_path: Path, test: Any, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant({})

    def watched(work: Pass) -> PassResult:
        (plan,) = (mine / "certificates").glob("*/plan.json")
        (look,) = Ledger.open(tmp_path / "ledger.jsonl").entries()
        assert look.plan == plan.parent.name
        assert not (plan.parent / "certificate.json").exists()
        content = json.loads(plan.read_text())
        assert [c["label"] for c in content["candidates"]]
        assert all(len(c["sha256"]) == 64 for c in content["candidates"])
        return planted(work)

    monkeypatch.setattr(certifying, "measure", watched)
    assert test()["status"] == "valid"
    assert len(planted.asked) == 12


def test_a_kill_costs_no_look_and_only_the_unfinished_pass(
    tmp_path: Path, mine: Path, test: Any, plant: Any
) -> None:
    planted = plant({})
    planted.die_at = "contrast:3"
    with pytest.raises(KeyboardInterrupt):
        test()
    assert Results.load(mine).certificate is None
    done = len(planted.asked)
    planted.die_at = None
    assert test()["status"] == "valid"
    assert (done, len(planted.asked)) == (9, 12)
    assert len(Ledger.open(tmp_path / "ledger.jsonl").entries()) == 1


def test_the_same_plan_repeats_its_result(tmp_path: Path, test: Any, plant: Any) -> None:
    planted = plant({})
    first = test()
    assert test() == first
    assert len(planted.asked) == 12
    assert len(Ledger.open(tmp_path / "ledger.jsonl").entries()) == 1


def test_a_second_look_is_invalid_and_certifies_nobody(mine: Path, test: Any, plant: Any) -> None:
    plant({})
    first = test()
    second = test(CERTIFY.replace("0.2", "0.3"))
    assert (first["status"], second["status"]) == ("valid", "invalid")
    assert (second["certified"], second["smallest"]) == ([], None)
    assert "1 look was planned" in second["why"]
    assert row(second, "cluster8")["p"] < 1e-6
    assert not row(second, "cluster8")["certified"]
    assert Results.load(mine).certificate == second
    assert test(CERTIFY) == first


def test_two_planned_looks_get_half_the_error_each(test: Any, plant: Any) -> None:
    plant({"prune0.8": 0.3, "cluster8": 0.3, "prune0.5": 0.145})
    p = binomial_p(29, IMAGES, 0.2)
    assert 0.025 < p < 0.05
    block = CERTIFY.replace("all", "[net/prune0.5]")
    twice = test(block + "  looks: 2\n")
    assert (twice["look"]["error"], twice["certified"]) == (0.025, [])
    assert twice["candidates"][0]["p"] == pytest.approx(p)
    again = test(block.replace("0.2", "0.25") + "  looks: 2\n")
    assert (again["look"]["number"], again["status"]) == (2, "valid")
    assert again["certified"] == ["net/prune0.5"]
    third = test(block.replace("0.2", "0.3") + "  looks: 3\n")
    assert (third["status"], third["certified"]) == ("invalid", [])


def test_a_file_of_another_size_is_no_candidate_of_the_run(mine: Path, test: Any) -> None:
    key = next(c.key for c in Results.load(mine).candidates if c.recipe == "prune0.8")
    file = mine / "candidates" / key / "model.onnx"
    file.write_bytes(file.read_bytes() + b"0")
    with pytest.raises(StoreError, match="must be the file that was measured"):
        test()


def test_a_file_that_changes_during_the_test_is_not_certified(
    mine: Path, test: Any, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = plant({})
    key = next(c.key for c in Results.load(mine).candidates if c.recipe == "prune0.8")

    def tampering(work: Pass) -> PassResult:
        file = mine / "candidates" / key / "model.onnx"
        file.write_bytes(file.read_bytes() + b"0")
        return planted(work)

    monkeypatch.setattr(certifying, "measure", tampering)
    found = test()
    assert "has changed" in row(found, "prune0.8")["why"]
    assert row(found, "prune0.8")["p"] == 1.0
    assert found["certified"] == [
        r["label"] for r in found["candidates"] if "prune0.8" not in r["label"]
    ]
    assert len(list((mine / "predictions").glob("*"))) == count_of(mine) + 8


def count_of(run: Path) -> int:
    """How many cells of the study have predictions."""
    return sum(cell.evaluator == "scores" for cell in Results.load(run).cells)


def test_seen_images_make_the_certificate_invalid(mine: Path, test: Any, plant: Any) -> None:
    plant({})
    data = json.loads((mine / "data.json").read_text())
    data["contamination"]["net"]["certify"] = "3 of 200 images are also in select"
    (mine / "data.json").write_text(json.dumps(data))
    found = test()
    assert (found["status"], found["certified"]) == ("invalid", [])
    assert "3 of 200 images are also in select" in found["why"]


def test_a_candidate_that_fails_stays_in_the_family(test: Any, plant: Any) -> None:
    plant({"prune0.5": 0.13}, "prune0.8")
    found = test()
    broken = row(found, "prune0.8")
    assert (broken["p"], broken["promises"], broken["certified"]) == (1.0, [], False)
    assert broken["why"] == "could not be tested: clean: it cannot run"
    assert found["status"] == "valid"
    # Two of three are left, and the larger p-value of the two is doubled, not kept.
    other = row(found, "prune0.5")
    assert other["adjusted_p"] == pytest.approx(2 * other["p"])


def test_a_failed_candidate_is_tried_again_without_a_new_look(
    tmp_path: Path, test: Any, plant: Any
) -> None:
    plant({}, "prune0.8")
    assert "net/prune0.8" not in test()["certified"]
    planted = plant({})
    assert "net/prune0.8" in test()["certified"]
    assert {recipe for recipe, _ in planted.asked} == {"prune0.8"}
    assert len(Ledger.open(tmp_path / "ledger.jsonl").entries()) == 1


def test_one_bad_condition_breaks_every_but_not_the_mean(test: Any, plant: Any) -> None:
    plant({"cluster8": {"contrast:3": 0.22}})
    assert "net/cluster8" not in test(CERTIFY + "  looks: 2\n")["certified"]
    found = test(CERTIFY.replace("every", "mean") + "  looks: 2\n")
    assert "net/cluster8" in found["certified"]
    verdict = row(found, "cluster8")["promises"][0]
    assert (verdict["worst"], verdict["risk"]) == ("contrast:3", pytest.approx(0.22 / 3))


def test_a_mean_that_is_not_shown_is_not_said_of_its_worst_condition(test: Any, plant: Any) -> None:
    plant({"cluster8": {"contrast:3": 0.9}})
    why = row(test(CERTIFY.replace("every", "mean")), "cluster8")["why"]
    assert "0.3 in the mean of 3 conditions (worst: contrast:3)" in why


def test_the_images_of_a_class_are_the_units_of_its_promise(test: Any, plant: Any) -> None:
    plant({"cluster8": 0.5})
    found = test("certify: {promises: [{miss: 0.3, class: 2, over: clean}], candidates: all}\n")
    verdict = row(found, "cluster8")["promises"][0]
    assert 30 < verdict["units"] < 70
    assert "net/cluster8" not in found["certified"]
    assert found["promises"][0]["words"] == (
        "share of missed images of class 2 at most 30 % on clean images"
    )


def test_paired_losses_need_the_baseline_and_see_no_one_else(test: Any, plant: Any) -> None:
    planted = plant({"baseline": 0.3, "prune0.8": 0.3, "cluster8": 0.5})
    found = test(
        "certify: {promises: [{excess_error: 0.1, over: clean}, {negative_flip: 0.1, over: "
        "'gaussian_noise:1'}], candidates: [net/cluster8, net/prune0.8]}\n"
    )
    assert found["certified"] == ["net/prune0.8"]
    worst = row(found, "cluster8")["promises"]
    assert [v["risk"] for v in worst] == pytest.approx([0.2, 0.2])
    assert ("baseline", "clean") in planted.asked
    assert len(planted.asked) == 6


def test_a_chain_goes_by_the_slack_on_select_and_ends_at_its_first_failure(
    mine: Path, test: Any, plant: Any
) -> None:
    plant({"prune0.5": 0.3, "prune0.8": 0.3, "cluster8": 0.12})
    found = test(CERTIFY + "  method: chains\n  looks: 2\n")
    plan = json.loads((mine / "certificates" / found["plan"] / "plan.json").read_text())
    (alone,), (first, second) = plan["chains"]
    assert (alone, {first, second}) == ("net/cluster8", {"net/prune0.5", "net/prune0.8"})
    slack = {c["label"]: c["slack"] for c in plan["candidates"]}
    assert slack[first] >= slack[second]
    assert row(found, "cluster8")["adjusted_p"] == pytest.approx(2 * row(found, "cluster8")["p"])
    plant({"cluster8": 0.3, first.removeprefix("net/"): 0.3})
    shutil.rmtree(mine / "predictions")
    found = test(CERTIFY.replace("0.2", "0.21") + "  method: chains\n  looks: 2\n")
    assert found["certified"] == []
    late = next(r for r in found["candidates"] if r["label"] == second)
    assert late["p"] < 1e-6 < late["adjusted_p"]
    assert "an earlier candidate of its chain failed" in late["why"]


def test_images_needed_are_those_of_the_next_smaller_candidate(test: Any, plant: Any) -> None:
    """On select the untrained network is wrong for most images: no number of them is enough."""
    plant({"prune0.8": 0.3, "cluster8": 0.3, "prune0.5": 0.0})
    needed = test()["needed"]
    assert needed["images"] is None
    assert needed["split"] == "select"
    assert "above 0.2" in needed["why"]


def test_images_needed_agree_with_the_planned_power(test: Any, plant: Any, mine: Path) -> None:
    from shrinkproof.statistics.risk import units_needed

    results = Results.load(mine)
    cells = [c for c in results.cells if c.split == "select" and c.evaluator == "scores"]
    for cell in cells:
        found = results.store.read_predictions(cell.key)
        assert found is not None
        told = found.target.copy()
        told[:6] = (told[:6] + 1) % 4
        logits = np.eye(4, dtype=np.float32)[told]
        planted = ClassificationPredictions(logits, found.target, found.index)
        results.store.write_predictions(cell.key, planted)
    plant({"prune0.8": 0.3, "cluster8": 0.3, "prune0.5": 0.3})
    needed = test()["needed"]
    assert needed["images"] == units_needed(0.1, 0.2, error=0.05 / 3, power=0.8)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("", "no 'certify' section"),
        (
            "certify: {promises: [{miss: 0.1, class: '7'}], candidates: all}\n",
            r"class must be one of the 4 classes of the data, got '7'; known: 0, 1, 2, 3",
        ),
        (
            "certify: {promises: [{error: 0.1}], candidates: [net/nobody]}\n",
            r"must match a candidate, got 'net/nobody'; there are net/baseline, net/prune0.5",
        ),
    ],
)
def test_wrong_wishes_are_refused_in_words(test: Any, block: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        test(block)


def test_the_ledger_lies_beside_the_study_by_default(
    mine: Path, tmp_path: Path, test: Any, plant: Any
) -> None:
    plant({})
    first = test()
    inputs = Inputs.from_json(json.loads((mine / "inputs.json").read_text()))
    study = Path(shutil.copytree(inputs.folder, tmp_path / "study"))
    moved = {**inputs.as_json(), "folder": str(study)}
    (mine / "inputs.json").write_text(json.dumps(moved))
    shutil.rmtree(mine / "certificates")
    assert {**certify(mine), "made": ""} == {**first, "made": ""}
    assert (study / "certify-ledger.jsonl").is_file()


def changed(run: Path, file: Path, change: Callable[[Any, Any], None]) -> None:
    """Change pixels and classes of the certify images of a run, as if it had been run with them."""
    with np.load(file) as found:
        images, target = found["images"], found["target"]
    change(images, target)
    np.savez(file, images=images, target=target)
    data = json.loads((run / "data.json").read_text())
    inputs = Inputs.from_json(json.loads((run / "inputs.json").read_text()))
    images = inputs.splits(["certify"]).sets["certify"]
    data["splits"]["certify"]["fingerprint"] = images.fingerprint
    (run / "data.json").write_text(json.dumps(data))


def test_copies_of_an_image_are_no_new_evidence(
    mine: Path, tmp_path: Path, test: Any, plant: Any
) -> None:
    plant({"prune0.8": 0.1})

    def copy(images: Any, target: Any) -> None:
        images[100:] = images[99]

    changed(mine, tmp_path / "new.npz", copy)
    found = test(CERTIFY.replace("all", "[net/prune0.8]"))
    assert (found["images"], found["units"]) == (100, 100)
    verdict = found["candidates"][0]["promises"][0]
    assert (verdict["units"], verdict["risk"]) == (100, pytest.approx(0.2))
    assert any("100 more certify images are identical copies" in line for line in found["scope"])


def test_a_class_without_certify_images_costs_no_look(
    mine: Path, tmp_path: Path, test: Any, plant: Any
) -> None:
    plant({})

    def rename(images: Any, target: Any) -> None:
        target[target == 2] = 1

    changed(mine, tmp_path / "new.npz", rename)
    with pytest.raises(DataError, match="must be of class 2, got none of 200"):
        test("certify: {promises: [{miss: 0.3, class: 2, over: clean}], candidates: all}\n")
    assert Ledger.open(tmp_path / "ledger.jsonl").entries() == ()


@pytest.mark.parametrize(
    ("source", "status", "why"),
    [("mine", "invalid", "2 of 4 groups are also in select"), ("others", "valid", "")],
)
def test_groups_of_other_splits_are_not_new(
    test: Any, plant: Any, monkeypatch: pytest.MonkeyPatch, source: str, status: str, why: str
) -> None:
    plant({})
    splits = Inputs.splits

    def grouped(inputs: Inputs, wanted: Any = None) -> Any:
        found = splits(inputs, wanted)
        sets = dict(found.sets)
        for name, count, where in (("certify", 4, "mine"), ("select", 2, source)):
            if name in sets:
                groups = np.array([f"drive{i % count}" for i in range(len(sets[name]))])
                sets[name] = replace(sets[name], source=where, groups=groups)
        return replace(found, sets=sets)

    monkeypatch.setattr(Inputs, "splits", grouped)
    monkeypatch.setattr(certifying, "_check_images", lambda images, plan: None)
    found = test(CERTIFY.replace("0.2", "0.9"))
    assert (found["status"], found["units"]) == (status, 4)
    assert why in found["why"]


def test_a_certificate_of_files_that_were_made_anew_is_not_shown_as_valid(
    mine: Path, test: Any, plant: Any
) -> None:
    plant({})
    found = test()
    assert Results.load(mine).certificate == found
    candidate = next(c for c in Results.load(mine).candidates if c.recipe == "prune0.8")
    file = mine / "candidates" / candidate.key / "complete.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps({**facts, "sha256": "0" * 64}))
    shown = Results.load(mine).certificate
    assert shown is not None
    assert (shown["status"], shown["certified"], shown["smallest"]) == ("invalid", [], None)
    assert "another file than the tested one is now net/prune0.8" in shown["why"]
    assert not any(row["certified"] for row in shown["candidates"])
