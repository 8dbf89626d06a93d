"""Dense checkpoints along a control's training, and robustness at equal clean accuracy."""

from __future__ import annotations

from pathlib import Path

import pytest

from shrinkproof.results import Results
from shrinkproof.study import Study

from ..study_builder import STUDY, write_study

pytestmark = pytest.mark.slow

TEXT = (
    STUDY.replace("{epochs: 1, learning_rate: 0.01, batch: 32}", "{epochs: 4, batch: 32}")
    .replace("  cost: {latency: {repeats: 20, warmup: 1, processes: 1}}\n", "")
    .replace("[0.5, 0.8]", "[0.5]")
    + "snapshots: 3\n"
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("snapshots")
    return Study.load(write_study(folder / "study", TEXT)).run(folder / "run")


def test_checkpoints_stand_before_their_control_and_are_dense(results: Results) -> None:
    names = [c.recipe for c in results.candidates if c.role == "control"]
    control = names[-1]
    assert names == [*(f"{control}.epoch{k}" for k in (1, 2, 3)), control]
    assert not results.failures
    ratios = [r.value for r in results.records if r.metric == "cost.parameters_ratio"]
    assert set(ratios[:4]) == {1.0}


def test_all_checkpoints_together_cost_one_training(results: Results) -> None:
    epochs = 0
    for candidate in results.candidates:
        if candidate.role == "control":
            history = results.store.candidate(candidate.key) / "history.jsonl"
            epochs += history.read_text().count('"seconds_left"')
    assert epochs == 4
    assert not any((results.store.path / "work").glob("*/1-finetune"))


def test_recipes_are_compared_with_equally_accurate_dense_networks(results: Results) -> None:
    rows = {
        r.recipe: r
        for r in results.records
        if r.metric == "robustness.effective" and r.split == "report"
    }
    assert rows.keys() == {"prune0.5", "cluster8"}
    for row in rows.values():
        if row.value is None:
            assert "no equal one" in row.reason
        else:
            assert "expected from clean accuracies" in row.reason


def test_only_keeps_the_checkpoints_of_the_control(tmp_path: Path) -> None:
    plan = Study.load(write_study(tmp_path / "study", TEXT)).plan()
    kept = plan.only("net/prune0.5")
    assert sum(".epoch" in c.recipe for c in kept.candidates) == 3
    assert not any(".epoch" in c.recipe for c in plan.only("net/cluster8").candidates)
