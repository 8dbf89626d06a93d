"""Time of the metrics of detected boxes on 5,000 images by 100 boxes, one core.

    python benchmarks/detection.py

Times are processor time, as other work on the machine adds to the clock on the wall. Budgets: the
twelve COCO numbers in 10 s, calibration errors with 1,000 resampled data sets in 60 s.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import Any

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from shrinkproof.metrics import METRICS
from shrinkproof.metrics.detection.boxes import areas
from shrinkproof.metrics.detection.calibration import DetectionCalibrationError
from shrinkproof.metrics.detection.calibrators import KINDS, fit
from shrinkproof.metrics.detection.coco import coco_numbers
from shrinkproof.metrics.detection.matching import match
from shrinkproof.metrics.detection.null import detection_null
from shrinkproof.metrics.detection.operating import missed, operating_point
from shrinkproof.metrics.spelling import metric_of, spelled
from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.statistics import bootstrap_weights

IMAGES, DETECTIONS, CLASSES, OBJECTS, REPLICATES = 5_000, 100, 80, 20, 1_000
SIDE = 640


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one run."""
    start = time.process_time()
    work()
    return time.process_time() - start


def fresh(
    images: int = IMAGES,
    detections: int = DETECTIONS,
    classes: int = CLASSES,
    objects: int = OBJECTS,
) -> DetectionPredictions:
    """Return predictions that no metric has seen: a detection near each object, the others wrong.

    Scores are the probability to be right in the mean, so that calibration errors are small.
    """
    draws = np.random.default_rng(0)
    true, true_label = _boxes(draws, images, objects), draws.integers(0, classes, (images, objects))
    boxes, label = (
        _boxes(draws, images, detections),
        draws.integers(0, classes, (images, detections)),
    )
    aimed = min(objects, detections)
    boxes[:, :aimed] = true[:, :aimed] + draws.normal(0, 5, (images, aimed, 4))
    boxes[..., 2:] = np.maximum(boxes[..., 2:], boxes[..., :2] + 1)
    label[:, :aimed] = true_label[:, :aimed]
    score = draws.random((images, detections))
    score[:, :aimed] = np.sqrt(score[:, :aimed])
    order = np.argsort(-score, axis=1)
    truth = Objects(
        boxes=true.reshape(-1, 4),
        label=true_label.ravel(),
        offsets=np.arange(images + 1) * objects,
        crowd=draws.random(images * objects) < 0.01,
        area=areas(true.reshape(-1, 4)),
        sizes=np.full((images, 2), SIDE),
    )
    return DetectionPredictions(
        boxes=np.take_along_axis(boxes, order[..., None], 1).reshape(-1, 4).astype(np.float32),
        score=np.take_along_axis(score, order, 1).ravel().astype(np.float32),
        label=np.take_along_axis(label, order, 1).ravel(),
        offsets=np.arange(images + 1) * detections,
        objects=truth,
        index=np.arange(images),
        num_classes=classes,
    )


def _boxes(draws: np.random.Generator, images: int, count: int) -> np.ndarray[Any, Any]:
    corner = draws.uniform(0, SIDE - 140, (images, count, 2))
    return np.concatenate([corner, corner + draws.uniform(10, 120, corner.shape)], axis=2)


def published(predictions: DetectionPredictions) -> Sequence[float]:
    """Return the twelve numbers of pycocotools; what it prints is swallowed."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    objects = predictions.objects
    shared = {
        "images": [{"id": image + 1} for image in range(len(predictions))],
        "categories": [{"id": k + 1} for k in range(predictions.num_classes)],
    }
    true = _rows(objects, objects.area, iscrowd=objects.crowd.astype(int))
    found = _rows(predictions, areas(predictions.boxes), score=predictions.score)
    sets = [COCO(), COCO()]
    with contextlib.redirect_stdout(io.StringIO()):
        for one, annotations in zip(sets, (true, found), strict=True):
            one.dataset = {**shared, "annotations": annotations}
            one.createIndex()
        evaluation = COCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def _rows(boxes: Any, area: Any, **columns: Any) -> list[dict[str, Any]]:
    sides = boxes.boxes.astype(float)
    sides[:, 2:] -= sides[:, :2]
    parts = (boxes.image + 1, boxes.label + 1, sides, area, *columns.values())
    names = ("image_id", "category_id", "bbox", "area", *columns)
    return [
        {"id": at, **dict(zip(names, row, strict=True))}
        for at, row in enumerate(zip(*(part.tolist() for part in parts), strict=True), 1)
    ]


def ap() -> None:
    """Print the time of matching, of the COCO numbers, and of their resampled data sets."""
    small, few = fresh(72, DETECTIONS, 3, 12), bootstrap_weights(72, seed=0)
    line = seconds(lambda: METRICS.create("detection.ap").replicated(small, few))
    print(
        f"{line:8.2f} s  detection.ap and {REPLICATES:,} resampled data sets, 72 images, 3 classes"
    )
    predictions = fresh()
    weights = bootstrap_weights(IMAGES, replicates=REPLICATES, seed=0)
    print(
        f"{IMAGES:,} images, {DETECTIONS} detections and {OBJECTS} objects each, {CLASSES} classes"
    )
    print(f"{seconds(lambda: match(predictions)):8.2f} s  matching at one IoU")
    print(f"{seconds(lambda: operating_point(predictions)):8.2f} s  operating point")
    print(f"{seconds(lambda: missed(predictions, 0.5)):8.2f} s  misses by class and size")
    ours = seconds(lambda: coco_numbers(predictions))
    print(f"{ours:8.2f} s  twelve COCO numbers (budget 10 s)")
    for name in ("ap", "ap_small", "ap_medium", "ap_large", "ar100"):
        metric = METRICS.create(f"detection.{name}")
        spent = seconds(lambda metric=metric: metric.replicated(predictions, weights))
        print(f"{spent:8.2f} s  {metric.name} on {REPLICATES:,} resampled data sets")
    theirs: list[float] = []
    spent = seconds(lambda: theirs.extend(published(predictions)))
    worst = np.abs(np.array(theirs) - list(coco_numbers(predictions).values())).max()
    print(f"{spent:8.2f} s  pycocotools, {spent / ours:.1f} times as long; differs by {worst:.1e}")


def calibration() -> None:
    """Print the time of calibration errors with intervals, of null level and of corrections."""
    predictions = fresh()
    weights = bootstrap_weights(IMAGES, replicates=REPLICATES, seed=0)
    print(f"calibration, all with {REPLICATES:,} resampled data sets (D-ECE and LaECE in 60 s)")
    spent = seconds(lambda: [match(predictions, iou) for iou in (0.5, 0.1, 0.0)])
    print(f"{spent:8.2f} s  matching at three IoUs, once for all")
    for settings in ("", "of=all", "score=0", "score=0,of=all"):
        for name in ("d_ece", "laece", "laace"):
            if "of" in settings and name != "d_ece":
                continue
            metric = metric_of(f"detection.{name}[{settings}]" if settings else f"detection.{name}")
            spent = seconds(lambda metric=metric: metric.replicated(predictions, weights))
            stated = seconds(lambda metric=metric: metric.interval(predictions, weights, IMAGES))
            print(f"{spent:8.2f} s  {spelled(metric)}; {stated:.2f} s with its interval instead")
    spent = seconds(lambda: detection_null(predictions, DetectionCalibrationError(), seed=0))
    print(f"{spent:8.2f} s  null level of detection.d_ece, 1,000 simulated detectors")
    for kind in KINDS:
        print(f"{seconds(lambda kind=kind: fit(kind, predictions)):8.2f} s  {kind} correction")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{peak:8.2f} GB largest memory so far")


def main() -> None:
    """Print one line for each piece of work."""
    calibration()
    ap()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{peak:8.2f} GB largest memory, pycocotools included")


if __name__ == "__main__":
    main()
