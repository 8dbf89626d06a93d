"""Average precision and recall against pycocotools, on random boxes and on real annotations."""

import contextlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.metrics.detection.coco import coco_numbers
from shrinkproof.predictions import DetectionPredictions, Objects

from ..random_boxes import random_boxes

pytestmark = pytest.mark.parity

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)


@pytest.fixture(scope="module")
def published():
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def numbers(predictions):
        objects = predictions.objects
        shared = {
            "images": [{"id": image + 1} for image in range(len(predictions))],
            "categories": [{"id": k + 1} for k in range(predictions.num_classes)],
        }
        true = rows(objects, objects.area)
        for row, is_crowd in zip(true, objects.crowd, strict=True):
            row["iscrowd"] = int(is_crowd)
        sides = (predictions.boxes[:, 2:] - predictions.boxes[:, :2]).astype(float)
        found = rows(predictions, sides.prod(axis=1))
        for row, score in zip(found, predictions.score.tolist(), strict=True):
            row.update(score=score, iscrowd=0)
        sets = []
        for annotations in (true, found):
            one = COCO()
            one.dataset = {**shared, "annotations": annotations}
            sets.append(one)
        with contextlib.redirect_stdout(io.StringIO()):
            for one in sets:
                one.createIndex()
            evaluation = COCOeval(*sets, "bbox")
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation.stats

    return numbers


def rows(boxes, area):
    sides = boxes.boxes.astype(float)
    sides[:, 2:] -= sides[:, :2]
    return [
        {"id": at + 1, "image_id": i + 1, "category_id": k + 1, "bbox": box, "area": one}
        for at, (i, k, box, one) in enumerate(
            zip(
                boxes.image.tolist(),
                boxes.label.tolist(),
                sides.tolist(),
                area.tolist(),
                strict=True,
            )
        )
    ]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("grid", [0.0, 20.0], ids=["any corners", "ties"])
@pytest.mark.parametrize("crowd", [0.0, 0.4], ids=["no crowds", "crowds"])
def test_random_boxes(published, seed, grid, crowd):
    predictions = random_boxes(
        seed, images=1 + 4 * seed, detections=40 * seed, grid=grid, crowd=crowd
    )
    assert list(coco_numbers(predictions).values()) == pytest.approx(
        published(predictions), abs=1e-9
    )


def test_more_detections_than_count(published):
    predictions = random_boxes(1, images=3, classes=2, detections=500)
    assert list(coco_numbers(predictions).values()) == pytest.approx(
        published(predictions), abs=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bccd", "coco128"])
def test_detections_around_real_annotations(published, name):
    file = DATA / "detection" / name / "instances.json"
    if not file.is_file():
        pytest.skip(f"no development data: {file} is absent")
    predictions = disturbed(annotated(json.loads(file.read_text())))
    assert list(coco_numbers(predictions).values()) == pytest.approx(
        published(predictions), abs=1e-9
    )


def annotated(stored):
    """The objects of a COCO file, and the number of its classes; every twentieth is a crowd."""
    label_of = {row["id"]: k for k, row in enumerate(stored["categories"])}
    annotations = sorted(stored["annotations"], key=lambda row: row["image_id"])
    image_of = {image: at for at, image in enumerate(sorted(i["id"] for i in stored["images"]))}
    boxes = np.array([row["bbox"] for row in annotations], dtype=float)
    boxes[:, 2:] += boxes[:, :2]
    counts = np.bincount(
        [image_of[row["image_id"]] for row in annotations], minlength=len(image_of)
    )
    objects = Objects(
        boxes=boxes,
        label=np.array([label_of[row["category_id"]] for row in annotations]),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        crowd=np.arange(len(annotations)) % 20 == 19,
        area=np.array([row["area"] for row in annotations]),
        sizes=np.full((len(image_of), 2), 640),
    )
    return objects, len(label_of)


def disturbed(given):
    """Three detections around each object, some of another class."""
    objects, classes = given
    draws = np.random.default_rng(0)
    at = np.repeat(np.arange(len(objects.label)), 3)
    sides = objects.boxes[at, 2:] - objects.boxes[at, :2]
    boxes = objects.boxes[at] + draws.normal(0, 0.1, (len(at), 4)) * np.tile(sides, 2)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    label = objects.label[at].copy()
    other = draws.random(len(at)) < 0.1
    label[other] = draws.integers(0, classes, other.sum())
    score = draws.random(len(at))
    order = np.lexsort((-score, objects.image[at]))
    return DetectionPredictions(
        boxes=boxes[order].astype(np.float32),
        score=score[order].astype(np.float32),
        label=label[order],
        offsets=3 * objects.offsets,
        objects=objects,
        index=np.arange(len(objects)),
        num_classes=classes,
    )
