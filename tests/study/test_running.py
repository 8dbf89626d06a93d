"""A study from start to end: run, run again, resume, extend, fail, and the same everywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.engines.processes import Processes
from shrinkproof.errors import DataError, SpecError, StoreError, UsageError
from shrinkproof.records import Candidate, Failure
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study import Study

from ..study_builder import STUDY, comparable, rewrite_study, write_study


class Listener:
    """Counts what a run does."""

    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.warnings: list[str] = []
        self.details: list[Callable[[], str]] = []

    def begin(self, stage: str, total: int) -> None:
        self.stages[stage] = total

    def watch(self, detail) -> None:
        self.details.append(detail)

    def advance(self, label: str) -> None:
        pass

    def end(self, stage: str, seconds: float) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def study_of(run: Path) -> Study:
    from shrinkproof.study import Inputs

    return Study(Inputs.from_json(json.loads((run / "inputs.json").read_text())))


def without_keys(run: Path) -> list[dict[str, object]]:
    return [{**row, "cell": ""} for row in comparable(run)]


def test_everything_planned_is_measured(finished_run: Path) -> None:
    results = Results.load(finished_run)
    assert results.failures == ()
    assert results.progress["missing"] == 0
    labels = [c.label for c in results.candidates]
    assert [label.partition("-")[0] for label in labels] == [
        "net/baseline",
        "net/control.finetune",
        "net/prune0.5",
        "net/prune0.8",
        "net/cluster8",
    ]
    # 4 conditions x 2 splits + the other form on clean select + size + latency
    assert len(results.cells) == 5 * (5 * 2 + 1 + 1)
    assert all(r.status == "ok" or r.reason for r in results.records)


def test_candidates_name_their_control(finished_run: Path) -> None:
    by_recipe = {c.recipe: c for c in Results.load(finished_run).candidates}
    control = next(c for name, c in by_recipe.items() if name.startswith("control."))
    assert by_recipe["prune0.5"].control == by_recipe["prune0.8"].control == control.key
    assert by_recipe["cluster8"].control == by_recipe["baseline"].key


def test_a_second_run_does_no_work(run_copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run_copy / "cells").iterdir()}
    listener = Listener()
    study_of(run_copy).run(run_copy, progress=listener)
    assert listener.stages == {}
    assert {p: p.stat().st_mtime_ns for p in (run_copy / "cells").iterdir()} == before


def test_deleted_and_damaged_cells_are_measured_again(run_copy: Path, finished_run: Path) -> None:
    cells = [
        run_copy / "cells" / f"{c.key}.jsonl"
        for c in Results.load(run_copy).cells
        if c.evaluator == "scores"
    ]
    cells[0].unlink()
    cells[5].write_bytes(cells[5].read_bytes()[:-30])
    cells[7].write_text("")
    listener = Listener()
    study_of(run_copy).run(run_copy, progress=listener)
    assert sum("is damaged" in w for w in listener.warnings) == 2
    assert comparable(run_copy) == comparable(finished_run)


def test_a_deleted_candidate_is_made_again_and_equal(run_copy: Path, finished_run: Path) -> None:
    candidate = next(c for c in Results.load(run_copy).candidates if c.recipe == "prune0.5")
    folder = run_copy / "candidates" / candidate.key
    before = (folder / "weights.safetensors").read_bytes(), (folder / "model.onnx").read_bytes()
    shutil.rmtree(folder)
    study_of(run_copy).run(run_copy)
    after = (folder / "weights.safetensors").read_bytes(), (folder / "model.onnx").read_bytes()
    assert before == after
    assert comparable(run_copy) == comparable(finished_run)


@pytest.mark.slow
def test_processes_and_inline_give_equal_records(finished_run: Path, tmp_path: Path) -> None:
    study_of(finished_run).run(tmp_path / "run", engine=Processes(workers=2))
    assert comparable(tmp_path / "run") == comparable(finished_run)


@pytest.mark.slow
def test_adding_a_metric_costs_no_inference(run_copy: Path) -> None:
    results = Results.load(run_copy)
    names = [name for name in results.spec.measure.scores if name != "accuracy.brier"]
    fewer = write_study(
        run_copy.parent / "fewer",
        STUDY.replace("measure:", f"measure:\n  scores: [{', '.join(names)}]"),
    )
    run = run_copy.parent / "fewer-run"
    Study.load(fewer).run(run)
    assert "accuracy.brier" not in {r.metric for r in Results.load(run).records}
    rewrite_study(fewer, STUDY)
    listener = Listener()
    Study.load(fewer).run(run, progress=listener)
    assert listener.stages.keys() == {"score"}
    # The user's module has another name there, and so has every key.
    assert without_keys(run) == without_keys(run_copy)


@pytest.mark.slow
def test_extending_a_study_measures_only_what_is_new(study_file: Path, tmp_path: Path) -> None:
    small = STUDY.replace("[0.5, 0.8]", "[0.5]").replace("  contrast: [3]\n", "")
    rewrite_study(study_file, small)
    Study.load(study_file).run(tmp_path / "run")
    kept = {p.name for p in (tmp_path / "run" / "cells").iterdir()}
    rewrite_study(study_file, STUDY)
    listener = Listener()
    results = Study.load(study_file).run(tmp_path / "run", progress=listener)
    assert listener.stages["prepare"] == 1
    assert kept <= {p.name for p in (tmp_path / "run" / "cells").iterdir()}
    assert results.progress["missing"] == 0


@pytest.mark.slow
def test_limit_says_so_in_caveats(study_file: Path, tmp_path: Path) -> None:
    results = Study.load(study_file, limit=20).run(tmp_path / "run", only="*/cluster8")
    assert {r.count for r in results.records if r.metric == "accuracy.top1"} == {20}
    assert any("20 of 60" in caveat for caveat in results.caveats)


@pytest.mark.slow
def test_only_leaves_the_other_recipes_out(study_file: Path, tmp_path: Path) -> None:
    results = Study.load(study_file).run(tmp_path / "run", only="*/cluster8")
    prepared = {c.recipe for c in results.candidates if results.store.has_candidate(c.key)}
    assert "cluster8" in prepared
    assert not {"prune0.5", "prune0.8"} & prepared
    assert results.progress["missing"] > 0


def test_only_takes_the_controls_of_what_it_chooses(tmp_path: Path) -> None:
    plan = Study.load(write_study(tmp_path, STUDY + "controls: all\n")).plan()
    (dense,) = (c.recipe for c in plan.candidates if c.recipe.startswith("control.finetune"))
    wanted = {
        "*/prune0.5": {"baseline", dense, "prune0.5", "control.scratch-prune0.5"},
        "net/cluster8": {"baseline", "cluster8"},
        "*/control.scratch*": {
            "baseline",
            "control.scratch-prune0.5",
            "control.scratch-prune0.8",
        },
    }
    for pattern, recipes in wanted.items():
        part = plan.only(pattern)
        assert {c.recipe for c in part.candidates} == recipes
        assert {c.candidate for c in part.cells} == {c.key for c in part.candidates}
    with pytest.raises(
        UsageError, match=r"only: must match .* got '\*/prnue\*'; there are net/bas"
    ):
        plan.only("*/prnue*")


@pytest.mark.slow
def test_failures_outlive_a_run_of_other_recipes_until_the_work_is_done(
    study_file: Path, tmp_path: Path
) -> None:
    study = Study.load(study_file)
    key = next(c.key for c in study.plan().candidates if c.recipe == "prune0.5")
    store = Store.create(tmp_path / "run")
    store.write_failure(key, Failure("CompressionError", "too hot"), label="net/prune0.5")
    store.write_failure("ab" * 8, Failure("CompressionError", "gone"), label="net/gone")
    results = study.run(store.path, only="*/baseline")
    assert [f["key"] for f in results.failures] == [key]
    assert list(store.failures()) == [key]
    # Another launcher has made it since, and knows nothing of the failure.
    (store.path / "aside").mkdir()
    study.run(store.path, only="*/prune0.5")
    store.write_failure(key, Failure("StoreError", "lost a race"), label="net/prune0.5")
    assert study.run(store.path, only="*/prune0.5").failures == ()


@pytest.mark.slow
def test_a_candidate_that_another_process_prepares_meanwhile_is_no_failure(
    study_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shrinkproof.study import running

    def slower(work):
        running_prepare(work)
        raise StoreError("the common scratch folder is gone")

    running_prepare = running.prepare
    monkeypatch.setattr(running, "prepare", slower)
    assert Study.load(study_file).run(tmp_path / "run", only="*/cluster8").failures == ()


def test_early_stopping_makes_numbers_on_its_images_optimistic(tmp_path: Path) -> None:
    plain = Study.load(write_study(tmp_path / "a")).plan()
    assert not any("stop training" in note for note in plain.notes)
    text = STUDY.replace("batch: 32}\n", "batch: 32, patience: 1}\n", 1)
    assert "patience" in text
    (note,) = (n for n in Study.load(write_study(tmp_path / "b", text)).plan().notes if "stop" in n)
    assert note.startswith("select: its images decided when to stop training; optimistic for net/c")
    assert note.endswith("net/prune0.5, net/prune0.8")


def test_unknown_seen_contaminates_every_number(study_file: Path, tmp_path: Path) -> None:
    rewrite_study(study_file, STUDY.replace("    seen: [train]\n", ""))
    results = Study.load(study_file).run(tmp_path / "run", only="*/baseline")
    scores = [r for r in results.records if r.split and r.value is not None]
    assert {r.status for r in scores} == {"contaminated"}
    assert any("contaminated" in caveat for caveat in results.caveats)


def test_seen_must_name_something_the_study_gives(study_file: Path, tmp_path: Path) -> None:
    rewrite_study(study_file, STUDY.replace("seen: [train]", "seen: [certify]"))
    with pytest.raises(DataError, match=r"models\.net\.seen: .*'certify'"):
        Study.load(study_file).run(tmp_path / "run")


@pytest.mark.slow
def test_a_failing_candidate_costs_the_others_nothing(study_file: Path, tmp_path: Path) -> None:
    rewrite_study(
        study_file,
        STUDY.replace(
            "conditions:",
            "  explodes:\n    steps:\n      - prune.weights: {ratio: 0.3}\n"
            "      - finetune: {epochs: 2, learning_rate: 1.0e+30, batch: 8}\nconditions:",
        ),
    )
    run = tmp_path / "run"
    results = Study.load(study_file).run(run)
    assert {f["label"].rpartition("/")[2].partition("-")[0] for f in results.failures} == {
        "explodes",
        "control.finetune",
    }
    assert all("learning rate" in f["message"] for f in results.failures)
    failed = [r for r in results.records if r.recipe == "explodes"]
    assert failed
    assert {r.status for r in failed} == {"failed"}
    assert all("learning rate" in r.reason for r in failed)
    fine = [r for r in results.records if r.recipe == "cluster8" and r.evaluator == "scores"]
    assert fine
    assert {r.status for r in fine} == {"ok"}
    # Failed work is tried again, unless the user says not to.
    listener = Listener()
    Study.load(study_file).run(run, progress=listener, retry=False)
    assert listener.stages == {}
    Study.load(study_file).run(run, progress=listener)
    assert listener.stages == {"prepare": 2}


def test_class_count_that_disagrees_is_named(study_file: Path, tmp_path: Path) -> None:
    names = np.array(["a", "b", "c", "d", "e"])
    for file in ("train.npz", "test.npz"):
        with np.load(study_file.parent / file) as data:
            images, target = data["images"], data["target"]
        np.savez(study_file.parent / file, images=images, target=target, classes=names)
    results = Study.load(study_file).run(tmp_path / "run", only="*/baseline")
    messages = {f["message"] for f in results.failures if "scores" in f["label"]}
    assert len(messages) == 1
    assert "the model has 4 classes but arrays:test.npz has 5" in messages.pop()


def test_the_same_recipe_twice_is_refused(study_file: Path, tmp_path: Path) -> None:
    twin = "  cluster8b:\n    steps:\n      - cluster: {levels: 8}\nconditions:"
    rewrite_study(study_file, STUDY.replace("conditions:", twin))
    with pytest.raises(SpecError, match="cluster8b must differ from net/cluster8"):
        Study.load(study_file).run(tmp_path / "run")


def test_unwritable_directory_is_explained(study_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="choose another directory"):
        Study.load(study_file).run(tmp_path / "file" / "run")


def test_a_mean_needs_all_its_conditions(run_copy: Path) -> None:
    from shrinkproof.selectors import Selector

    found = Results.load(run_copy)
    candidate = next(c.key for c in found.candidates if c.recipe == "cluster8")
    for cell in found.cells:
        if cell.candidate == candidate and str(cell.condition) == "gaussian_noise:5":
            (run_copy / "cells" / f"{cell.key}.jsonl").unlink()
    found = Results.load(run_copy)
    for text in (
        "robustness.mean_error",
        "accuracy.top1@corrupted",
        "accuracy.top1@gaussian_noise",
        "change.accuracy.top1@gaussian_noise",
        "accuracy.top1@gaussian_noise:5",
    ):
        number = found.numbers.find("net/cluster8", "report", Selector.parse(text))
        assert number.value is None, text
        assert number.status in ("missing", "undefined"), text
        assert number.reason, text
        other = found.numbers.find("net/prune0.5", "report", Selector.parse(text))
        assert other.value is not None, text
    for text in ("accuracy.top1@clean", "accuracy.top1@gaussian_noise:1", "accuracy.top1@contrast"):
        assert found.numbers.find("net/cluster8", "report", Selector.parse(text)).value is not None
    assert found.decision is not None
    assert "net/cluster8" in found.decision.undefined


def test_all_controls_train_the_pruned_shape_from_scratch(tmp_path: Path) -> None:
    plan = Study.load(write_study(tmp_path, STUDY + "controls: all\n")).plan()
    steps = {c.recipe: [s["name"] for s in c.steps] for c in plan.candidates}
    scratch = {name: found for name, found in steps.items() if "scratch" in name}
    assert scratch == {
        f"control.scratch-{name}": ["prune.weights", "reinitialize", "finetune"]
        for name in ("prune0.5", "prune0.8")
    }
    assert {c.role for c in plan.candidates if "scratch" in c.recipe} == {"control"}


def test_recipes_that_prune_alike_share_their_control_from_scratch(tmp_path: Path) -> None:
    more = (
        "  prune-int8:\n    steps:\n      - prune.weights: {ratio: 0.5}\n"
        "      - finetune: {epochs: 1, learning_rate: 0.01, batch: 32}\n"
        "      - quantize.static\n"
        "  s-{variant}:\n    use: sixteen-variants\n    settings: {finetune: {epochs: 1}}\n"
    )
    text = STUDY.replace("conditions:\n", more + "conditions:\n") + "controls: all\nrepeats: 2\n"
    plan = Study.load(write_study(tmp_path, text)).plan()
    scratch = [c.label for c in plan.candidates if "scratch" in c.recipe]
    assert scratch == [
        f"net/control.scratch-{name}{repeat}"
        for name in ("prune0.5", "prune0.8", "s-prune", "s-prune+cluster", "s-pcqat")
        for repeat in ("", "#1")
    ]
    assert len({c.key for c in plan.candidates}) == len(plan.candidates)
    chosen = {c.label for c in plan.only("net/prune-int8").candidates}
    assert "net/control.scratch-prune0.5" in chosen
    assert "net/control.scratch-prune0.8" not in chosen


def test_training_that_goes_on_says_how_far_it_is(tmp_path: Path) -> None:
    candidate = Candidate("ab" * 8, "net", "prune0.5")
    store = Store.create(tmp_path)
    store.write_progress(candidate, {"epoch": 2, "epochs": 5, "seconds_left": 12.4})
    assert store.in_progress({candidate.key}) == ["net/prune0.5: epoch 2/5, about 12 s left"]
    assert store.in_progress({"cd" * 8}) == []
    store.write_progress(candidate, {"epoch": 1, "epochs": 5, "iteration": 2, "iterations": 3})
    assert store.in_progress({candidate.key}) == ["net/prune0.5: iteration 2/3, epoch 1/5"]
    store.forget_progress(candidate.key)
    store.forget_progress(candidate.key)
    assert store.in_progress({candidate.key}) == []
    store.forget_scratch(candidate.key)
    assert store.in_progress({candidate.key}) == []
