"""How often the interval of the average precision contains what it is about."""

import numpy as np
import pytest

from shrinkproof.metrics.detection.average import AveragePrecision
from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.statistics import bootstrap_weights, replicated_interval

OBJECTS, DETECTIONS, FOUND = 8, 25, 0.8


def planted(images, classes, sharpness, seed):
    """Detections of a world: images differ in difficulty, class k is 1/k as frequent as the first.

    Right detections score higher than wrong ones by about twice the sharpness, in logits.
    """
    draws = np.random.default_rng(seed)
    share = 1 / np.arange(1, classes + 1)
    counts = draws.poisson(OBJECTS, images)
    true = boxes_of(draws, counts.sum())
    truth = Objects(
        boxes=true,
        label=draws.choice(classes, len(true), p=share / share.sum()),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        crowd=np.zeros(len(true), dtype=bool),
        area=(true[:, 2:] - true[:, :2]).prod(axis=1),
        sizes=np.full((images, 2), 1000),
    )
    hard = draws.gamma(2, 0.5, images)
    hits = np.flatnonzero(draws.random(len(true)) < FOUND)
    hit_image = truth.image[hits]
    near = true[hits] + draws.normal(0, 3, (len(hits), 4)) * hard[hit_image, None]
    right = sharpness + draws.normal(0, 1, len(hits)) - hard[hit_image] / 2
    wrong_image = np.repeat(np.arange(images), draws.poisson(DETECTIONS - OBJECTS * FOUND, images))
    wrong = draws.normal(-sharpness, 1, len(wrong_image))
    boxes = np.concatenate([near, boxes_of(draws, len(wrong))])
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    label = draws.choice(classes, len(wrong), p=share / share.sum())
    image = np.concatenate([hit_image, wrong_image])
    score = 1 / (1 + np.exp(-np.concatenate([right, wrong])))
    order = np.lexsort((-score, image))
    return DetectionPredictions(
        boxes=boxes[order].astype(np.float32),
        score=score[order].astype(np.float32),
        label=np.concatenate([truth.label[hits], label])[order],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(image, minlength=images))]),
        objects=truth,
        index=np.arange(images),
        num_classes=classes,
    )


def boxes_of(draws, count):
    corner = draws.uniform(0, 900, (count, 2))
    return np.concatenate([corner, corner + draws.uniform(20, 60, (count, 2))], axis=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "sharpness"),
    [(3, 0.2), pytest.param(20, 1.0, marks=pytest.mark.long)],
    ids=["hardly ranked", "rare classes"],
)
def test_the_interval_contains_the_mean_of_as_many_other_images(classes, sharpness):
    images = 40
    simulations = 60
    world = planted(images * simulations, classes, sharpness, seed=2)
    weights = bootstrap_weights(images, replicates=200, seed=0)
    metric, values, intervals = AveragePrecision(), [], []
    for first in range(0, len(world), images):
        predictions = world.take(np.arange(first, first + images))
        number = metric.replicated(predictions, weights)
        values.append(number.value)
        intervals.append(replicated_interval(number, images))
    mean = np.mean(values)
    stated = [one for one in intervals if one.is_stated]
    assert len(stated) > simulations / 2
    covered = np.mean([one.low <= mean <= one.high for one in stated])
    # Nominal 95 %; 60 simulations with 92 % fall below 0.80 once in 400 times.
    assert covered >= 0.80
