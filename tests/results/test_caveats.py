"""A study with every caveat: the results say each once, and the page adds only its own."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell, Failure
from shrinkproof.report.page import render
from shrinkproof.results import Results
from shrinkproof.results.page import make_page
from shrinkproof.store import Shard, Store

STUDY = """
study: doubtful
models:
  net: {use: "import:network:network", classes: 4, input_shape: [3, 8, 8],
        preprocess: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
data: {calibrate: {use: "arrays:train.npz", count: 8}, report: "arrays:test.npz"}
recipes:
  int8:
    steps: [{quantize.static: {}}]
  broken:
    steps: [{cluster: {levels: 8}}]
controls: none
measure: {scores: [accuracy.top1], form: twin, intervals: {replicates: 100}}
select: {minimize: [cost.bytes], require: ["accuracy.top1@clean >= 0.1"]}
"""
STEP = {"name": "quantize.static", "version": 1, "fields": {}}
COUNT = 40


def predictions(answers: np.ndarray) -> ClassificationPredictions:
    """All images but four show class 0, so that always saying 0 is hard to beat."""
    target = np.zeros(COUNT, dtype=np.int64)
    target[:4] = [1, 2, 3, 1]
    logits = np.zeros((COUNT, 4), dtype=np.float32)
    logits[np.arange(COUNT), answers] = 3
    return ClassificationPredictions(logits, target, np.arange(COUNT, dtype=np.int64))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """A run directory with one finding of every kind."""
    store = Store.create(tmp_path_factory.mktemp("doubtful") / "run")
    baseline = Candidate("b", "net", "baseline", role="baseline")
    quantized = Candidate("q", "net", "int8", control="b", steps=(STEP,))
    broken = Candidate("x", "net", "broken", control="b")
    cells = [
        Cell("b-twin", "b", "scores", "twin", "report", CLEAN),
        Cell("q-twin", "q", "scores", "twin", "report", CLEAN),
        Cell("q-file", "q", "scores", "artifact", "report", CLEAN),
        Cell("q-size", "q", "size", "artifact"),
        Cell("b-size", "b", "size", "artifact"),
        Cell("x-size", "x", "size", "artifact"),
    ]
    store.write_text(store.path / "study.yaml", STUDY)
    store.write_plan([baseline, quantized, broken], cells)
    store.write_json(
        "data.json",
        {
            "splits": {"report": {"count": COUNT, "source": "arrays", "fingerprint": "0"}},
            "notes": ["report: stratified subset of 40 of 90 images"],
            "contamination": {"net": {"report": "the model has seen 3 of its images"}},
        },
    )
    wrong = np.zeros(COUNT, dtype=np.int64)
    wrong[-5:] = 1
    for cell, answers in zip(cells, (wrong, wrong, np.zeros_like(wrong)), strict=False):
        found = predictions(answers)
        store.write_predictions(cell.key, found)
        right = float((found.prediction() == found.target).mean())
        number = Measurement("accuracy.top1", right, "fraction", "higher", count=COUNT)
        notes = ("candidates were measured in 2 groups",)
        store.write_cell(Shard(cell, (number,), "", {"accuracy.top1": 1}, notes))
    gone = Measurement("cost.bytes", None, "bytes", "lower", reason="no file was written")
    store.write_cell(Shard(cells[3], (gone,), "", {"size": 1}))
    store.write_failure("x", Failure("ModelError", "the file is torn"), label="net/broken")
    return Results.load(store.path)


KINDS = (
    "stratified subset of 40 of 90 images",
    "contaminated",
    "same images",
    "controls: none",
    "no better than guessing",
    "net/int8: PyTorch and the exported file agree on only 87.50 %",
    "not finished: 1 of 6 measurements",
    "failed",
    "measured in 2 groups",
)


def test_the_results_say_everything_once(results: Results) -> None:
    assert len(results.caveats) == len(KINDS)
    for kind in KINDS:
        assert sum(kind in caveat for caveat in results.caveats) == 1, kind


def test_the_page_adds_only_what_is_about_the_page(results: Results) -> None:
    html = unescape(render(make_page(results)))
    box = html[html.index('id="caveats-title"') : html.index("</aside>")]
    shown = re.findall(r"<li>(.*?)</li>", box, re.DOTALL)
    own = [text for text in shown if text not in results.caveats]
    assert shown[: len(results.caveats)] == list(results.caveats)
    assert [text.split(":")[0] for text in own] == [
        "Numbers without a value",
        "Simulated arithmetic, not the deployed file",
    ]
    assert len(set(shown)) == len(shown)


def test_a_study_without_a_choice_has_no_optimistic_one(results: Results, tmp_path: Path) -> None:
    store = Store.create(tmp_path / "run")
    store.write_text(store.path / "study.yaml", STUDY[: STUDY.index("select:")])
    store.write_plan(results.candidates, results.cells)
    assert not any("same images" in caveat for caveat in Results.load(store.path).caveats)
