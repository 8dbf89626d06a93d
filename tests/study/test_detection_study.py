"""A detection study from start to end: run, run again, extend, fail, and the same everywhere."""

from __future__ import annotations

import shutil

import pytest

from shrinkproof.engines.processes import Processes
from shrinkproof.errors import DataError, SpecError
from shrinkproof.results import Results
from shrinkproof.study import Study

from ..detection_builder import DETECTOR, STUDY, write_detection_study
from ..detection_run import detection_run
from ..study_builder import comparable
from .test_running import Listener, study_of

SMALL = (
    STUDY.replace("train: 12, calibrate: 6, select: 12, report: rest", "select: 12, report: 12")
    .replace("  gaussian_noise: [3]\n  fog: [3]\n", "  contrast: [3]\n")
    .replace("      - finetune: {epochs: 1, learning_rate: 0.001, batch: 4}\n", "")
    .replace("  int8:\n    steps:\n      - quantize.static\n", "")
    .replace("controls: dense\n", "")
    .replace("measure:\n", "measure:\n  scores: [detection.ap50]\n")
)
"""Without training; one recipe, one corruption."""


def made(folder, text=SMALL, detector=DETECTOR):
    """The study of a folder with another text or another detector.

    Its module has a name of its own: a process imports each name once.
    """
    name = f"squares_{folder.parent.name}"
    path = write_detection_study(folder, text.replace("import:squares:", f"import:{name}:"))
    (folder / "squares.py").unlink()
    (folder / f"{name}.py").write_text(detector, "utf-8")
    return Study.load(path)


@pytest.fixture
def copied(tmp_path):
    """A private copy of the finished run; its study lies where the original's does."""
    return shutil.copytree(detection_run(), tmp_path / "run")


@pytest.mark.slow
def test_everything_is_measured_and_derived():
    results = Results.load(detection_run())
    assert results.failures == ()
    assert results.progress["missing"] == 0
    assert all(record.status == "ok" or record.reason for record in results.records)
    found = {record.metric for record in results.records}
    assert {
        *("detection.ap", "detection.d_ece", "detection.laece", "robustness.mpc"),
        *("robustness.rpc", "robustness.mpc_of_baseline", "boxes.threshold", "boxes.miss_rate"),
        *("boxes.lost", "boxes.new", "boxes.flipped", "null_p.detection.d_ece"),
        *("change.detection.ap", "change_from_control.detection.ap"),
    } <= found
    assert not any(name.startswith("robustness.m") and "ce" in name for name in found)
    (protocol,) = {
        r.reason.partition(";")[0] for r in results.records if r.metric == "detection.ap50"
    } - {""}
    assert protocol == "IoU 0.50"


@pytest.mark.slow
def test_a_second_run_does_no_work_and_lost_cells_come_back_equal(copied):
    listener = Listener()
    study_of(copied).run(copied, progress=listener)
    assert listener.stages == {}
    scored = [c.key for c in Results.load(copied).cells if c.evaluator == "scores"]
    (copied / "cells" / f"{scored[0]}.jsonl").unlink()
    study_of(copied).run(copied, progress=listener)
    assert listener.stages
    assert comparable(copied) == comparable(detection_run())


@pytest.mark.slow
def test_a_metric_that_is_added_costs_no_inference(tmp_path):
    made(tmp_path / "study").run(tmp_path / "run")
    listener = Listener()
    text = SMALL.replace("[detection.ap50]", "[detection.ap50, detection.ar10]")
    made(tmp_path / "study", text).run(tmp_path / "run", progress=listener)
    assert listener.stages.keys() == {"score"}
    assert "detection.ar10" in {r.metric for r in Results.load(tmp_path / "run").records}


@pytest.mark.slow
@pytest.mark.long
def test_processes_and_inline_give_equal_records(tmp_path):
    study = made(tmp_path / "study")
    study.run(tmp_path / "inline")
    study.run(tmp_path / "processes", engine=Processes(workers=2))
    assert comparable(tmp_path / "processes") == comparable(tmp_path / "inline")


@pytest.mark.slow
def test_a_candidate_with_nan_fails_visibly_and_costs_the_others_nothing(tmp_path):
    # The uncompressed network is sound; pruned weights make it divide by zero.
    text = DETECTOR.replace(
        "        return found.flatten(2).transpose(1, 2)",
        "        pruned = (self.deep.weight == 0).float().mean() > 0.8\n"
        "        found = found / (1 - pruned.float())\n"
        "        return found.flatten(2).transpose(1, 2)",
    )
    study = SMALL.replace("{ratio: 0.5}", "{ratio: 0.97}")
    made(tmp_path / "study", study, text).run(tmp_path / "run")
    results = Results.load(tmp_path / "run")
    assert results.failures
    assert {failure["label"].partition(" ")[0] for failure in results.failures} == {
        "squares/prune0.5"
    }
    assert all(failure["message"] for failure in results.failures)
    assert any(r.recipe == "baseline" and r.value is not None for r in results.records)
    failed = [
        r
        for r in results.records
        if (r.recipe, r.metric, r.evaluator) == ("prune0.5", "detection.ap50", "scores")
    ]
    assert all(r.value is None for r in failed)


@pytest.mark.slow
def test_a_limit_keeps_that_many_images(tmp_path):
    study = write_detection_study(tmp_path / "study", SMALL)
    found = Study.load(study, limit=4)
    found.run(tmp_path / "run")
    splits = Results.load(tmp_path / "run").data["splits"]
    assert {name: split["count"] for name, split in splits.items()} == {"select": 4, "report": 4}


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (("coco:boxes.json", "digits"), DataError, "must have annotated boxes, got one class"),
        (("[detection.ap50]", "[accuracy.top1]"), SpecError, "accuracy.top1"),
        (("task: detection\n", ""), SpecError, "detection"),
    ],
)
def test_what_does_not_fit_the_task_is_refused(tmp_path, edit, error, message):
    assert edit[0] in SMALL
    with pytest.raises(error, match=message):
        made(tmp_path / "study", SMALL.replace(*edit)).run(tmp_path / "run")
