"""Covering windows: exact for linear networks, and asked no more often than said."""

import numpy as np
import pydantic
import pytest

from shrinkproof.attributions.occlusion import Occlusion
from shrinkproof.errors import DataError, UsageError

from .candidate import STREAM, Function, images, labels

WEIGHT = np.random.default_rng(5).normal(size=(2, 3, 6, 6))


def linear(inputs):
    return np.einsum("kchw,nchw->nk", WEIGHT, inputs).astype(np.float32)


def maps(method, predict, inputs, target, **members):
    return method.maps(Function(predict, **members), inputs, target, stream=STREAM)


def test_by_hand():
    """Three windows of two pixels on a row of four: the sums 3, 5 and 7; their means per pixel."""
    image = np.array([1.0, 2.0, 3.0, 4.0], dtype=np.float32).reshape(1, 1, 1, 4)
    tall = np.repeat(image, 2, axis=2) / 2
    method = Occlusion(window=2, stride=1)
    found = maps(method, lambda x: x.sum((2, 3)), tall, labels(0))
    np.testing.assert_allclose(found[0], [[3, 4, 6, 7]] * 2, rtol=1e-6)
    assert method.resolution(Function(None), tall) == (1, 3)


@pytest.mark.parametrize("fill", ["black", "zero", "mean"])
@pytest.mark.parametrize(("window", "stride"), [(1, 1), (3, 2), (4, 4), (5, 4), (6, 6)])
def test_a_plain_loop_agrees(window, stride, fill):
    black = np.array([-2.0, -1.0, 0.5], dtype=np.float32)
    inputs, target = images(2, side=6), labels(0, 1)
    shown = {"black": black[:, None, None], "zero": 0.0}
    total, count = np.zeros((2, 6, 6)), np.zeros((6, 6))
    starts = [0]
    while starts[-1] + window < 6:
        starts.append(starts[-1] + stride)
    for top in starts:
        for left in starts:
            place = np.s_[top : top + window, left : left + window]
            count[place] += 1
            for i, label in enumerate(target):
                empty = shown.get(fill, inputs[i].mean(axis=(1, 2))[:, None, None])
                part = (WEIGHT[label] * (inputs[i] - empty))[:, *place]
                total[i][place] += part.sum()
    method = Occlusion(window=window, stride=stride, fill=fill)
    found = maps(method, linear, inputs, target, black=black)
    np.testing.assert_allclose(found, total / count, rtol=1e-3, atol=1e-4)
    assert method.resolution(Function(None), inputs) == (len(starts), len(starts))


def test_probability_and_logit_differ():
    inputs, target = images(2, side=6), labels(0, 1)
    logit = maps(Occlusion(window=3, stride=3), linear, inputs, target)
    probability = maps(Occlusion(window=3, stride=3, output="probability"), linear, inputs, target)
    assert np.abs(probability).max() <= 1 < np.abs(logit).max()


def test_every_window_is_asked_once():
    asked = []

    def predict(inputs):
        asked.append(len(inputs))
        return linear(inputs)

    maps(Occlusion(window=2, stride=2), predict, images(4, side=6), labels(0, 1, 0, 1))
    assert asked == [4] * (1 + 9)


def test_a_constant_network_has_a_map_of_zeros():
    found = maps(Occlusion(), lambda x: np.ones((len(x), 3)), images(2), labels(0, 2))
    np.testing.assert_array_equal(found, np.zeros((2, 16, 16)))


def test_settings_that_leave_pixels_out_or_reach_too_far():
    with pytest.raises(pydantic.ValidationError, match="stride must be at most the window of 3"):
        Occlusion(window=3, stride=4)
    with pytest.raises(UsageError, match="window must be at most the side of the images, 6, got 8"):
        maps(Occlusion(), linear, images(1, side=6), labels(0))


@pytest.mark.parametrize(
    ("predict", "sentence"),
    [
        (lambda x: x.mean((2, 3))[:, 0], r"must give \(1, classes\) logits"),
        (lambda x: x.mean((2, 3))[:, :1], "with a class 2, got an output of shape"),
        (lambda x: np.full((len(x), 3), np.nan), "logits must be finite, got NaN or infinity"),
    ],
)
def test_predictions_that_are_none(predict, sentence):
    with pytest.raises(DataError, match=sentence):
        maps(Occlusion(), predict, images(1), labels(2))
