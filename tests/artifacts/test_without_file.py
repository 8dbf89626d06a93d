"""Candidates that cannot be exported: made all the same where the PyTorch form is measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.artifacts.making import make_files
from shrinkproof.errors import ExportError
from shrinkproof.evaluators.latency import Latency
from shrinkproof.evaluators.size import Size
from shrinkproof.records import CLEAN, Candidate
from shrinkproof.study import Study
from shrinkproof.testing.toys import tiny_subjects

from ..study_builder import write_study

REASON = "Airy: the model must be expressible in ONNX operators"

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 4)
        self.linear = nn.Linear(4, 4)

    def forward(self, x):
        return self.linear(torch.special.airy_ai(self.conv(x)).mean((2, 3)))


def network() -> nn.Module:
    torch.manual_seed(0)
    return Net()
"""


TWINS = """
study: twins
models:
  net:
    use: import:tiny_user_network:network
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
    input_shape: [3, 16, 16]
    seen: []
data:
  split: {from: arrays:test.npz, report: 60}
recipes:
  cluster8:
    steps:
      - cluster: {levels: 8}
measure:
  form: twin
  intervals: {replicates: 100}
  cost:
    latency: {runtimes: [onnxruntime, pytorch], repeats: 20, warmup: 1, processes: 1}
"""


class Airy(nn.Module):
    """A network with a function that ONNX does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 3, bias=False)

    def forward(self, x):
        return torch.special.airy_ai(self.linear(x.flatten(1)))


@pytest.fixture
def no_export(monkeypatch):
    """Spare the exporter's seconds; it leaves a file, as where file and model disagree."""
    from shrinkproof.artifacts import export

    def refuse(model, example, path, **others):
        path.write_bytes(b"wrong")
        raise ExportError(REASON)

    monkeypatch.setattr(export, "export_onnx", refuse)


def made(folder, **others):
    return make_files(
        folder,
        module=Airy().eval(),
        changes=(),
        candidate=Candidate(key="0" * 16, model="m", recipe="baseline"),
        example=torch.zeros(1, 3, 2, 2),
        **others,
    )


def test_the_candidate_has_everything_but_the_file(no_export, tmp_path):
    facts = made(tmp_path, needs_file=False)
    assert not (tmp_path / "model.onnx").exists()
    assert (tmp_path / "recipe.json").is_file()
    loaded = load_candidate(tmp_path, Airy())
    assert loaded.linear.weight.shape == (3, 12)
    assert (facts["cost.parameters"], facts["cost.macs"]) == (36, 36)
    assert facts["cost.bytes_dense"] > 36 * 4
    assert (facts["cost.bytes"], facts["cost.bytes_zip"], facts["sha256"]) == (None, None, None)
    told = f"there is no exported file: {REASON}"
    assert facts["undefined"] == {"cost.bytes": told, "cost.bytes_zip": told}


def test_where_the_file_is_measured_the_way_out_is_named(no_export, tmp_path):
    with pytest.raises(ExportError, match=r"Airy.*write 'measure: \{form: twin\}'"):
        made(tmp_path)


def test_a_candidate_with_a_file_has_all_sizes(tmp_path, monkeypatch):
    from shrinkproof.artifacts import export

    monkeypatch.setattr(export, "export_onnx", lambda *a, **k: a[2].write_bytes(b"x" * 10))
    facts = made(tmp_path)
    assert facts["cost.bytes"] == 10
    assert "undefined" not in facts


def test_sizes_of_no_file_are_undefined_with_the_reason(no_export, tmp_path):
    facts = made(tmp_path / "own", needs_file=False)
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "complete.json").write_text(json.dumps(facts))
    subject = replace(
        tiny_subjects(tmp_path)[0],
        facts=facts,
        folder=tmp_path / "own",
        reference=tmp_path / "base",
    )
    ((_, outcome),) = Size().measure([subject], CLEAN)
    found = {m.metric: m for m in outcome}
    for metric in ("cost.bytes", "cost.bytes_zip", "cost.compression_ratio"):
        assert found[metric].value is None
        assert REASON in found[metric].reason
    assert found["cost.compression_ratio_packed"].value == 1.0
    assert found["cost.parameters_ratio"].value == 1.0


def test_a_baseline_without_a_file_leaves_the_ratio_undefined(no_export, tmp_path):
    facts = made(tmp_path / "own", needs_file=False)
    (tmp_path / "complete.json").write_text(json.dumps(facts))
    own = {**facts, "cost.bytes": 5, "cost.bytes_zip": 4}
    del own["undefined"]
    subject = replace(tiny_subjects(tmp_path)[0], facts=own)
    (tmp_path / "complete.json").write_text(json.dumps(facts))
    ((_, outcome),) = Size().measure([subject], CLEAN)
    found = {m.metric: m for m in outcome}
    assert found["cost.bytes"].value == 5
    assert found["cost.compression_ratio"].value is None
    assert found["cost.compression_ratio"].reason.startswith("the baseline has none: there is no")


def test_latency_of_no_file_is_undefined_and_starts_no_process(no_export, tmp_path, monkeypatch):
    from shrinkproof.evaluators import latency

    started = []

    def run_fresh(work, argument, **others):
        started.append(work.__name__)
        return [None]

    monkeypatch.setattr(latency, "run_fresh", run_fresh)
    facts = {**made(tmp_path / "own", needs_file=False), "input_shape": [3, 2, 2]}
    subject = replace(tiny_subjects(tmp_path)[0], facts=facts, folder=tmp_path / "own")
    ((_, outcome),) = Latency().measure([subject], CLEAN)
    assert "run_race" not in started
    assert {m.metric for m in outcome} >= {"cost.latency_median", "cost.memory_peak"}
    for measurement in outcome:
        assert measurement.value is None
        assert REASON in measurement.reason


@pytest.mark.slow
def test_a_study_of_the_pytorch_form_goes_through(tmp_path):
    file = write_study(tmp_path / "study", TWINS)
    for module in file.parent.glob("network_*.py"):
        module.write_text(NETWORK)
    results = Study.load(file).run(tmp_path / "run")
    rows = {(r.recipe, r.metric, r.slice): r for r in results.records if r.form == "artifact"}
    assert rows["cluster8", "cost.bytes", ""].status == "undefined"
    assert "there is no exported file" in rows["cluster8", "cost.bytes", ""].reason
    assert rows["cluster8", "cost.bytes_packed", ""].value > 0
    assert rows["cluster8", "cost.latency_median", ""].status == "undefined"
    assert rows["cluster8", "cost.latency_median", "batch 1, 1 thread, pytorch"].value > 0
    scores = [r for r in results.records if r.metric == "accuracy.top1" and r.form == "twin"]
    assert scores
    assert all(r.status == "ok" for r in scores)
    # Only what compares both forms has nothing to compare.
    failed = {(r.evaluator, r.form) for r in results.records if r.status == "failed"}
    assert failed <= {("scores", "artifact")}
