"""How sure a run is of its choice, read back from a run directory with known truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Candidate, Cell
from shrinkproof.results import Results
from shrinkproof.results.uncertain import _warnings, tolerances
from shrinkproof.store import Shard, Store

STUDY = """
study: sure
models:
  net: {use: "import:network:network", classes: 4, input_shape: [3, 8, 8],
        preprocess: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}}
data: {split: {from: "arrays:test.npz", select: 400, report: 400}}
recipes:
  good: {steps: [{cluster: {levels: 8}}]}
  twin: {steps: [{cluster: {levels: 8}}]}
  bad: {steps: [{cluster: {levels: 8}}]}
controls: none
measure:
  scores: [accuracy.top1, accuracy.worst_class]
  intervals: {replicates: 300}
  cost: {latency: {processes: 5}}
"""
SELECT = """
select:
  minimize: [cost.bytes]
  maximize: [accuracy.top1@clean]
  require: ["accuracy.top1@clean >= 0.5"]
"""
COUNT = 400
NAMES = ("baseline", "good", "twin", "bad")
WRONG = {"baseline": 20, "good": 22, "twin": 22, "bad": 120}
BYTES = {"baseline": 10_000, "good": 5_000, "twin": 5_001, "bad": 6_000}


def predictions(wrong: int) -> ClassificationPredictions:
    """The first images are wrong, in an order that no class has for itself."""
    target = np.arange(COUNT) % 4
    answers = np.where(np.arange(COUNT) < wrong, (target + 1) % 4, target)
    logits = np.zeros((COUNT, 4), dtype=np.float32)
    logits[np.arange(COUNT), answers] = 3
    return ClassificationPredictions(logits, target, np.arange(COUNT))


Make = Callable[..., Results]


def write_run(folder: Path) -> None:
    """A run directory without networks."""
    store = Store.create(folder)
    people = [Candidate("baseline", "net", "baseline", role="baseline")]
    people += [Candidate(name, "net", name, control="baseline") for name in NAMES[1:]]
    cells = []
    for name in NAMES:
        found = predictions(WRONG[name])
        for split in ("select", "report"):
            cell = Cell(f"{name}-{split}", name, "scores", "artifact", split, CLEAN)
            store.write_predictions(cell.key, found)
            right = 1 - WRONG[name] / COUNT
            numbers = (
                Measurement("accuracy.top1", right, "fraction", "higher", count=COUNT),
                Measurement("accuracy.worst_class", right, "fraction", "higher", count=COUNT),
            )
            store.write_cell(Shard(cell, numbers, "", {"accuracy.top1": 1}))
            cells.append(cell)
        size = Cell(f"{name}-size", name, "size", "artifact")
        store.write_cell(
            Shard(size, (Measurement("cost.bytes", BYTES[name], "bytes", "lower"),), "", {"s": 1})
        )
        clock = Cell(f"{name}-latency", name, "latency", "artifact")
        time = BYTES[name] * 1e-6
        taken = Measurement(
            "cost.latency_median", time, "seconds", "lower", time * 0.99, time / 0.99
        )
        store.write_cell(Shard(clock, (taken,), "", {"l": 1}))
        cells += [size, clock]
    store.write_plan(people, cells)
    counts = {"count": COUNT, "source": "arrays", "fingerprint": "0"}
    store.write_json(
        "data.json",
        {"splits": {"select": counts, "report": counts}, "notes": [], "contamination": {}},
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sure") / "run"
    write_run(folder)
    return folder


@pytest.fixture
def make(written: Path, tmp_path: Path) -> Make:
    """Gives a private copy of the run with another choice."""

    def copied(select: str = SELECT, *, has_images: bool = True) -> Results:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        ignored = () if has_images else ("predictions",)
        shutil.copytree(written, folder, ignore=shutil.ignore_patterns(*ignored))
        (folder / "study.yaml").write_text(STUDY + select)
        return Results.load(folder)

    return copied


@pytest.fixture
def run(make: Make) -> Results:
    return make()


def test_a_run_without_a_choice_has_none(make: Make) -> None:
    assert make("").uncertainty is None


def test_what_is_shown_and_what_is_not(run: Results) -> None:
    found = run.uncertainty
    assert found is not None
    assert (found.split, found.replicates, found.level, found.reason) == ("select", 300, 0.95, "")
    assert found.tolerances == {"cost.bytes": 50.0, "accuracy.top1@clean": 0.0}
    # bad is worse in both; twin differs by one byte; the baseline is not shown to be better.
    assert found.dominated == {"net/bad": ("net/good", "net/twin")}
    assert found.front["net/bad"] == 0
    assert found.front["net/good"] == 1
    assert found.front["net/twin"] == 0  # in every data set it has the errors of good
    assert sum(found.chosen.values()) == pytest.approx(1)
    assert run.decision is not None
    assert run.decision.chosen == "net/good"
    assert found.chosen["net/good"] > 0.9
    json.dumps(found.as_json())


def test_images_needed_need_a_margin(make: Make, run: Results) -> None:
    assert run.uncertainty is not None
    (told,) = run.uncertainty.indistinct
    assert (told.label, told.objective) == ("net/baseline", "accuracy.top1@clean")
    assert told.images_needed is None
    assert any("tolerance 0" in note for note in run.uncertainty.notes)
    margin = "  tolerance: {accuracy.top1@clean: 0.01}\n"
    stated = make(SELECT + margin).uncertainty
    assert stated is not None
    (told,) = stated.indistinct
    # Two of 400 images differ: sd 0.0706.
    assert told.images_needed == 392
    assert not any("tolerance 0" in note for note in stated.notes)


def test_a_margin_lets_the_smaller_one_dominate(make: Make) -> None:
    margin = "  tolerance: {accuracy.top1@clean: 0.03}\n"
    found = make(SELECT + margin).uncertainty
    assert found is not None
    assert found.dominated["net/baseline"] == ("net/good", "net/twin")


def test_rules_count_in_every_data_set(make: Make) -> None:
    select = SELECT.replace("0.5", "0.945")
    found = make(select).uncertainty
    assert found is not None
    assert 0 < found.chosen["net/good"] < 1
    assert sum(found.chosen.values()) < 1


def test_numbers_that_cannot_be_resampled(make: Make) -> None:
    rule = SELECT.replace("accuracy.top1@clean >=", "accuracy.worst_class@clean >=")
    found = make(rule).uncertainty
    assert found is not None
    assert found.front
    assert any("accuracy.worst_class@clean cannot be resampled" in n for n in found.notes)
    goal = SELECT.replace("[accuracy.top1@clean]", "[accuracy.worst_class@clean]")
    found = make(goal).uncertainty
    assert found is not None
    assert found.front == {}
    assert found.reason == (
        "accuracy.worst_class@clean has no values per image that could be resampled"
    )


def test_numbers_alone_say_so(make: Make) -> None:
    found = make(has_images=False).uncertainty
    assert found is not None
    assert found.reason == "there are no predictions of images on select"


def test_times_vary_by_their_intervals(make: Make) -> None:
    select = SELECT.replace("[cost.bytes]", "[cost.latency_median]")
    found = make(select).uncertainty
    assert found is not None
    assert found.tolerances["cost.latency_median"] == pytest.approx(0.00025)
    assert found.dominated == {"net/bad": ("net/good", "net/twin")}
    run = make(select)
    for name in NAMES:
        shard = run.store.read_cell(f"{name}-latency")
        assert shard is not None
        bare = replace(shard.measurements[0], low=None, high=None)
        run.store.write_cell(replace(shard, measurements=(bare,)))
    unknown = run.uncertainty
    assert unknown is not None
    assert unknown.dominated == {}
    assert any("cost.latency_median cannot be resampled" in note for note in unknown.notes)
    (told,) = [item for item in unknown.indistinct if item.objective == "cost.latency_median"]
    assert told.why.endswith("a time without an interval over processes shows nothing")


def test_costs_alone_are_certain(make: Make) -> None:
    select = "select: {minimize: [cost.bytes], tolerance: {cost.bytes: 2 %}}\n"
    run = make(select, has_images=False)
    assert tolerances(run) == {"cost.bytes": 100.0}
    found = run.uncertainty
    assert found is not None
    assert found.front == {"net/baseline": 0, "net/good": 1, "net/twin": 0, "net/bad": 0}
    assert set(found.dominated) == {"net/baseline", "net/bad"}


def test_arrays_are_kept_and_damage_is_mended(run: Results) -> None:
    first = run.uncertainty
    file = run.store.path / "summary.npz"
    kept = file.read_bytes()
    again = Results.load(run.store.path)
    assert again.uncertainty == first
    assert file.read_bytes() == kept
    for content in (b"", kept[:100], b"no arrays"):
        file.write_bytes(content)
        assert Results.load(run.store.path).uncertainty == first
    file.unlink()
    assert Results.load(run.store.path).uncertainty == first
    assert file.is_file()


def test_a_repeat_is_an_option_of_its_own(run: Results) -> None:
    people = tuple(
        replace(c, repeat=1, recipe="good") if c.key == "twin" else c for c in run.candidates
    )
    found = Results(run.store, run.spec, people, run.cells).uncertainty
    assert found is not None
    assert len(found.front) == 4


def test_an_option_without_a_number_that_breaks_a_rule_takes_nobodys_shares(make: Make) -> None:
    run = make()
    (run.store.path / "study.yaml").write_text(
        STUDY + SELECT.replace('>= 0.5"', '>= 0.5", "cost.bytes <= 10000"')
    )
    key = "baseline-select"
    shard = run.store.read_cell(key)
    assert shard is not None
    gone = replace(shard.measurements[0], value=None, reason="no number")
    run.store.write_cell(replace(shard, measurements=(gone,)))
    shutil.rmtree(run.store.path / "predictions" / key, ignore_errors=True)
    size = run.store.read_cell("baseline-size")
    assert size is not None
    large = replace(size.measurements[0], value=20_000)
    run.store.write_cell(replace(size, measurements=(large,)))
    again = Results.load(run.store.path)
    assert again.decision is not None
    assert set(again.decision.infeasible) == {"net/baseline"}
    found = again.uncertainty
    assert found is not None
    assert found.reason == ""
    assert set(found.front) == {"net/good", "net/twin", "net/bad"}


def test_contaminated_options_are_shown_to_dominate_nobody(make: Make) -> None:
    run = make()
    data = {**run.data, "contamination": {"net": {"select": "trained on these"}}}
    run.store.write_json("data.json", data)
    found = Results.load(run.store.path).uncertainty
    assert found is not None
    assert found.dominated == {}
    assert any("contaminated numbers" in note for note in found.notes)


def test_what_speaks_against_the_choice_is_told() -> None:
    (told,) = _warnings("a", {"a": ("b",)})
    assert told.startswith("The choice itself, a, is shown to be dominated")
    assert list(_warnings("c", {"a": ("b",)})) == []
    (both,) = _warnings("c", {"a": ("b",), "b": ("a",)})
    assert both.startswith("a and b are shown to dominate each other")
