"""Pictures of the images hit hardest: made once, kept true, removed when nobody shows them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shrinkproof.records import CLEAN, Condition
from shrinkproof.results import Results
from shrinkproof.results.pictures import FOLDER, INDEX
from shrinkproof.store import Store
from shrinkproof.study import Inputs, picturing
from shrinkproof.study.picturing import keep_pictures, thumbnail, wanted_of
from shrinkproof.study.progress import Silence


class Listener(Silence):
    def __init__(self) -> None:
        self.stages: dict[str, int] = {}
        self.warnings: list[str] = []

    def begin(self, stage: str, total: int) -> None:
        self.stages[stage] = total

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def exhibit(*images: tuple[int, list[str]]) -> dict[str, Any]:
    found = [{"index": index, "under": under} for index, under in images]
    return {"split": "report", "images": found}


def inputs_of(run: Path) -> Inputs:
    return Inputs.from_json(Store(run).read_json("inputs.json"))


def keep(run: Path) -> Listener:
    listener = Listener()
    keep_pictures(Results.load(run), inputs_of(run), listener)
    return listener


def pixels(png: bytes | None) -> np.ndarray:
    assert png is not None
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_clean_and_the_mildest_condition_are_wanted_once() -> None:
    fog, noise = Condition("fog", 2), Condition("gaussian_noise", 1)
    one = exhibit((4, ["clean", "fog:5", "fog:2"]), (5, ["clean"]))
    other = exhibit((4, ["fog:2"]), (6, ["gaussian_noise:1"]))
    assert wanted_of([one, other]) == (
        ("report", 4, CLEAN),
        ("report", 4, fog),
        ("report", 5, CLEAN),
        ("report", 6, CLEAN),
        ("report", 6, noise),
    )


def test_there_are_never_more_than_a_run_may_keep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picturing, "MOST", 5)
    many = exhibit(*((at, ["fog:1"]) for at in range(9)))
    assert len(wanted_of([many])) == 4, "an image has both of its pictures or none"


@pytest.fixture
def run(run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with pictures; its networks are too alike to have images hit hardest of their own."""
    monkeypatch.setattr(picturing, "wanted_of", lambda _: shots_of(run_copy))
    assert keep(run_copy).stages == {"picture": 3}
    return run_copy


def shots_of(run: Path) -> tuple[tuple[str, int, Condition], ...]:
    index = inputs_of(run).splits(["report"]).sets["report"].index.tolist()
    return (
        ("report", index[3], CLEAN),
        ("report", index[3], Condition("gaussian_noise", 5)),
        ("report", index[40], CLEAN),
        ("report", index[40], Condition("contrast", 3)),
    )


def test_pictures_show_what_was_measured(run: Path) -> None:
    results = Results.load(run)
    inputs = inputs_of(run)
    images = inputs.splits(["report"]).sets["report"]
    for split, index, condition in shots_of(run):
        at = int(np.flatnonzero(images.index == index)[0])
        shown = images.images[np.array([at])][0]
        if not condition.is_clean:
            batches = inputs.world(images).batches(images, condition, len(images))
            shown = next(iter(batches))[1][at]
        np.testing.assert_array_equal(pixels(results.pictures.find(split, index, condition)), shown)


def test_a_run_without_images_hit_hardest_has_no_pictures(finished_run: Path) -> None:
    assert not any(item["images"] for item in Results.load(finished_run).exhibits("exemplars"))
    assert not (finished_run / FOLDER).exists()


def test_pictures_go_with_the_last_image_that_is_shown(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picturing, "wanted_of", lambda _: ())
    assert keep(run).stages == {}
    assert not list((run / FOLDER).glob("*.png"))


def test_nothing_is_made_twice(run: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in (run / FOLDER).iterdir()}
    assert keep(run).stages == {}
    assert {path: path.stat().st_mtime_ns for path in (run / FOLDER).iterdir()} == files


def test_missing_stale_and_foreign_pictures_are_repaired(run: Path) -> None:
    first, second, *_ = sorted((run / FOLDER).glob("*.png"))
    expected = [first.read_bytes(), second.read_bytes()]
    first.unlink()
    second.write_bytes(b"old")
    (run / FOLDER / "report-999999-clean.png").write_bytes(b"nobody shows it")
    index = Store(run).read_json(INDEX)
    Store(run).write_json(INDEX, {**index, second.name: "of another time"})
    assert keep(run).stages.keys() == {"picture"}
    assert [first.read_bytes(), second.read_bytes()] == expected
    assert not (run / FOLDER / "report-999999-clean.png").exists()


def test_a_picture_that_cannot_be_made_costs_a_warning_only(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / INDEX).unlink()

    def broken(_: np.ndarray) -> bytes:
        raise OSError("no space")

    monkeypatch.setattr(picturing, "thumbnail", broken)
    (warning,) = keep(run).warnings
    assert warning == "pictures of the images hit hardest: no space"


def test_large_images_are_reduced_and_small_ones_kept() -> None:
    large = np.zeros((200, 400, 3), np.uint8)
    assert pixels(thumbnail(large)).shape == (48, 96, 3)
    small = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    np.testing.assert_array_equal(pixels(thumbnail(small)), small)
