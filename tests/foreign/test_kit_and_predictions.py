"""From the kit over a target back into the run: same pixels, same predictions, ordinary cells."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from shrinkproof.errors import DataError, ShrinkproofError, UsageError
from shrinkproof.evaluators.subject import Scene
from shrinkproof.foreign import import_predictions, write_kit
from shrinkproof.records import Condition
from shrinkproof.results import Results
from shrinkproof.selectors import Selector
from shrinkproof.study import Inputs, Study
from shrinkproof.study.scoring import rescore

NOISE = Condition("gaussian_noise", 5)
OF = "net/prune0.5"


@pytest.fixture(scope="module")
def place(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its kits, and what the runner has predicted there."""
    folder = tmp_path_factory.mktemp("target")
    shutil.copytree(finished_run, folder / "run")
    results = Results.load(folder / "run")
    (key,) = [c.key for c in results.candidates if c.label == OF]
    network = folder / "run" / "candidates" / key / "model.onnx"
    for split in ("report", "select"):
        kit = write_kit(folder / "run", folder / split, split=split)
        assert kit.count == 60
        done = subprocess.run(
            [sys.executable, kit.path / "run_on_target.py", network],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "run", tmp_path / "run"))


def predicted(place: Path, split: str = "report") -> list[Path]:
    return sorted((place / split / "predictions").glob("*.npz"))


def changed(place: Path, target: Path, name: str = "gaussian_noise-5", **parts: object) -> Path:
    """A copy of a file of predictions with other parts; None leaves a part out."""
    with np.load(place / "report" / "predictions" / f"{name}.npz") as found:
        content = {key: found[key] for key in found.files}
    content.update(parts)
    np.savez(target, **{key: value for key, value in content.items() if value is not None})
    return target


def parts_of(place: Path, name: str = "gaussian_noise-5") -> dict[str, np.ndarray]:
    with np.load(place / "report" / "predictions" / f"{name}.npz") as found:
        return {key: found[key] for key in found.files}


# the kit


def test_the_kit_has_the_pixels_of_the_pass(place):
    results = Results.load(place / "run")
    inputs = Inputs.from_json(results.store.read_json("inputs.json"))
    images = inputs.splits(["report"]).sets["report"]
    for condition in results.spec.conditions_list():
        world = None if condition.is_clean else inputs.world(images)
        batches = [batch for _, batch in Scene(images, condition, world, 7).batches()]
        name = str(condition).replace(":", "-")
        kept = np.load(place / "report" / "images" / f"{name}.npy")
        assert kept.dtype == np.uint8
        np.testing.assert_array_equal(kept, np.concatenate(batches))


def test_the_manifest_pins_every_file_and_image(place):
    kit = place / "report"
    manifest = json.loads((kit / "manifest.json").read_text())
    assert (manifest["split"], manifest["count"], manifest["of"]) == ("report", 60, 60)
    assert manifest["classes"] == ["0", "1", "2", "3"]
    assert manifest["models"]["net"]["mean"] == [0.5, 0.5, 0.5]
    assert set(manifest["conditions"]) == {
        "clean", "gaussian_noise:1", "gaussian_noise:5", "contrast:3",
    }  # fmt: skip
    for files in manifest["conditions"].values():
        for part in ("images", "hashes"):
            content = (kit / files[part]).read_bytes()
            assert hashlib.sha256(content).hexdigest() == files[f"{part}_sha256"]
        lines = (kit / files["hashes"]).read_text().splitlines()
        images = np.load(kit / files["images"])
        assert [line.split() for line in lines] == [
            [hashlib.sha256(image.tobytes()).hexdigest(), str(index)]
            for image, index in zip(images, manifest["index"], strict=True)
        ]


def test_the_runner_needs_numpy_and_its_runtime_alone(place):
    text = (place / "report" / "run_on_target.py").read_text()
    modules = set(re.findall(r"^\s*(?:import|from) (\w+)", text, re.MULTILINE))
    own = {"numpy", "onnxruntime"}
    assert modules - own <= set(sys.stdlib_module_names)
    assert len(text.splitlines()) < 60


def test_some_conditions_and_few_images_can_be_written(run, tmp_path):
    kit = write_kit(run, tmp_path / "kit", conditions=["contrast:3"], limit=5)
    assert (kit.count, kit.conditions, kit.bytes) == (5, (Condition("contrast", 3),), 5 * 16**2 * 3)
    full = write_kit(run, tmp_path / "full", conditions=["contrast:3"])
    few, all_ = (np.load(k.path / "images" / "contrast-3.npy") for k in (kit, full))
    np.testing.assert_array_equal(few, all_[:5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "train"}, "--split: must be one that the run measures (select, report)"),
        ({"conditions": ["fog:3"]}, "--condition: must be one that the run measures (clean"),
        ({"conditions": ["fog-3"]}, "--condition: condition: severity must be"),
    ],
)
def test_what_the_run_does_not_measure_is_refused(run, tmp_path, settings, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        write_kit(run, tmp_path / "kit", **settings)


# predictions


def test_predictions_become_cells_of_a_new_candidate(place, run):
    before = Results.load(run)
    found = import_predictions(
        predicted(place), run, candidate="prune0.5-npu", of=OF, device="a chip"
    )
    assert found.of == OF
    assert set(found.conditions) == set(before.spec.conditions_list())
    assert min(found.conditions.values()) == 1
    results = Results.load(run)
    assert [c.label for c in results.candidates][-1] == "net/prune0.5-npu"
    assert (results.progress["missing"], results.progress["failed"]) == (0, 0)
    for condition in before.spec.conditions_list():
        for metric in before.metrics:
            own, other = (
                results.numbers.find(label, "report", Selector(metric, *place_of(condition)))
                for label in (f"{OF}-npu", OF)
            )
            assert own.value == pytest.approx(other.value, abs=1e-5)
            assert own.low == pytest.approx(other.low, abs=1e-4) if other.low else True
    assert "net/prune0.5-npu: predicted elsewhere, by net/prune0.5 on a chip" in results.caveats


def place_of(condition: Condition) -> tuple[str, int]:
    return condition.corruption, condition.severity


def test_flips_front_and_report_include_it(place, run):
    import_predictions(predicted(place), run, candidate="npu", of=OF)
    imported = import_predictions(predicted(place, "select"), run, candidate="npu").results
    churn = [r for r in imported.records if r.metric == "flips.churn" and r.recipe == "npu"]
    assert churn
    assert {r.control for r in churn} == {
        next(c.label for c in imported.candidates if c.role == "control")
    }
    decision = imported.decision
    assert "net/npu" in (*decision.front, *decision.dominated)
    assert b"npu" in imported.report().read_bytes()


@pytest.mark.slow
def test_a_later_run_keeps_what_still_fits(place, run):
    import_predictions(predicted(place), run, candidate="npu", of=OF)
    study = Study(Inputs.from_json(Results.load(run).store.read_json("inputs.json")))
    text = study.inputs.text
    again = Study(Inputs.from_json({**study.inputs.as_json(), "text": text})).run(run)
    assert "net/npu" in {c.label for c in again.candidates}
    assert again.progress["missing"] == 0
    more = text.replace(
        "  cluster8:", "  more:\n    steps:\n      - cluster: {levels: 4}\n  cluster8:"
    )
    more = more.replace("measure:", "measure:\n  scores: [accuracy.top1, calibration.ks]")
    extended = Study(Inputs.from_json({**study.inputs.as_json(), "text": more})).run(run)
    assert {"net/npu", "net/more"} <= {c.label for c in extended.candidates}
    find = extended.numbers.find
    assert find("net/npu", "report", Selector("calibration.ks", "clean")).value is not None
    environments = {r.environment for r in extended.records if r.recipe == "npu" and r.environment}
    assert [extended.store.environments()[key] for key in environments] == [
        {"device": "unknown target"}
    ]
    fewer = Study(Inputs.from_json({**study.inputs.as_json(), "limit": 40})).run(run)
    assert not [r for r in fewer.records if r.recipe == "npu" and r.evaluator == "scores"]
    assert any("net/npu under clean on report, imported, is left out" in c for c in fewer.caveats)
    back = study.run(run)
    assert find("net/npu", "report", Selector("accuracy.top1", "clean")).value is not None
    assert not any("left out" in caveat for caveat in back.caveats)


def test_score_recomputes_imported_cells(place, run):
    import_predictions(predicted(place), run, candidate="npu", of=OF)
    results = rescore(run, add=["calibration.ks"])
    found = results.numbers.find("net/npu", "report", Selector("calibration.ks", "clean"))
    assert found.value is not None


def test_order_type_and_format_of_a_file_do_not_matter(place, run, tmp_path):
    plain = import_predictions(predicted(place), run, candidate="npu", of=OF).results
    parts = parts_of(place)
    order = np.random.default_rng(0).permutation(60)
    frame = pl.DataFrame(
        {
            "index": parts["index"][order],
            "logits": parts["logits"][order].tolist(),
            "sha256": [str(text).upper() for text in parts["sha256"][order]],
        }
    )
    frame.write_parquet(tmp_path / "a.parquet")
    columns = {f"logit_{i}": parts["logits"][order, i] for i in range(4)}
    pl.DataFrame({"index": parts["index"][order], **columns}).write_parquet(tmp_path / "b.parquet")
    label = "net/npu"
    wanted = plain.numbers.find(label, "report", Selector("accuracy.nll", "gaussian_noise", 5))
    for name in ("a", "b"):
        found = import_predictions(
            [tmp_path / f"{name}.parquet"],
            run,
            candidate="npu",
            condition="gaussian_noise:5",
            split="report",
        ).results
        got = found.numbers.find(label, "report", Selector("accuracy.nll", "gaussian_noise", 5))
        assert got.value == pytest.approx(wanted.value, abs=1e-7)
    assert any("b.parquet has no hashes" in caveat for caveat in found.caveats)
    keys = {c.key for c in found.cells}
    assert {p.name for p in (run / "predictions").iterdir()} <= keys


def test_times_come_with_their_device_and_without_a_ratio(place, run, tmp_path):
    seconds = np.arange(1, 61) / 1000
    path = changed(place, tmp_path / "t.npz", "clean", latency_seconds=seconds)
    results = import_predictions([path], run, candidate="npu", of=OF, device="a chip").results
    median = results.numbers.find("net/npu", "", Selector("cost.latency_median"))
    assert median.value == pytest.approx(np.median(seconds))
    assert median.reason.startswith("one image on a chip, as timed there")
    p95 = results.numbers.find("net/npu", "", Selector("cost.latency_p95"))
    assert (p95.value, p95.count) == (pytest.approx(np.quantile(seconds, 0.95)), 60)
    assert results.numbers.find("net/npu", "", Selector("cost.latency_ratio")).value is None


def test_sizes_are_those_of_the_origin_or_of_the_file_on_the_target(place, run, tmp_path):
    results = import_predictions(predicted(place), run, candidate="npu", of=OF).results
    own, other = (
        results.numbers.find(label, "", Selector("cost.bytes_zip")) for label in ("net/npu", OF)
    )
    assert own.value == other.value
    assert "not of what the target executes" in own.reason
    file = tmp_path / "network.bin"
    file.write_bytes(bytes(1000))
    results = import_predictions(predicted(place), run, candidate="npu", network=file).results
    assert results.numbers.find("net/npu", "", Selector("cost.bytes")).value == 1000
    base = results.numbers.find("net/baseline", "", Selector("cost.bytes")).value
    ratio = results.numbers.find("net/npu", "", Selector("cost.compression_ratio"))
    assert ratio.value == base / 1000


def test_probabilities_are_logits_up_to_a_constant(place, run, tmp_path):
    parts = parts_of(place)
    logits = parts["logits"].astype(np.float64)
    softmax = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax /= softmax.sum(axis=1, keepdims=True)
    plain = import_predictions(predicted(place), run, candidate="npu", of=OF).results
    wanted = {
        metric: plain.numbers.find("net/npu", "report", Selector(metric, "gaussian_noise", 5)).value
        for metric in ("accuracy.nll", "accuracy.brier", "calibration.ece")
    }
    path = changed(place, tmp_path / "p.npz", logits=softmax)
    with pytest.raises(DataError, match="say --probabilities"):
        import_predictions([path], run, candidate="npu")
    found = import_predictions([path], run, candidate="npu", probabilities=True).results
    for metric, value in wanted.items():
        own = found.numbers.find("net/npu", "report", Selector(metric, "gaussian_noise", 5))
        assert own.value == pytest.approx(value, abs=1e-6)
    assert any("p.npz holds probabilities" in caveat for caveat in found.caveats)


def test_exact_zeros_count_as_half_the_smallest_probability(place, run, tmp_path):
    parts = parts_of(place)
    hard = np.tile(np.array([0.0, 0.25, 0.75, 0.0]), (60, 1))
    path = changed(place, tmp_path / "p.npz", logits=hard)
    found = import_predictions([path], run, candidate="npu", of=OF, probabilities=True).results
    assert any("120 exact zeros count as 0.125" in caveat for caveat in found.caveats)
    (cell,) = [c for c in found.cells if c.condition == NOISE and c.candidate not in old(found)]
    kept = found.store.read_predictions(cell.key)
    np.testing.assert_allclose(np.exp(kept.logits), [[0.125, 0.25, 0.75, 0.125]] * 60, rtol=1e-6)
    assert len(parts["index"]) == 60


def old(results: Results) -> set[str]:
    return {c.key for c in results.candidates if c.recipe != "npu"}


def wrong(place: Path, target: Path, kind: str) -> Path:
    parts = parts_of(place)
    index, logits, hashes = parts["index"], parts["logits"], parts["sha256"]
    nan = logits.astype(np.float64)
    nan[3, 1] = np.nan
    other = parts_of(place, "gaussian_noise-1")["sha256"]
    few = {"index": index[1:], "logits": logits[1:], "sha256": hashes[1:], "latency_seconds": None}
    choices = {
        "missing": few,
        "twice": {"index": np.where(index == index[1], index[0], index)},
        "unknown": {"index": np.where(index == index[0], 5000, index)},
        "classes": {"logits": logits[:, :3]},
        "nan": {"logits": nan},
        "huge": {"logits": np.where(np.isnan(nan), 1e300, nan)},
        "hash": {"sha256": other},
        "shape": {"logits": logits[:, 0]},
        "rows": {"logits": logits[1:]},
        "no index": {"index": None},
        "floats": {"index": index + 0.5},
        "times": {"latency_seconds": np.zeros(60)},
        "probabilities": {"logits": np.full((60, 4), 0.25)},
        "boxes": {"logits": None, "boxes": np.zeros((60, 4))},
    }
    return changed(place, target, **choices[kind])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "must name every image of the run (60 images), got 1 missing: "),
        ("twice", "must name each image once (60 images), got 1 twice: "),
        ("unknown", "must name images of the run (60 images), got 1 unknown: 5000"),
        ("classes", "logits must have 4 classes, as in the run, got 3"),
        ("nan", "logits must be finite in 32 bits, got NaN or infinity for 1 image(s): index "),
        ("huge", "logits must be finite in 32 bits, got NaN or infinity for 1 image(s): index "),
        ("hash", "got other hashes for 60 of 60"),
        ("shape", "logits must be (N, classes) numbers, got (60,)"),
        ("rows", "logits must have one row per index (60), got (59, 4)"),
        ("no index", "must hold index, got logits"),
        ("floats", "index must be (N,) integers"),
        ("times", "latency_seconds must be finite numbers above 0"),
        ("probabilities", "say --probabilities"),
        ("boxes", "boxes cannot be imported"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_stored(place, run, tmp_path, kind, message):
    path = wrong(place, tmp_path / "wrong.npz", kind)
    files = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    with pytest.raises(ShrinkproofError, match=re.escape(message)):
        import_predictions([*predicted(place)[:1], path], run, candidate="npu", of=OF)
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == files


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"candidate": "prune0.5", "of": OF}, "must be a new name, got net/prune0.5"),
        ({"candidate": "baseline"}, "is not reserved, got 'baseline'"),
        ({"candidate": "a b"}, "got 'a b'"),
        ({"candidate": "other/npu"}, "must be a name, or net/NAME"),
        ({"candidate": "npu", "of": "net/none"}, "--of: must be one of net/baseline"),
        ({"candidate": "npu", "condition": "fog:3"}, "is about gaussian_noise:5, got --condition"),
        ({"candidate": "npu", "split": "select"}, "is about report, got --split select"),
    ],
)
def test_wrong_names_are_explained(place, run, tmp_path, settings, message):
    path = changed(place, tmp_path / "one.npz")
    with pytest.raises(ShrinkproofError, match=re.escape(message)):
        import_predictions([path], run, **settings)


def test_a_file_must_say_a_condition_that_the_run_measures(place, run, tmp_path):
    path = changed(place, tmp_path / "one.npz", condition=None)
    with pytest.raises(UsageError, match="must say its condition"):
        import_predictions([path], run, candidate="npu")
    with pytest.raises(UsageError, match="must be about what the run measures, got fog:3"):
        import_predictions([path], run, candidate="npu", condition="fog:3")
    found = import_predictions([path], run, candidate="npu", condition="gaussian_noise:5")
    assert found.of == "net/baseline"
    with pytest.raises(UsageError, match=r"made from net/baseline, got net/prune0\.5"):
        import_predictions([path], run, candidate="npu", condition="gaussian_noise:5", of=OF)


def test_hashes_need_a_kit_to_be_compared_with(place, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(DataError, match="write the kit from this run"):
        import_predictions(predicted(place), run, candidate="npu", of=OF)


def test_boxes_and_unknown_kinds_of_files_are_refused(run, tmp_path):
    with pytest.raises(UsageError, match="boxes in COCO JSON cannot be imported"):
        import_predictions([tmp_path / "b.json"], run, candidate="npu")
    with pytest.raises(UsageError, match=r"must be .npz or .parquet, got '.txt'"):
        import_predictions([tmp_path / "b.txt"], run, candidate="npu")
    (tmp_path / "b.npz").write_bytes(b"no zip")
    (tmp_path / "b.parquet").write_bytes(b"no table")
    whole = io.BytesIO()
    np.savez(whole, index=np.arange(9))
    (tmp_path / "cut.npz").write_bytes(whole.getvalue()[:200])
    for name in ("b.npz", "b.parquet", "cut.npz"):
        with pytest.raises(DataError, match="cannot be read as"):
            import_predictions([tmp_path / name], run, candidate="npu")


def test_a_target_that_disagrees_is_a_caveat(place, run, tmp_path):
    logits = parts_of(place, "clean")["logits"]
    path = changed(place, tmp_path / "clean.npz", "clean", logits=np.roll(logits, 1, axis=1))
    found = import_predictions([path], run, candidate="npu", of=OF, device="a chip")
    assert found.conditions[Condition()] < 0.99
    assert any("a chip predicts the class that net/prune0.5" in c for c in found.results.caveats)
