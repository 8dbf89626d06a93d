"""Latency as a study measures it: settings, slices, PyTorch forms, and what is an imitation."""

from __future__ import annotations

import pytest

from shrinkproof.errors import SpecError
from shrinkproof.selectors import Selector
from shrinkproof.spec import load_study_spec
from shrinkproof.study import Study

from ..study_builder import STUDY, write_study

TIMED = "cost: {latency: {repeats: 20, warmup: 1, processes: 1}}"
BOTH = (
    "cost: {latency: {repeats: 20, warmup: 1, processes: 1, batch: [1, 4], "
    "runtimes: [onnxruntime, pytorch]}}"
)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("batch: 0", "latency.batch: must be at least 1"),
        ("batch: [1, 0]", "latency.batch.1: must be at least 1, got 0"),
        ("batch: [2, 2]", "latency.batch: must not repeat a value, got [2, 2]"),
        ("batch: []", "must have at least 1 entry"),
        ("threads: some", "latency.threads: must be a whole number or 'all', got 'some'"),
        ("threads: []", "must have at least 1 entry"),
        ("runtimes: [pytorch]", "must begin with onnxruntime"),
        ("runtimes: [onnxruntime, tensorrt]", "latency.runtimes.1: must be one of 'onnxruntime'"),
        ("runtimes: onnxruntime", "latency.runtimes: must be a list, got 'onnxruntime'"),
        ("repeats: 19", "latency.repeats: must be at least 20, got 19"),
        ("processes: 0", "latency.processes: must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_named_in_one_line(settings, told):
    with pytest.raises(SpecError) as caught:
        load_study_spec(STUDY.replace("repeats: 20, warmup: 1, processes: 1", settings))
    assert len(caught.value.problems) == 1
    assert told in caught.value.problems[0]


@pytest.mark.slow
def test_latency_of_a_study_has_intervals_over_fresh_processes(tmp_path):
    text = STUDY.replace(TIMED, "cost: {latency: {repeats: 20, warmup: 1}}")
    assert text != STUDY
    results = Study.load(write_study(tmp_path / "study", text)).run(tmp_path / "run")
    ratios = [r for r in results.records if r.metric == "cost.latency_ratio"]
    assert len(ratios) == len(results.candidates)
    for record in ratios:
        assert (record.status, record.slice, record.count) == ("ok", "", 5 * 20)
        assert record.low <= record.value <= record.high
        assert "5 processes of 20 inferences" in record.reason
    baseline = results.numbers.find("net/baseline", "", Selector("cost.latency_ratio"))
    assert 0.2 < baseline.value < 5


@pytest.mark.slow
@pytest.mark.long
def test_both_runtimes_and_batches_are_slices_of_a_study(tmp_path):
    text = STUDY.replace(TIMED, BOTH).replace(
        "conditions:", "  int8:\n    steps:\n      - quantize.static: {}\nconditions:"
    )
    results = Study.load(write_study(tmp_path / "study", text)).run(tmp_path / "run")
    assert results.failures == ()
    found = {(r.recipe, r.slice): r for r in results.records if r.metric == "cost.latency_ratio"}
    slices = ["", "batch 4, 1 thread, onnxruntime"]
    twins = ["batch 1, 1 thread, pytorch", "batch 4, 1 thread, pytorch"]
    assert [s for recipe, s in found if recipe == "cluster8"] == slices + twins
    for where in slices + twins:
        assert found["cluster8", where].value > 0
    for where in slices:
        assert found["int8", where].value > 0
    for where in twins:
        assert found["int8", where].status == "undefined"
        assert "only imitates" in found["int8", where].reason
