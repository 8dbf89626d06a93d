"""Where a study's corrupted images come from, and that every record of them says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from shrinkproof.data.splits import load_images
from shrinkproof.engines.processes import Processes
from shrinkproof.environment import capture
from shrinkproof.errors import DataError, SpecError
from shrinkproof.evaluators.world import Generated, Stored
from shrinkproof.records import STANDARD_15, Condition
from shrinkproof.results import Results
from shrinkproof.stored import open_stored
from shrinkproof.stored.writing import write_corrupted_set
from shrinkproof.study import Study
from shrinkproof.study.inputs import Inputs
from shrinkproof.study.plan import Plan, make_plan

from ..study_builder import STUDY, comparable, write_study

SMALL = (
    STUDY.split("recipes:")[0]
    + """\
recipes:
  cluster8:
    steps:
      - cluster: {levels: 8}
conditions:
  CONDITIONS
measure: {intervals: {replicates: 100}, scores: [accuracy.top1, calibration.ece]}
select: {minimize: [robustness.mean_error, cost.bytes_zip]}
"""
)


def small(conditions: str, data: str = "") -> str:
    text = SMALL.replace("CONDITIONS", conditions)
    return text.replace("  preset: cifar\n", data) if data else text


def photos(folder: Path, shade: int) -> Path:
    """Five flat frost photos of one shade."""
    folder.mkdir()
    for name in ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg"):
        Image.new("RGB", (300, 200), (shade, shade, shade)).save(folder / name)
    return folder


def run(folder: Path, text: str) -> Results:
    return Study(Inputs.load(write_study(folder, text))).run(folder / "run")


def plan(folder: Path, text: str, roots: dict[str, Path] | None = None) -> Plan:
    return make_plan(Inputs.load(write_study(folder, text), roots=roots), capture())


def keys(plan: Plan, corruption: str) -> set[str]:
    return {cell.key for cell in plan.cells if cell.condition.corruption == corruption}


def reasons(results: Results, condition: str) -> set[str]:
    return {r.reason for r in results.records if r.condition == condition and r.status == "ok"}


@pytest.mark.slow
def test_every_record_under_frost_says_which_frost(tmp_path: Path) -> None:
    results = run(tmp_path / "a", small("frost: [3]\n  fog: [3]"))
    assert results.failures == ()
    told = "procedural frost"
    frost = [r for r in results.records if r.condition in ("frost", "corrupted")]
    assert len(frost) > 10
    assert all(told in r.reason for r in frost), [r for r in frost if told not in r.reason]
    assert not any(told in r.reason for r in results.records if r.condition in ("fog", "clean"))
    assert any("frost is procedural" in caveat for caveat in results.caveats)


def test_photos_change_the_key_and_the_label(tmp_path: Path) -> None:
    text = small("frost: [5]\n  fog: [5]", "  preset: cifar\n  frost: photos\n")
    dark, light = (
        plan(tmp_path / "a", text, roots={"frost_dir": photos(tmp_path / str(shade), shade)})
        for shade in (0, 255)
    )
    told = [x.origins["report"]["frost:5"] for x in (dark, light)]
    assert told[0] != told[1]
    assert all(text.startswith("frost photos (photos:") for text in told)
    assert set(dark.origins["report"]) == {"frost:5"}
    assert not keys(dark, "frost") & keys(light, "frost")
    assert keys(dark, "fog") == keys(light, "fog")
    assert not any("procedural" in note for note in dark.notes)


def test_photos_without_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHRINKPROOF_FROST_DIR", raising=False)
    text = small("frost: [3]", "  preset: cifar\n  frost: photos\n")
    file = write_study(tmp_path / "a", text)
    with pytest.raises(SpecError, match="--root frost_dir=DIR"):
        Inputs.load(file).check_present()
    monkeypatch.setenv("SHRINKPROOF_FROST_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="nowhere"):
        Inputs.load(file).check_present()
    monkeypatch.setenv("SHRINKPROOF_FROST_DIR", str(photos(tmp_path / "photos", 9)))
    Inputs.load(file).check_present()


def test_jpeg85_changes_the_key_and_the_label(tmp_path: Path) -> None:
    saved = plan(tmp_path / "a", small("fog: [3]", "  preset: tiny\n  jpeg85: true\n"))
    plain = plan(tmp_path / "b", small("fog: [3]", "  preset: tiny\n"))
    told = "images saved as JPEG of quality 85, as the published files are"
    assert saved.origins == {split: {"fog:3": told} for split in ("select", "report")}
    assert plain.origins == {"select": {}, "report": {}}
    assert not keys(saved, "fog") & keys(plain, "fog")
    (note,) = [n for n in plain.notes if "made for 64 x 64" in n]
    assert note.startswith("select and report:")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("  preset: cifar\n  jpeg85: true\n", "jpeg85 must go with one of the presets tiny"),
        ("  preset: cifar\n  stored: cifar-c:x\n", "'stored' must stand without preset"),
        ("  stored: cifar-d:x\n", "did you mean 'cifar-c'"),
        ("  stored: cifar-c:nowhere\n", "nowhere"),
        ("  preset: cifar\n  frost: photo\n", "frost"),
    ],
)
def test_settings_that_do_not_fit(tmp_path: Path, data: str, message: str) -> None:
    file = write_study(tmp_path / "a", small("fog: [3]", data))
    with pytest.raises(SpecError, match=message):
        Inputs.load(file).check_present()


@pytest.mark.slow
def test_all_corruptions_agree_between_one_process_and_two(tmp_path: Path) -> None:
    text = small("all: {use: all-corruptions, severities: [5]}")
    one = run(tmp_path / "a", text)
    assert one.failures == ()
    assert {c.condition.corruption for c in one.cells} > set(STANDARD_15)
    # Some cells are made again by two processes, the others stay.
    (tmp_path / "b").mkdir()
    shutil.copytree(tmp_path / "a" / "run", tmp_path / "b" / "run")
    removed = sorted((tmp_path / "b" / "run" / "cells").glob("*.jsonl"))[::3]
    assert removed
    for path in removed:
        path.unlink()
    study = Study(Inputs.load(tmp_path / "a" / "study.yaml"))
    study.run(tmp_path / "b" / "run", engine=Processes(workers=2))
    assert comparable(tmp_path / "b" / "run") == comparable(tmp_path / "a" / "run")


def stored_set(folder: Path, names: tuple[str, ...]) -> Path:
    """A set in the format of CIFAR-10-C over the 120 test images of the small study."""
    with np.load(folder / "test.npz") as file:
        images, target = file["images"], file["target"]
    place = folder / "published"
    place.mkdir()
    for name in names:
        np.save(place / f"{name}.npy", np.concatenate([images // s for s in (1, 2, 3, 4, 5)]))
    np.save(place / "labels.npy", np.tile(target, 5))
    return place


def test_stored_images_are_read_and_told(tmp_path: Path) -> None:
    text = small("fog: [1, 5]", "  stored: cifar-c:published\n")
    file = write_study(tmp_path / "a", text)
    stored_set(tmp_path / "a", ("fog",))
    results = Study(Inputs.load(file)).run(tmp_path / "a" / "run")
    assert results.failures == ()
    assert all("cifar-c:published" in reason for reason in reasons(results, "fog"))
    # Severity 1 of this set are the clean images: the same numbers as on clean images.
    rows = [r for r in results.records if r.evaluator == "scores"]
    clean = {(r.recipe, r.split, r.metric, r.value) for r in rows if r.condition == "clean"}
    fog = {(r.recipe, r.split, r.metric, r.value) for r in rows if str(r.severity) == "1"}
    assert set(fog) <= set(clean)
    assert len(fog) >= 8


def test_a_stored_set_that_does_not_fit_is_refused_when_planning(tmp_path: Path) -> None:
    file = write_study(tmp_path, small("fog: [1, 5]", "  stored: cifar-c:published\n"))
    place = stored_set(tmp_path, ("frost",))
    with pytest.raises(DataError, match=r"fog\.npy"):
        make_plan(Inputs.load(file), capture())
    np.save(place / "fog.npy", np.load(place / "frost.npy"))
    make_plan(Inputs.load(file), capture())
    np.save(place / "labels.npy", 3 - np.load(place / "labels.npy"))
    with pytest.raises(DataError, match="label"):
        make_plan(Inputs.load(file), capture())


def test_a_set_of_our_own_shows_what_a_study_makes(tmp_path: Path) -> None:
    """Made on the way with jpeg85, or written as JPEG files and read: the same pixels."""
    rng = np.random.default_rng(0)
    for number in range(6):
        place = tmp_path / "clean" / f"class{number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8), (64, 64))
        Image.fromarray(pixels).save(place / f"{number}.png")
    roots = {"study": tmp_path}
    images = load_images("imagefolder:clean", roots)
    conditions = tuple(Condition(name, s) for name in ("fog", "glass_blur") for s in (2, 5))
    write_corrupted_set(
        images,
        tmp_path / "published",
        corruptions=("fog", "glass_blur"),
        severities=(2, 5),
        preset="tiny",
        seed=7,
    )
    made = Generated("tiny", 7, jpeg85=True)
    read = Stored(open_stored("imagenet-c:published", roots))
    read.check(images, conditions)
    for condition in conditions:
        (one,) = made.batches(images, condition, 10)
        two = list(read.batches(images, condition, 4))
        np.testing.assert_array_equal(one[1], np.concatenate([batch for _, batch in two]))
        assert "imagenet-c:published" in read.origin(condition)
    assert len({str(read.identity(condition)) for condition in conditions}) == 4
