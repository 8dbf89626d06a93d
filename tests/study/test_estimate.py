"""Estimates by hand: what there is to do times what each piece takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from shrinkproof import cli
from shrinkproof.evaluators.latency import Latency
from shrinkproof.records import CLEAN, Candidate, Condition
from shrinkproof.store import Store
from shrinkproof.study import Study
from shrinkproof.study.estimate import Rates, Work, estimate_of, work_of
from shrinkproof.study.estimate.costs import makespan
from shrinkproof.study.estimate.feeds import Loop, ShortFeed
from shrinkproof.study.estimate.making import split_up
from shrinkproof.study.estimate.neighbors import between, shown_of
from shrinkproof.study.estimate.rates import Ended, Looked, Made, Scored, Timed
from shrinkproof.study.estimate.work import Explanation, Making, Showing, Split, predictions_of

from ..study_builder import STUDY, write_study

FOG = Condition("fog", 3)
BASE = Candidate("b", "net", "baseline", role="baseline")
PRUNED = tuple(Candidate(key, "net", f"prune{key}", control="b") for key in ("p1", "p2", "p3"))
SPLIT = Split(count=100, pixels=256, classes=10, batch=50)


def work(**changes: object) -> Work:
    """A baseline and three pruned candidates, under clean images and fog."""
    keys = ["b", *(c.key for c in PRUNED)]
    cells = tuple((key, "artifact") for key in keys)
    found = Work(
        task="classification",
        splits={"report": SPLIT, "train": replace(SPLIT, count=1000)},
        candidates=(BASE, *PRUNED),
        families={"b": "base", "p1": "pruned", "p2": "pruned", "p3": "pruned"},
        making=(Making(BASE, "base", 0, ()), *(Making(c, "pruned", 2, ("train",)) for c in PRUNED)),
        passes=(Showing("report", CLEAN, cells), Showing("report", FOG, cells)),
        verifying=0,
        scoring={},
        explaining=(),
        explained=0,
        timed={},
        scored=8,
        cells=8,
        missing=8,
    )
    return replace(found, **changes)  # type: ignore[arg-type]


RATES = Rates(
    processes=1,
    start=1.0,
    first=3.0,
    reading={"train": 2.0, "report": 0.5},
    made={
        "b": Made(
            4.0, predict={"artifact": 0.01}, load=0.1, bytes=50.0, network=10.0, resident=1e3
        ),
        "p1": Made(5.0, 10.0, predict={"artifact": 0.01}, load=0.1, network=10.0, resident=1e3),
        "p3": Made(7.0, 20.0, predict={"artifact": 0.03}, load=0.1, network=30.0, resident=3e3),
    },
    shown={"clean": 0.001, "fog:3": 0.004},
    opening=0.2,
    prepared=0.0005,
    scored={"report": Scored(once=0.3, fast=0.05, slow=0.4, bytes=7000.0)},
    write=0.01,
    idle=5e6,
)


def seconds(found: object, stage: str) -> float:
    return next(s.seconds for s in found.stages if s.name == stage)  # type: ignore[attr-defined]


# what there is to do


def test_the_tiny_study_is_counted(study_file: Path) -> None:
    study = Study.load(study_file)
    found = work_of(study.spec, study.plan())
    # Baseline, control and two pruned networks, of which three train for one epoch of 96 images.
    assert (len(found.making), found.trained, found.training) == (5, 3, 3 * 96)
    # Four conditions on two splits of 60 images; the clean ones are also shown to the other form.
    assert (len(found.passes), found.parts) == (8, 8)
    assert found.forwards == 2 * 60 * 5 * (4 + 1)
    # 16x16 pixels of three bytes: 8 passes of 60 images, and 3 epochs of 96.
    assert found.read == 16 * 16 * 3 * (8 * 60 + 3 * 96)
    assert found.predictions == 50 * 60 * (4 * 4 + 40)
    assert {model: len(keys) for model, keys in found.timed.items()} == {"net": 5}
    assert (found.cells, found.missing) == (60, 60)


def test_what_a_run_has_done_is_left_out(finished_run: Path) -> None:
    study = Study.load(finished_run.parent / "study" / "study.yaml")
    found = work_of(study.spec, study.plan(), Store.open(finished_run))
    assert (found.making, found.passes, found.timed, found.missing) == ((), (), {}, 0)
    assert (len(found.candidates), found.cells, found.is_done) == (5, 60, True)


def test_nothing_is_measured_where_nothing_is_left(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = finished_run.parent / "study" / "study.yaml"
    assert cli.run(["plan", str(study), "--out", str(finished_run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "nothing is left to do"


def test_candidates_that_differ_in_numbers_are_a_family(study_file: Path) -> None:
    study = Study.load(study_file)
    found = work_of(study.spec, study.plan())
    families = {c.recipe: found.families[c.key] for c in found.candidates}
    assert families["prune0.5"] == families["prune0.8"]
    assert len(set(families.values())) == 4


def test_checkpoints_of_a_training_count_its_epochs_once(tmp_path: Path) -> None:
    text = STUDY.replace("epochs: 1,", "epochs: 6,") + "snapshots: 2\n"
    study = Study.load(write_study(tmp_path, text))
    found = work_of(study.spec, study.plan())
    epochs = {m.candidate.recipe: m.epochs for m in found.making}
    control = [number for name, number in epochs.items() if name.startswith("control.")]
    assert control == [2, 2, 2]
    assert (epochs["prune0.5"], epochs["cluster8"], epochs["baseline"]) == (6, 0, 0)


def test_large_predictions_are_counted_in_half_precision() -> None:
    small = Split(count=1000, pixels=1, classes=1000, batch=1)
    assert predictions_of(small) == 1000 * (4 * 1000 + 40)
    large = replace(small, count=50_000)
    assert predictions_of(large) == 50_000 * (2 * 1000 + 4 + 40)


def test_parts_of_a_pass_are_pieces_of_work() -> None:
    many = work(splits={"report": replace(SPLIT, parts=5)}, scoring={"report": 8})
    found = {stage.name: stage for stage in estimate_of(many, RATES, workers=1).stages}
    assert (many.parts, found["measure"].items) == (10, 10)
    # The metrics of a cell are computed when all its parts are there: the fast ones, too.
    assert found["score"].seconds == pytest.approx(1 + 0.3 + 8 * (0.4 + 0.05) + 8 * 0.01)
    once = 1 + 0.5 + 0.2 + 4 * 0.1
    shown = 100 * (0.001 + 0.004 + 2 * 0.0005 + 2 * 0.07)
    assert found["measure"].seconds == pytest.approx(once + shown + 8 * 0.01)


# what it costs


@pytest.mark.parametrize(
    ("durations", "workers", "expected"),
    [([], 2, 0.0), ([3.0], 2, 3.0), ([1.0, 1.0, 4.0], 2, 5.0), ([4.0, 1.0, 1.0], 2, 4.0)],
)
def test_pieces_go_to_the_first_free_worker(
    durations: list[float], workers: int, expected: float
) -> None:
    assert makespan(durations, workers) == expected


def test_prepare_by_hand() -> None:
    found = estimate_of(work(), RATES, workers=1)
    # start + first + reading, then 4, 5 + 2 * 10, 6 + 2 * 15 (between its neighbors), 7 + 2 * 20
    assert seconds(found, "prepare") == pytest.approx(1 + 3 + 2 + 4 + 25 + 36 + 47)
    both = estimate_of(work(), RATES, workers=2)
    # The second worker takes 25 and 47; the first one 4 and 36.
    assert seconds(both, "prepare") == pytest.approx(1 + 3 + 2 + 25 + 47)


def test_measure_by_hand() -> None:
    found = estimate_of(work(), RATES, workers=1)
    predicted = 100 * (0.01 + 0.01 + 0.02 + 0.03)
    scored = 0.3 + 4 * 0.05
    clean = 100 * (0.001 + 0.0005) + predicted + scored
    fog = 100 * (0.004 + 0.0005) + predicted + scored
    once = 1 + 0.5 + 0.2 + 4 * 0.1
    assert seconds(found, "measure") == pytest.approx(once + clean + fog + 8 * 0.01)


def test_free_cores_hide_what_is_read() -> None:
    slow = replace(RATES, shown={"clean": 1.0, "fog:3": 0.0})
    both = estimate_of(work(), slow, workers=1, overlaps=True)
    apart = estimate_of(work(), slow, workers=1)
    # Under clean images reading decides (100.05 s against 7 s), under fog predicting.
    assert seconds(apart, "measure") - seconds(both, "measure") == pytest.approx(7 + 0.05)


def test_candidates_that_do_not_fit_together_are_read_for_several_times() -> None:
    # Files of 10 + 10 + 20 + 30 bytes, which take four times as much, in a room of 200.
    found = estimate_of(work(), RATES, workers=1, room=200.0)
    whole = estimate_of(work(), RATES, workers=1)
    shown = 100 * (0.001 + 0.0005) + 100 * (0.004 + 0.0005)
    loads = 2 * 4 * 0.1 - 4 * 0.1
    assert seconds(found, "measure") - seconds(whole, "measure") == pytest.approx(shown + loads)
    assert "2 groups" in found.notes[0]


def test_slow_metrics_are_a_stage_of_their_own() -> None:
    found = estimate_of(work(scoring={"report": 8}), RATES, workers=2)
    assert seconds(found, "score") == pytest.approx(1 + 0.3 + 4 * 0.4 + 8 * 0.01 / 2)


def test_heat_maps_by_hand() -> None:
    looked = Looked("net", "gradcam", 0.5, 0.2, 0.1, bytes=30.0, bytes_baseline=90.0)
    explaining = (Explanation("net", "gradcam", "report", CLEAN, ("b", "p1", "p2", "p3")),)
    found = estimate_of(
        work(explaining=explaining, explained=20), replace(RATES, looked=(looked,)), workers=2
    )
    images = 20 * (0.5 + 3 * 0.2) + 4 * 0.1 + 20 * 0.001
    assert seconds(found, "explain") == pytest.approx(1 + 0.5 + images + 4 * 0.01)
    assert found.disk["heat maps"] == 20 * (90 + 3 * 30)


def test_latency_by_hand() -> None:
    timed = Timed("net", {"onnxruntime": 0.5}, load=0.02, inference={1: 0.001})
    latency = Latency(repeats=20, warmup=5, processes=3)
    found = estimate_of(
        work(timed={"net": ("b", "p1")}),
        replace(RATES, timed=(timed,)),
        workers=2,
        latency=latency,
    )
    # Both take as long as the baseline, which takes its turns besides.
    process = 0.5 + 3 * 0.02 + 25 * 3 * 0.001
    forks = 0.5 + 2 * (0.02 + 0.05 + 2 * 0.001)
    assert seconds(found, "latency") == pytest.approx(3 * process + forks + 2 * 0.01)


def test_tables_and_page_grow_with_the_cells() -> None:
    found = estimate_of(work(), replace(RATES, ended=Ended(2.0, 0.1, 500.0)), workers=8)
    assert seconds(found, "summary") == pytest.approx(2 + 8 * 0.1)
    assert found.disk["tables"] == 8 * 500


def test_memory_and_disk_by_hand() -> None:
    found = estimate_of(work(), RATES, workers=1, replicates=1000)
    loaded = 1000 + 1000 + 2000 + 3000
    assert found.memory == 5e6 + loaded + 4 * 100 * 10 * 4 + 2 * 1000 * 100 * 4
    assert estimate_of(work(), replace(RATES, peak=9e9), workers=1).memory == 9e9
    assert found.disk == {"candidates": 50.0, "predictions": 8 * 7000.0}


def test_what_was_not_measured_is_told() -> None:
    untrained = {"b": RATES.made["b"]}
    rates = replace(RATES, made=untrained, skipped=("a", "b", "c", "d"))
    notes = estimate_of(work(), rates, workers=1).notes
    assert notes == (
        "training is left out: there was no time to measure it",
        "there was no time to measure a, b, c and 1 more",
    )


def test_nothing_to_do_costs_nothing() -> None:
    nothing = work(making=(), passes=(), cells=0, missing=0)
    found = estimate_of(nothing, RATES, workers=2)
    assert (found.stages, found.seconds, found.disk) == ((), 0, {})


def test_an_estimate_is_json() -> None:
    found = estimate_of(work(), RATES, workers=2)
    value = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert value["seconds"] == pytest.approx(sum(s["seconds"] for s in value["stages"]))
    json.dumps(RATES.as_json(), allow_nan=False)


# what was not probed


def test_candidates_lie_between_their_neighbors() -> None:
    points = [(0.0, RATES.made["p1"]), (2.0, RATES.made["p3"])]
    assert between(points, 0.5).epoch == pytest.approx(12.5)
    assert between(points, 9.0) == RATES.made["p3"]


def test_severities_lie_between_their_neighbors() -> None:
    shown = {"clean": 0.0, "fog:1": 1.0, "fog:5": 3.0, "snow:2": 10.0}
    assert shown_of(shown, Condition("fog", 5)) == 3.0
    assert shown_of(shown, Condition("fog", 2)) == pytest.approx(1.5)
    assert shown_of(shown, Condition("frost", 1)) == pytest.approx((1 + 3 + 10) / 3)
    assert shown_of({}, FOG) == 0.0


# trainings cut short


class Clock:
    """Seconds that pass only when somebody lets them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


Array = NDArray[np.float64]


class Images:
    """Ten batches of any size."""

    count = 1000

    def batches(self, size: int, **_: object) -> Iterator[tuple[Array, Array]]:
        for _ in range(10):
            yield np.zeros(size), np.zeros(size)


def test_a_short_feed_ends_when_its_time_is_over() -> None:
    clock, loops = Clock(), []
    feed = ShortFeed("train", Images(), loops, 2.0, clock)  # type: ignore[arg-type]
    for number, _ in enumerate(feed.batches(100)):
        clock.now += 3.0 if number == 0 else 0.5
    assert loops[0].counts == [100, 100]
    assert (feed.count, loops[0].wanted) == (1000, 1000)
    assert loops[0].rate == pytest.approx(0.005)
    assert loops[0].settling == pytest.approx(2.5)
    assert loops[0].whole == pytest.approx(5.0)


def test_a_reader_of_few_images_gets_them_all() -> None:
    clock, loops = Clock(), []
    feed = ShortFeed("calibrate", Images(), loops, 1e9, clock)  # type: ignore[arg-type]
    assert len(list(feed.batches(100, order=np.arange(200)))) == 10
    assert loops[0].wanted == 200


def test_training_is_told_from_the_rest() -> None:
    train = Loop("train", 1000, [10, 10], [1.0, 0.1])
    other = Loop("train", 1000, [10, 10], [0.3, 0.3])
    calibrate = Loop("calibrate", 100, [10, 10], [0.2, 0.2])
    # The recipe took 8 s, of which 2.1 s in loops; calibration would read 100 images of 0.02 s,
    # and the first batch of the first training took 0.9 s longer than the next.
    fixed, epoch = split_up(8.0, [train, calibrate, other], [3, 1])
    assert fixed == pytest.approx(8 - 2.1 + 2.0 + 0.9)
    # Three epochs of 1000 images of 0.01 s, and one of 0.03 s.
    assert epoch == pytest.approx((3 * 10 + 30) / 4)
    assert split_up(8.0, [calibrate], []) == (pytest.approx(8 - 0.4 + 2.0), 0.0)


def test_checks_between_epochs_belong_to_training() -> None:
    train = Loop("train", 1000, [10, 10], [0.1, 0.1])
    check = Loop("select", 500, [10, 10], [0.02, 0.02])
    assert split_up(1.0, [train, check], [5])[1] == pytest.approx(10 + 1)


def test_sizes_and_times_are_told_in_few_digits() -> None:
    from shrinkproof.cli.planned import spelled_bytes, spelled_seconds

    assert [spelled_seconds(s) for s in (0.2, 59, 100, 5400, 200_000)] == [
        "< 1 s", "59 s", "1.7 min", "1.5 h", "2.3 days"
    ]  # fmt: skip
    assert [spelled_bytes(b) for b in (12, 1500, 2.5e7, 3e12)] == [
        "12 bytes", "1.5 kB", "25 MB", "3.0 TB"
    ]  # fmt: skip
