"""Heat maps in a study: planned, made, resumed, scored again, shown."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.engines.processes import Processes
from shrinkproof.errors import ModelError, SpecError
from shrinkproof.metrics import agreement
from shrinkproof.metrics.agreement import METRICS
from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.records import Json, Record
from shrinkproof.results import Results
from shrinkproof.store import Store
from shrinkproof.study import Study, running
from shrinkproof.study.scoring import rescore
from shrinkproof.study.work.preparing import Preparation

from ..study_builder import STUDY, comparable, write_study
from .test_running import Listener, study_of

pytestmark = pytest.mark.slow

SALIENCY = """
  saliency:
    methods: [gradcam, {occlusion: {window: 4, stride: 2}}]
    images: 40
    conditions: [clean, "contrast:3"]
    twin: {net: other}
"""

TRAINED = STUDY[STUDY.index("  prune{ratio}:") : STUDY.index("conditions:")]
TEXT = (
    STUDY.replace(TRAINED, "  prune0.8:\n    steps: [prune.weights: {ratio: 0.8}]\n")
    .replace("  gaussian_noise: [1, 5]\n", "")
    .replace("  cost: {latency: {repeats: 20, warmup: 1, processes: 1}}\n", SALIENCY[1:])
    .replace("data:\n", "  other:\n    use: import:tiny_user_network:other\nMORE\ndata:\n", 1)
    .replace("replicates: 200", "replicates: 100")
)
MORE = TEXT[TEXT.index("    classes: 4") : TEXT.index("  other:")]
TEXT = TEXT.replace("MORE\n", MORE)

OTHER = """

def other() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""


def write(folder: Path, text: str = TEXT) -> Path:
    file = write_study(folder, text)
    (module,) = folder.glob("network_*.py")
    module.write_text(module.read_text() + OTHER)
    return file


@pytest.fixture(scope="module")
def explained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with heat maps; tests must not write into it."""
    folder = tmp_path_factory.mktemp("explained")
    results = Study.load(write(folder / "study")).run(folder / "run")
    assert results.failures == ()
    return folder / "run"


@pytest.fixture
def copied(explained_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(explained_run, tmp_path / "run"))


def saliency_of(run: Path, metric: str = "saliency.hcc", **wanted) -> list[Record]:
    return [
        record
        for record in Results.load(run).records
        if record.metric == metric
        and all(getattr(record, name) == value for name, value in wanted.items())
    ]


def looks(run: Path) -> list[dict[str, object]]:
    return [row for row in comparable(run) if str(row["metric"]).startswith("saliency.")]


def one(run: Path, metric: str = "saliency.hcc", **wanted) -> Record:
    defaults = {"model": "net", "condition": "clean", "slice": ""}
    (found,) = saliency_of(run, metric, **{**defaults, **wanted})
    return found


def test_one_cell_per_candidate_method_and_condition_on_the_printed_split(
    explained_run: Path,
) -> None:
    results = Results.load(explained_run)
    cells = [cell for cell in results.cells if cell.evaluator == "saliency"]
    assert len(cells) == 4 * 2 * 2
    assert {(c.method, c.form, c.split) for c in cells} == {
        ("gradcam", "twin", "report"),
        ("occlusion", "artifact", "report"),
    }
    assert results.progress["missing"] == 0


def test_a_baseline_is_wholly_alike_itself_and_pruning_moves_the_maps(explained_run: Path) -> None:
    for condition in ("clean", "contrast"):
        assert one(explained_run, recipe="baseline", condition=condition).value == pytest.approx(1)
        pruned = one(explained_run, recipe="prune0.8", condition=condition)
        assert pruned.value < 0.95
        assert "gradcam at layer 2, 8x8 places" in pruned.reason
    other = one(explained_run, "saliency.hcc[method=occlusion]", recipe="prune0.8")
    assert (other.form, other.status) == ("artifact", "ok")
    assert "below 8x8 places" in other.reason


def test_controls_are_rows_of_the_baseline(explained_run: Path) -> None:
    rows = saliency_of(explained_run, model="net", recipe="baseline", condition="clean")
    parts = {row.slice: row for row in rows}
    controls = {"control=randomized", "control=twin", "control=other-image"}
    assert controls <= set(parts)
    assert "other/baseline, trained independently" in parts["control=twin"].reason
    assert parts["control=randomized"].value < 0.9
    alone = saliency_of(explained_run, model="other", recipe="baseline", condition="clean")
    assert "control=twin" not in {row.slice for row in alone}


def test_every_metric_has_a_record_and_says_what_it_is_about(explained_run: Path) -> None:
    for metric in (*METRICS, "saliency.hcc_common"):
        record = one(explained_run, metric, recipe="prune0.8")
        assert record.value is not None
        assert "8x8 places" in record.reason
    common = one(explained_run, "saliency.hcc_common", recipe="prune0.8")
    assert (common.evaluator, common.basis) == ("summary", "derived")


def test_a_second_run_does_no_work_and_two_runs_are_equal(
    copied: Path, explained_run: Path
) -> None:
    listener = Listener()
    study_of(copied).run(copied, progress=listener)
    assert listener.stages == {}
    shutil.rmtree(copied / "saliency")
    shutil.rmtree(copied / "cells")
    study_of(copied).run(copied)
    assert comparable(copied) == comparable(explained_run)


def test_a_resumed_candidate_is_compared_with_the_stored_maps(
    copied: Path, explained_run: Path
) -> None:
    results = Results.load(copied)
    pruned = next(c.key for c in results.candidates if c.recipe == "prune0.8")
    cells = [c for c in results.cells if c.evaluator == "saliency" and c.candidate == pruned]
    for cell in cells:
        (copied / "cells" / f"{cell.key}.jsonl").unlink()
        (copied / "saliency" / f"{cell.key}.npz").unlink()
    before = {p.name: p.stat().st_mtime_ns for p in (copied / "saliency").iterdir()}
    listener = Listener()
    study_of(copied).run(copied, progress=listener)
    assert listener.stages == {"explain": 2}
    after = {p.name: p.stat().st_mtime_ns for p in (copied / "saliency").iterdir()}
    assert before.items() <= after.items()
    assert comparable(copied) == comparable(explained_run)


def test_lost_and_damaged_maps_are_made_again(copied: Path, explained_run: Path) -> None:
    files = sorted((copied / "saliency").iterdir())
    files[0].unlink()
    study_of(copied).run(copied)
    assert files[0].is_file()
    assert comparable(copied) == comparable(explained_run)


def test_maps_from_before_a_kill_are_not_made_again(copied: Path, explained_run: Path) -> None:
    results = Results.load(copied)
    pruned = {c.key for c in results.candidates if c.role == "recipe"}
    looked = [c for c in results.cells if c.evaluator == "saliency" and c.candidate in pruned]
    lost = f"{looked[0].key}.npz"
    before = {p.name: p.stat().st_mtime_ns for p in (copied / "saliency").iterdir()}
    shutil.rmtree(copied / "cells")
    (copied / "saliency" / lost).unlink()
    study_of(copied).run(copied)
    after = {p.name: p.stat().st_mtime_ns for p in (copied / "saliency").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {lost}
    assert comparable(copied) == comparable(explained_run)


def test_maps_that_are_cut_short_are_made_again(copied: Path, explained_run: Path) -> None:
    files = sorted((copied / "saliency").iterdir())
    for file in files[:2]:
        file.write_bytes(file.read_bytes()[:1000])
    (copied / "summary.jsonl").unlink(missing_ok=True)
    common = [r for r in Results.load(copied).records if "hcc_common" in r.metric]
    assert len(common) == 16
    assert sum("missing or damaged" in r.reason for r in common if r.value is None) >= 2
    study_of(copied).run(copied)
    assert comparable(copied) == comparable(explained_run)


@pytest.mark.slow
def test_a_twin_that_is_prepared_later_is_looked_at_then(
    copied: Path, explained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(work: Preparation) -> Json:
        raise ModelError(f"no {work.candidate.label}")

    twin = next(c.key for c in Results.load(copied).candidates if c.label == "other/baseline")
    for name in ("saliency", "cells", f"candidates/{twin}"):
        shutil.rmtree(copied / name)
    with monkeypatch.context() as patched:
        patched.setattr(running, "prepare", prepare)
        for _ in range(2):
            listener = Listener()
            study_of(copied).run(copied, progress=listener)
    assert listener.stages["explain"] == 2  # what failed: the other model's candidate
    absent = one(copied, recipe="baseline", slice="control=twin")
    assert (absent.value, absent.status) == (None, "undefined")
    assert "no twin control: other/baseline could not be prepared" in absent.reason
    study_of(copied).run(copied)
    assert looks(copied) == looks(explained_run)


@pytest.mark.slow
@pytest.mark.long
def test_processes_give_the_same_bits(explained_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(explained_run, tmp_path / "run"))
    for name in ("saliency", "cells"):
        shutil.rmtree(run / name)
    study_of(run).run(run, engine=Processes(workers=2))
    assert comparable(run) == comparable(explained_run)
    for file in (explained_run / "saliency").iterdir():
        assert (run / "saliency" / file.name).read_bytes() == file.read_bytes()


def test_numbers_of_images_that_a_model_has_seen_say_so(copied: Path) -> None:
    results = Results.load(copied)
    data = results.data
    data["contamination"] = {"net": {"report": "it was trained on them"}}
    results.store.write_json("data.json", data)
    rows = [r for r in Results.load(copied).records if r.metric.startswith("saliency.")]
    assert {r.metric.partition("[")[0] for r in rows} >= {*METRICS, "saliency.hcc_common"}
    for row in rows:
        if row.model == "net" and row.value is not None:
            assert row.status == "contaminated"
            assert row.reason.startswith("it was trained on them")
        else:
            assert row.status in ("ok", "undefined")


def test_other_formulas_are_applied_to_the_stored_maps(
    copied: Path, explained_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "AGREEMENT_VERSION", 99)
    listener = Listener()
    study_of(copied).run(copied, progress=listener)
    assert listener.stages == {"compare": 16}
    assert comparable(copied) == comparable(explained_run)


def test_score_needs_neither_model_nor_image(copied: Path, explained_run: Path) -> None:
    expected = comparable(explained_run)
    shutil.rmtree(copied / "candidates")
    store = Store(copied)
    shards = [store.read_cell(key) for key in sorted(store.finished())]
    for shard in shards:
        if shard is not None and shard.cell.evaluator == "saliency":
            store.write_cell(replace(shard, measurements=(), versions={}))
    rescore(copied)
    assert comparable(copied) == expected


def run_changed(run: Path, old: str, new: str) -> Listener:
    """Run the study of a run again after a change of its file."""
    inputs = study_of(run).inputs
    assert inputs.text.count(old) == 1
    listener = Listener()
    Study(replace(inputs, text=inputs.text.replace(old, new))).run(run, progress=listener)
    return listener


def test_another_first_method_changes_the_names_and_costs_no_map(copied: Path) -> None:
    before = one(copied, recipe="prune0.8")
    listener = run_changed(
        copied,
        "[gradcam, {occlusion: {window: 4, stride: 2}}]",
        "[{occlusion: {window: 4, stride: 2}}, gradcam]",
    )
    assert set(listener.stages) == {"compare"}
    after = one(copied, "saliency.hcc[method=gradcam]", recipe="prune0.8")
    assert (after.value, after.low) == (before.value, before.low)
    assert one(copied, recipe="prune0.8").form == "artifact"


def test_a_layer_that_is_not_there_fails_these_cells_only(copied: Path) -> None:
    run_changed(copied, "    images: 40\n", "    images: 40\n    layer: {net: layer9}\n")
    results = Results.load(copied)
    failed = [f for f in results.failures if "saliency gradcam" in f["label"]]
    assert len(failed) == len(results.failures) == 4
    assert "unknown layer 'layer9'" in failed[0]["message"]
    record = one(copied, recipe="prune0.8")
    assert (record.value, record.status) == (None, "failed")
    assert "layer9" in record.reason
    assert one(copied, "saliency.hcc[method=occlusion]", recipe="prune0.8").value
    assert one(copied, model="other", recipe="prune0.8").status != "failed"


def test_least_alike_images_are_shown_as_small_pictures(explained_run: Path) -> None:
    strips = [s for s in Results.load(explained_run).exhibits("heatmaps") if s["model"] == "net"]
    assert [s["candidate"] for s in strips] == ["net/prune0.8"]
    for strip in strips:
        assert strip["resolution"] == [8, 8]
        values = [image["hcc"] for image in strip["images"]]
        assert values == sorted(values)
        assert len(values) == 6
        for image in strip["images"]:
            for name in ("image", "baseline_map", "candidate_map"):
                content = base64.b64decode(image[name])
                assert content.startswith(b"\x89PNG")
                assert len(content) < 2000


def test_maps_of_other_images_are_an_error_and_no_number(copied: Path) -> None:
    results, store = Results.load(copied), Store(copied)
    pruned = next(c.key for c in results.candidates if c.recipe == "prune0.8")
    cell = next(c for c in results.cells if (c.candidate, c.evaluator) == (pruned, "saliency"))
    maps = store.read_maps(cell.key)
    assert maps is not None
    store.write_maps(cell.key, replace(maps, index=maps.index + 1000))
    (copied / "summary.jsonl").unlink(missing_ok=True)
    record = one(copied, "saliency.hcc_common", recipe="prune0.8")
    assert (record.value, record.status) == (None, "undefined")
    assert "the same images in the same order" in record.reason
    listener = Listener()
    rescore(copied, progress=listener)
    assert any("the same images in the same order" in text for text in listener.warnings)


def test_hcc_is_set_beside_accuracy_and_calibration(explained_run: Path) -> None:
    found = Results.load(explained_run).exhibits("saliency-correlation")
    assert {f["x"] for f in found} == {
        "accuracy.top1@clean",
        "change.calibration.ece@clean",
    }
    first = found[0]
    assert first["y"] == "saliency.hcc@clean"
    assert first["candidates"] == ["net/prune0.8"]
    assert "at least 3 candidates" in first["reason"]
    assert "at least 5 candidates" in first["at_matched_reduction"]["reason"]


def test_a_candidate_without_a_correlation_is_left_out_by_name(copied: Path) -> None:
    results, store = Results.load(copied), Store(copied)
    pruned = {c.key for c in results.candidates if c.recipe == "prune0.8"}
    for shard in results.shards.values():
        if shard.cell.evaluator == "saliency" and shard.cell.candidate in pruned:
            numbers = tuple(
                replace(m, value=None) if m.metric == "saliency.hcc" else m
                for m in shard.measurements
            )
            store.write_cell(replace(shard, measurements=numbers))
    found = Results.load(copied).exhibits("saliency-correlation")
    assert [f["left_out"] for f in found if f["model"] == "net"] == 2 * [["net/prune0.8"]]
    assert [f["candidates"] for f in found if f["model"] == "net"] == 2 * [[]]


def test_stored_maps_come_back_as_they_were(tmp_path: Path) -> None:
    maps = HeatMaps(
        method="rise",
        layer="",
        resolution=(7, 7),
        maps={"own": np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)},
        index=np.arange(3),
        explained=np.arange(3),
        target=np.zeros(3, np.int64),
        groups=np.array(["a", "b", "b"]),
        images=np.zeros((3, 8, 8, 3), np.uint8),
        missing={"twin": "none"},
        twin="x/baseline",
        caveat="told",
    )
    store = Store(tmp_path)
    store.write_maps("k", maps)
    back = store.read_maps("k")
    assert back is not None
    for name in ("index", "explained", "target", "groups", "images"):
        assert np.array_equal(getattr(back, name), getattr(maps, name))
    assert np.array_equal(back.own, maps.own)
    assert back.own.dtype == np.float32
    for name in ("method", "layer", "resolution", "missing", "twin", "caveat"):
        assert getattr(back, name) == getattr(maps, name)
    file = tmp_path / "saliency" / "k.npz"
    first = file.read_bytes()
    store.write_maps("k", maps)
    assert file.read_bytes() == first
    file.write_bytes(first[: len(first) // 2])
    assert store.read_maps("k") is None
    assert store.read_maps("absent") is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[gradcam, {", "[gradcm, {", "did you mean 'gradcam'"),
        ("window: 4", "windo: 4", "windo: unknown field; did you mean 'window'?"),
        ("[gradcam, {", "[occlusion, {", "is given twice: 'occlusion'"),
        ('"contrast:3"', '"contrast:4"', "contrast:4 is not measured by this study"),
        ("{net: other}", "nett", "unknown model 'nett'; did you mean 'net'?"),
        ("{net: other}", "{net: net}", "must be another model than the one it stands beside"),
        ("{net: other}", "{neet: other}", "unknown model 'neet'; did you mean 'net'?"),
        ("images: 40", "images: 0", "measure.saliency.images: must be at least 1"),
        (
            "minimize: [robustness.mean_error",
            "maximize: [saliency.hcc@clean]\n  minimize: [robustness.mean_error",
            "saliency.hcc is measured on the images that are printed",
        ),
    ],
)
def test_mistakes_in_the_block_are_found(tmp_path: Path, old: str, new: str, problem: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(SpecError) as caught:
        Study.load(write(tmp_path / "study", TEXT.replace(old, new)))
    assert problem in str(caught.value)
