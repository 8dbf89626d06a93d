"""Metrics from stored predictions: no model, no images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Better
from shrinkproof.results import Results
from shrinkproof.results.derived import read_summary
from shrinkproof.store import Store
from shrinkproof.study import scoring
from shrinkproof.study.progress import Silence
from shrinkproof.study.scoring import Scoring, rescore

ADDED = ("calibration.ece[bins=7]", "selective.auroc")


def numbers(folder: Path) -> dict[tuple, object]:
    return {
        (r.cell, r.metric, r.slice, r.condition, r.severity, r.split): r.value
        for r in Results.load(folder).records
    }


def test_recomputing_without_candidates_gives_the_same_numbers(run_copy: Path) -> None:
    before = numbers(run_copy)
    for folder in (run_copy / "candidates").iterdir():
        for name in ("model.onnx", "weights.safetensors"):
            (folder / name).unlink()
    (run_copy / "summary.jsonl").unlink(missing_ok=True)
    rescore(run_copy)
    assert numbers(run_copy) == before


def test_added_metrics_stay_and_cost_no_inference(run_copy: Path) -> None:
    shutil.rmtree(run_copy / "candidates")
    results = rescore(run_copy, add=ADDED)
    assert set(ADDED) <= set(results.metrics)
    found = {r.metric for r in Results.load(run_copy).records if r.evaluator == "scores"}
    assert set(ADDED) <= found
    baseline = [
        r
        for r in results.records
        if r.metric == ADDED[0] and r.role == "baseline" and r.condition == "clean"
    ]
    assert all(r.value is not None for r in baseline)
    again = rescore(run_copy)
    assert set(ADDED) <= set(again.metrics)


@pytest.mark.parametrize(
    ("name", "error"),
    [("calibration.ecc", UnknownNameError), ("calibration.ece[bins=0]", UsageError)],
)
def test_a_wrong_name_changes_nothing(run_copy: Path, name: str, error: type) -> None:
    before = numbers(run_copy)
    with pytest.raises(error):
        rescore(run_copy, add=[name])
    assert Store(run_copy).read_json("scores.json") is None
    assert numbers(run_copy) == before


def test_cells_without_predictions_keep_their_numbers(run_copy: Path) -> None:
    before = numbers(run_copy)
    cell = next(c for c in Results.load(run_copy).cells if c.evaluator == "scores")
    shutil.rmtree(run_copy / "predictions" / cell.key)
    rescore(run_copy)
    after = numbers(run_copy)
    own = {key: value for key, value in before.items() if key[0] == cell.key}
    assert own
    assert {key: after[key] for key in own} == own


class Listener(Silence):
    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, message: str) -> None:
        self.warned.append(message)


def test_cells_that_cannot_be_scored_are_named(run_copy: Path) -> None:
    cell = next(c for c in Results.load(run_copy).cells if c.evaluator == "scores")
    shutil.rmtree(run_copy / "predictions" / cell.key)
    listener = Listener()
    rescore(run_copy, add=["selective.auroc"], progress=listener)
    (message,) = listener.warned
    assert message.startswith("1 cell(s) keep their numbers")
    assert f"net/baseline {cell.condition}" in message


def test_derived_numbers_follow_the_predictions(run_copy: Path) -> None:
    results = Results.load(run_copy)
    assert read_summary(results.store, "", None) is None
    before = results.summary
    cell = next(c for c in results.cells if results.by_key[c.candidate].role == "recipe")
    shutil.rmtree(run_copy / "predictions" / cell.key)
    after = Results.load(run_copy).summary
    assert after != before


def test_a_temperature_from_contaminated_images_is_told(run_copy: Path) -> None:
    data = json.loads((run_copy / "data.json").read_text())
    data["contamination"]["net"] = {"select": "3 of 60 images were seen"}
    (run_copy / "data.json").write_text(json.dumps(data))
    found = [
        r for r in Results.load(run_copy).records if r.split == "report" and r.value is not None
    ]
    scaled = [r for r in found if "scaled" in r.metric]
    assert scaled
    assert {r.status for r in scaled} == {"contaminated"}
    assert all(
        "its temperature was fitted on the select split: 3 of 60" in r.reason for r in scaled
    )
    assert {r.status for r in found if "scaled" not in r.metric} == {"ok"}


def test_a_metric_of_a_plugin_keeps_unit_and_direction_in_derived_numbers(
    run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METRICS.builtin, "lab.top1", "shrinkproof.metrics.accuracy:Top1")
    known = described("change.lab.top1")
    assert known is not None
    assert (known.unit, known.better) == ("fraction", Better.HIGHER)
    assert described("change.lab.top2") is None


def test_derived_numbers_know_the_corruption_constants(run_copy: Path) -> None:
    assert Results.load(run_copy).settings.origins["preset"] == "cifar"


def test_a_metric_that_fails_is_listed(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(work: Scoring) -> None:
        raise UsageError("lab: broken")

    monkeypatch.setattr(scoring, "score", fails)
    results = rescore(run_copy, add=["selective.auroc"])
    assert {failure["message"] for failure in results.failures} == {"lab: broken"}
