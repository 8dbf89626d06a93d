"""Shares of a study's work: who takes what, what is refused, what is said in the end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import StoreError, UsageError
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Candidate, Cell, Condition, Failure
from shrinkproof.store import Part, Shard, Store
from shrinkproof.study import Study
from shrinkproof.study.plan import Plan
from shrinkproof.study.shares import Share, Unit, groups_of, units_of
from shrinkproof.study.staging import Portion, Stage, Standing

from ..study_builder import STUDY, comparable, rewrite_study, write_study
from .test_running import Listener, study_of

COUNTS = (1, 2, 3, 5, 12)
"""Shares of the tiny study; it has 5 groups of candidates and 8 passes."""

FOG = Condition.parse("fog:3")


def a_plan() -> Plan:
    """Two candidates of two models each, under two conditions; heat maps under one of them."""
    candidates = [
        Candidate(f"{model}{name}", model, name, role=role)
        for model in ("a", "b")
        for name, role in (("baseline", "baseline"), ("prune", "recipe"))
    ]
    found = []
    for candidate in candidates:
        for condition in (CLEAN, FOG):
            place = ("artifact", "report", condition)
            found.append(Cell(f"s{len(found)}", candidate.key, "scores", *place))
        found.append(Cell(f"h{len(found)}", candidate.key, "saliency", *place, "gradcam"))
        found.append(Cell(f"z{len(found)}", candidate.key, "size", "artifact"))
        found.append(Cell(f"l{len(found)}", candidate.key, "latency", "artifact"))
    return Plan(tuple(candidates), tuple(found))


def portion(
    study: Study | None, plan: Plan, stage: Stage, share: Share, only: str | None = None
) -> Portion:
    inputs = None if study is None else study.inputs
    run = Path("run")
    return Portion(inputs, plan, Store(run), run, stage, share, only)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1/0", "3", "a/b", "1/3/5", "-1/3", "", "1.0/3", "1/" + "9" * 5000]
)
def test_a_wrong_share_is_explained(text: str) -> None:
    with pytest.raises(
        UsageError, match=r"--shard: must be I/N .*the third of 16 is 3/16"
    ) as error:
        Share.parse(text)
    assert repr(text) in str(error.value)


def test_a_share_is_read_and_written() -> None:
    share = Share.parse("3/16")
    assert (share.index, share.count, str(share)) == (3, 16, "3/16")


@given(st.integers(0, 40), st.integers(1, 50))
def test_every_unit_belongs_to_one_share_and_shares_are_equal(units: int, count: int) -> None:
    shares = [Share(k, count).of(range(units)) for k in range(1, count + 1)]
    assert sorted(unit for share in shares for unit in share) == list(range(units))
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    for k, share in enumerate(shares, start=1):
        assert all(Share(k, count).takes(unit) for unit in share)


def test_passes_show_all_models_and_heat_maps_one() -> None:
    plan = a_plan()
    found = {
        unit: [c.key for c in cells]
        for unit, cells in units_of(plan.candidates, plan.cells).items()
    }
    assert found == {
        Unit("scores", "report", CLEAN): ["s0", "s5", "s10", "s15"],
        Unit("scores", "report", FOG): ["s1", "s6", "s11", "s16"],
        Unit("saliency", "report", FOG, "a"): ["h2", "h7"],
        Unit("saliency", "report", FOG, "b"): ["h12", "h17"],
    }


def test_a_part_of_a_pass_is_a_unit_of_its_own_and_needs_all_its_cells() -> None:
    plan = a_plan()
    units = list(units_of(plan.candidates, plan.cells, {"report": 3}))
    assert units[:6] == [
        Unit("scores", "report", condition, part=part)
        for condition in (CLEAN, FOG)
        for part in (0, 1, 2)
    ]
    assert len(units) == 8
    parts = tuple(Part(k, 3, 4 * k, 4 * k + 4, 12) for k in range(3))
    first = portion(None, replace(plan, parts={"report": parts}), "measure", Share(1, 3))
    assert {unit.part for unit in first.units if unit.evaluator == "scores"} == {0}
    assert sum(cell.evaluator == "scores" for cell in first.part.cells) == 8


def test_a_share_has_done_a_cell_when_its_own_parts_are_stored(tmp_path: Path) -> None:
    parts = tuple(Part(k, 2, 4 * k, 4 * k + 4, 8) for k in range(2))
    plan = replace(a_plan(), parts={"report": parts})
    store = Store.create(tmp_path)
    first = replace(portion(None, plan, "measure", Share(1, 2)), store=store)
    assert first.standing() == (Standing(0, 0, 10), Standing(0, 0, 12), (Share(1, 2), Share(2, 2)))
    logits = np.zeros((4, 2), np.float32)
    found = ClassificationPredictions(logits=logits, target=np.zeros(4, int), index=np.arange(4))
    for cell in plan.cells:
        if cell.evaluator == "scores":
            store.parts(cell.key).write(parts[0], found, {})
    assert first.standing() == (Standing(8, 0, 2), Standing(0, 0, 12), (Share(1, 2), Share(2, 2)))
    for cell in plan.cells:
        store.write_cell(Shard(cell, (), "machine", {}))
    assert first.standing() == (Standing(10, 0, 0), Standing(12, 0, 0), ())


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with dense checkpoints along two trainings, a control for each repeat."""
    text = STUDY.replace("epochs: 1", "epochs: 4") + "snapshots: 3\nrepeats: 2\n"
    return Study.load(write_study(tmp_path_factory.mktemp("snapshots"), text))


def test_checkpoints_are_prepared_with_their_control(snapshots: Study) -> None:
    plan = snapshots.plan()
    groups = groups_of(snapshots.inputs, plan.candidates)
    labels = [[c.label.partition("-")[0] for c in group] for group in groups]
    control = next(c.recipe for c in plan.candidates if c.role == "control" and "." in c.recipe)
    name = control.partition("-")[0]
    assert [f"net/{name}"] * 4 in labels
    assert sum(len(group) > 1 for group in groups) == 1
    assert sorted(c.key for group in groups for c in group) == sorted(
        c.key for c in plan.candidates
    )


def test_what_trains_is_dealt_out_first(snapshots: Study) -> None:
    groups = groups_of(snapshots.inputs, snapshots.plan().candidates)
    trains = [any(s["name"] == "finetune" for s in group[-1].steps) for group in groups]
    assert trains == sorted(trains, reverse=True)
    assert trains.count(True) == 6
    for k in (1, 2, 3):
        assert sum(Share(k, 3).of(trains)) == 2


@pytest.mark.parametrize("count", COUNTS)
def test_shares_divide_the_whole_plan_and_never_a_pass(snapshots: Study, count: int) -> None:
    plan = snapshots.plan()
    shares = [Share(k, count) for k in range(1, count + 1)]
    made = [portion(snapshots, plan, "prepare", share).part for share in shares]
    assert sorted(c.key for part in made for c in part.candidates) == sorted(
        c.key for c in plan.candidates
    )
    assert not any(part.cells for part in made)
    measured = [portion(snapshots, plan, "measure", share).part for share in shares]
    keys = [c.key for c in plan.cells if c.evaluator == "scores"]
    assert sorted(c.key for part in measured for c in part.cells) == sorted(keys)
    passes = [{(c.split, c.condition) for c in part.cells} for part in measured]
    assert sum(map(len, passes)) == len(set().union(*passes)) == 8


def test_a_part_of_the_candidates_is_dealt_out_as_in_the_whole_study(snapshots: Study) -> None:
    plan = snapshots.plan()
    stages: list[Stage] = ["prepare", "measure"]
    for stage in stages:
        whole = portion(snapshots, plan, stage, Share(2, 3))
        part = replace(whole, only="*/cluster8")
        assert part.units == whole.units
        chosen = {c.key for c in plan.only("*/cluster8").candidates}
        assert [c for c in whole.part.cells if c.candidate in chosen] == list(part.part.cells)
        if stage == "prepare":
            keys = {c.key for c in whole.part.candidates}
            assert {c.key for c in part.part.candidates} == keys & chosen


def test_a_share_of_no_stage_is_refused(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--shard: must come with --stage .* got '1/2' alone"):
        Study.load(study_file).run(tmp_path / "run", share="1/2")
    assert not (tmp_path / "run").exists()


def test_a_stage_of_another_name_is_refused(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"stage: must be prepare or measure, got 'prep'"):
        Study.load(study_file).run(tmp_path / "run", stage="prep")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


def test_missing_candidates_are_named_with_the_commands_that_prepare_them(
    study_file: Path, tmp_path: Path
) -> None:
    place = tmp_path / "my data"
    place.mkdir()
    study = Study.load(study_file, roots={"extra": place}, limit=20)
    with pytest.raises(UsageError) as error:
        study.run(tmp_path / "run", stage="measure", share="2/3", only="*/cluster8")
    first, *commands = str(error.value).splitlines()
    assert first == (
        "run --stage measure: every candidate must be prepared first, got 2 that are not: "
        "net/baseline, net/cluster8; run first"
    )
    told = f"shrinkproof run {study_file} --out {tmp_path}/run --root 'extra={place}' --limit 20"
    # Three candidates train and are dealt out first: baseline and cluster8 are the shares 1 and 2.
    assert commands == [f"{told} --only '*/cluster8' --stage prepare --shard {k}/3" for k in (1, 2)]


def test_a_stage_without_shares_names_one_command(study_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"and 1 more; run first\nshrinkproof run .*") as error:
        Study.load(study_file).run(tmp_path / "run", stage="measure")
    assert str(error.value).endswith(f"--out {tmp_path}/run --stage prepare")


def without_cells(run: Path, evaluators: tuple[str, ...] = ("scores", "size", "latency")) -> None:
    """Remove cells of a run, with what they were made from."""
    _, cells = Store(run).read_plan()
    for cell in cells:
        if cell.evaluator in evaluators:
            (run / "cells" / f"{cell.key}.jsonl").unlink()
            shutil.rmtree(run / "predictions" / cell.key, ignore_errors=True)
            (run / "saliency" / f"{cell.key}.npz").unlink(missing_ok=True)


SLOW = {1: ("slow", "long"), 2: (), 3: ("slow",), 5: ("slow", "long"), 12: ("slow",)}


@pytest.mark.parametrize(
    "count", [pytest.param(n, marks=[getattr(pytest.mark, m) for m in SLOW[n]]) for n in COUNTS]
)
def test_passes_in_shares_give_the_records_of_one_run(
    run_copy: Path, finished_run: Path, count: int
) -> None:
    without_cells(run_copy)
    study = study_of(run_copy)
    for k in reversed(range(1, count + 1)):
        listener = Listener()
        study.run(run_copy, stage="measure", share=f"{k}/{count}", progress=listener)
        passes = len(range(k - 1, 8, count))
        assert listener.stages == ({f"measure {k}/{count}": passes} if passes else {})
        assert listener.warnings == []
    assert not any(json.loads(t.read_text()) for t in run_copy.glob("cells/*.failed.json"))
    listener = Listener()
    results = study.run(run_copy, progress=listener)
    assert listener.stages == {"latency": 5}
    assert results.progress["missing"] == 0
    assert comparable(run_copy) == comparable(finished_run)


def test_a_failed_candidate_is_left_out_and_told(run_copy: Path) -> None:
    without_cells(run_copy)
    store = Store(run_copy)
    lost = next(c for c in store.read_candidates() if c.recipe == "cluster8")
    shutil.rmtree(store.candidate(lost.key))
    store.write_failure(lost.key, Failure("CompressionError", "too hot"), label=lost.label)
    listener = Listener()
    found = study_of(run_copy).run_stage(run_copy, "measure", "1/8", progress=listener)
    assert listener.warnings == ["net/cluster8: is not prepared: too hot"]
    assert list(store.failures()) == [lost.key]
    mine, whole, behind = found.standing()
    # The clean pass of the select split has both forms of each candidate.
    assert (mine, whole) == (Standing(8, 2, 0), Standing(8, 10, 32))
    assert behind == tuple(Share(k, 8) for k in range(2, 9))


def test_a_fresh_failure_of_another_share_is_kept(run_copy: Path) -> None:
    store = Store(run_copy)
    key = "ab" * 8
    store.write_failure(key, Failure("StoreError", "other machine"), label="net/other latency")
    study_of(run_copy).run(run_copy, stage="measure", share="1/2")
    assert list(store.failures()) == [key]


def limited(run: Path) -> Study:
    study = study_of(run)
    return Study(replace(study.inputs, limit=20))


def test_a_share_of_another_study_is_refused_while_the_first_is_worked_on(run_copy: Path) -> None:
    without_cells(run_copy)
    kept = {p: p.read_bytes() for p in run_copy.glob("*.*")}
    with pytest.raises(StoreError) as error:
        limited(run_copy).run(run_copy, stage="measure", share="1/2")
    text = str(error.value)
    assert "all launchers must have the same study" in text
    assert "--limit is not given there and 20 here; 100 candidates or cells are of one" in text
    assert f"remove {run_copy}/plan.jsonl" in text
    assert {p: p.read_bytes() for p in run_copy.glob("*.*")} == kept
    (run_copy / "plan.jsonl").unlink()
    limited(run_copy).run(run_copy, stage="measure", share="1/2")


def test_a_share_of_an_edited_study_is_refused_with_what_differs(
    study_file: Path, tmp_path: Path
) -> None:
    study = Study.load(study_file)
    plan = study.plan()
    store = Store.create(tmp_path / "run")
    store.write_plan(plan.candidates, plan.cells)
    store.write_json("inputs.json", study.inputs.as_json())
    rewrite_study(study_file, STUDY.replace("[0.5, 0.8]", "[0.5, 0.7]"))
    with pytest.raises(
        StoreError, match=r"has another text; only there: net/prune0\.8; only here: net/prune0\.7;"
    ):
        Study.load(study_file).run(store.path, stage="prepare", share="1/2")


def test_a_finished_plan_makes_room_for_a_new_version(run_copy: Path, finished_run: Path) -> None:
    results = limited(run_copy).run(run_copy, stage="measure", share="1/2")
    assert results.progress["missing"] > 0
    assert json.loads((run_copy / "inputs.json").read_text())["limit"] == 20
    with pytest.raises(StoreError, match="--limit is 20 there and not given here"):
        study_of(finished_run).run(run_copy, stage="measure", share="2/2")


def test_a_stored_plan_that_differs_in_latency_only_is_left_alone(run_copy: Path) -> None:
    file = run_copy / "plan.jsonl"
    lines = file.read_text().splitlines()
    other = [
        line.replace('"key": "', '"key": "0')[:-1] + line[-1] if '"latency"' in line else line
        for line in lines
    ]
    assert other != lines
    file.write_text("\n".join(other) + "\n")
    study_of(run_copy).run(run_copy, stage="measure", share="1/2")
    assert file.read_text().splitlines() == other
    study_of(run_copy).run(run_copy)
    assert file.read_text().splitlines() == lines


def test_a_renamed_model_is_measured_under_its_new_name(run_copy: Path) -> None:
    without_cells(run_copy)
    inputs = study_of(run_copy).inputs
    study = Study(replace(inputs, text=inputs.text.replace("  net:", "  renamed:")))
    results = study.run(run_copy, stage="measure", share="1/8")
    assert results.failures == ()
    assert results.shards
    assert {candidate.model for candidate in results.candidates} == {"renamed"}


def test_results_of_workers_that_read_another_study_are_refused(run_copy: Path) -> None:
    without_cells(run_copy, ("scores",))

    class Meddler(Listener):
        def begin(self, stage: str, total: int) -> None:
            Store(run_copy).write_json("inputs.json", limited(run_copy).inputs.as_json())

    with pytest.raises(StoreError, match="one study at a time, got another one while this one"):
        study_of(run_copy).run(run_copy, stage="measure", progress=Meddler())
    assert not any(
        c.evaluator == "scores" and c.key in Store(run_copy).finished()
        for c in Store(run_copy).read_plan()[1]
    )
