"""Metrics from stored predictions: no model, no images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study.scoring import rescore

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
