"""What the page of detectors reads from a run: bins of boxes, pictures, how much room they have."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.records import CLEAN, Condition
from shrinkproof.results import scenes
from shrinkproof.results.diagrams import box_reliability
from shrinkproof.results.pictures import ENDINGS, FOLDER, INDEX, Pictures, picture_name
from shrinkproof.results.scenes import scene_pictures
from shrinkproof.store import Store
from shrinkproof.study.picturing import MOST, backdrop, wanted_with_boxes

FOG = Condition("fog", 3)


def predictions(*score: float) -> DetectionPredictions:
    """Return boxes of one image, of which only the first stands on an object."""
    count = len(score)
    boxes = np.array([[20 * n, 0, 20 * n + 10, 10] for n in range(count)], dtype=np.float32)
    truth = Objects(
        boxes=np.array([[0.0, 0.0, 10.0, 10.0]]),
        label=np.array([0]),
        offsets=np.array([0, 1]),
        crowd=np.array([False]),
        area=np.array([100.0]),
        sizes=np.array([[200, 200]]),
    )
    return DetectionPredictions(
        boxes=boxes.reshape(-1, 4),
        score=np.array(score, dtype=np.float32),
        label=np.zeros(count, dtype=np.int64),
        offsets=np.array([0, count]),
        objects=truth,
        index=np.arange(1),
        num_classes=1,
    )


def test_bins_of_boxes_are_those_of_the_metric() -> None:
    metric = DetectionCalibrationError(bins=4, score=0.3)
    found = box_reliability(metric, [predictions(0.9, 0.8, 0.5, 0.1)])
    np.testing.assert_array_equal(found.low, [0.5, 0.75])
    np.testing.assert_array_equal(found.high, [0.75, 1.0])
    np.testing.assert_array_equal(found.count, [1, 2])
    np.testing.assert_allclose(found.confidence, [0.5, 0.85], rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, [0.0, 0.5])
    gap = (found.count * abs(found.confidence - found.accuracy)).sum() / found.count.sum()
    assert metric(predictions(0.9, 0.8, 0.5, 0.1)) == pytest.approx(gap)


def test_conditions_are_pooled_and_one_without_boxes_adds_nothing() -> None:
    metric = DetectionCalibrationError(bins=2)
    found = box_reliability(metric, [predictions(0.9), predictions(), predictions(0.7, 0.6)])
    np.testing.assert_array_equal(found.count, [3])
    np.testing.assert_allclose(found.accuracy, [2 / 3])


def exhibit(count: int, label: str = "net/int8", condition: str = "fog:3") -> dict[str, Any]:
    images = [{"index": index, "condition": condition} for index in range(count)]
    return {"candidate": label, "split": "report", "images": images}


def test_each_picture_is_wanted_once_and_hits_only_under_their_condition() -> None:
    scene = exhibit(1)
    wanted = wanted_with_boxes([scene, scene], [exhibit(2)])
    assert wanted == (("report", 0, CLEAN), ("report", 0, FOG), ("report", 1, FOG))
    assert wanted_with_boxes([exhibit(1, condition="")], []) == (("report", 0, CLEAN),)
    assert len(wanted_with_boxes([exhibit(MOST)], [])) == MOST


@pytest.mark.parametrize(("shape", "size"), [((40, 64), (64, 40)), ((480, 640), (320, 240))])
def test_pictures_below_boxes_keep_320_pixels(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    picture = Image.open(io.BytesIO(backdrop(np.full((*shape, 3), 127, dtype=np.uint8))))
    assert (picture.format, picture.size) == ("WEBP", size)


def test_pictures_of_both_kinds_are_found(tmp_path: Any) -> None:
    (tmp_path / FOLDER).mkdir()
    store = Store(tmp_path)
    names = [picture_name("report", 7 + n, FOG, ending) for n, ending in enumerate(ENDINGS)]
    for name in names:
        (tmp_path / FOLDER / name).write_bytes(name.encode())
    store.write_json(INDEX, dict.fromkeys(names, "x"))
    assert [Pictures(store).find("report", 7 + n, FOG) for n in range(2)] == [
        b"report-7-fog-3.png",
        b"report-8-fog-3.webp",
    ]


def results(pictures: dict[Any, bytes]) -> Any:
    found = {"detected-scenes": [exhibit(2)], "detected-images": []}
    return SimpleNamespace(
        exhibits=found.__getitem__,
        decision=None,
        printing="report",
        pictures=SimpleNamespace(find=lambda _, index, at: pictures.get((index, at))),
    )


def test_pictures_come_as_links_of_their_kind() -> None:
    kept = {(0, "clean"): b"RIFF-", (0, "fog:3"): b"PNG"}
    links = scene_pictures(results(kept))
    assert links == {
        (0, "clean"): "data:image/webp;base64,UklGRi0=",
        (0, "fog:3"): "data:image/png;base64,UE5H",
    }


def test_pictures_for_which_there_is_no_room_are_left_out(monkeypatch: Any) -> None:
    monkeypatch.setattr(scenes, "ROOM", 60)
    kept = {(0, "clean"): b"RIFF-", (0, "fog:3"): b"RIFF" * 90, (1, "clean"): b"PNG"}
    assert list(scene_pictures(results(kept))) == [(0, "clean"), (1, "clean")]
