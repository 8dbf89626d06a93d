"""Maps of the input's own size: exact for linear networks, complete for others."""

import numpy as np
import pydantic
import pytest
import torch
from torch import nn

from shrinkproof.attributions.gradients import GradientTimesInput, IntegratedGradients
from shrinkproof.attributions.images import without_content
from shrinkproof.errors import DataError, ModelError, UsageError
from shrinkproof.testing import tiny_model

from .candidate import STREAM, Candidate, Function, images, labels, with_weights

METHODS = [GradientTimesInput(), GradientTimesInput(samples=3, noise=0.1), IntegratedGradients()]
ids = pytest.mark.parametrize("method", METHODS, ids=["plain", "smooth", "integrated"])
EMPTY = pytest.mark.parametrize("empty", ["black", "zero", "mean", "blur"])
BLACK = np.array([-2.0, -1.5, -1.0], dtype=np.float32)


def linear(side=4):
    return with_weights(nn.Sequential(nn.Flatten(), nn.Linear(3 * side * side, 2)))


def weight_of(module, target, side=4):
    return module.get_parameter("1.weight").detach().numpy()[target].reshape(-1, 3, side, side)


def maps(method, module, inputs, target):
    return method.maps(Candidate(module, black=BLACK), inputs, target, stream=STREAM)


def test_gradient_times_input_of_a_linear_network_is_weight_times_input():
    module, inputs, target = linear(), images(3, side=4), labels(0, 1, 1)
    expected = (weight_of(module, target) * inputs).sum(axis=1)
    np.testing.assert_allclose(maps(GradientTimesInput(), module, inputs, target), expected, 1e-5)


def test_noise_does_not_change_the_map_of_a_linear_network():
    module, inputs, target = linear(), images(3, side=4), labels(0, 1, 1)
    plain = maps(GradientTimesInput(), module, inputs, target)
    smooth = maps(GradientTimesInput(samples=4, noise=0.3), module, inputs, target)
    np.testing.assert_allclose(smooth, plain, rtol=1e-5)


def test_smoothing_is_the_mean_gradient_over_noisy_copies():
    module, inputs, target = tiny_model(), images(2), labels(0, 3)
    method = GradientTimesInput(samples=5, noise=0.2)
    draws = STREAM("noise")
    total = np.zeros(inputs.shape)
    for _ in range(5):
        noise = draws.normal(size=inputs.shape[1:])
        ranges = [0.2 * (image.max() - image.min()) for image in inputs]
        noisy = np.stack([i + r * noise for i, r in zip(inputs, ranges, strict=True)])
        x = torch.from_numpy(noisy.astype(np.float32)).requires_grad_()
        logits = module(x)
        (logits[0, 0] + logits[1, 3]).backward()
        total += x.grad.numpy()
    expected = (total / 5 * inputs).sum(axis=1)
    found = maps(method, module, inputs, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(found - maps(GradientTimesInput(), module, inputs, target)).max() > 1e-3


@EMPTY
def test_integrated_gradients_of_a_linear_network_are_exact_with_one_step(empty):
    module, inputs, target = linear(), images(3, side=4), labels(0, 1, 1)
    start = without_content(empty, Candidate(module, black=BLACK), inputs)
    expected = (weight_of(module, target) * (inputs - start)).sum(axis=1)
    found = maps(IntegratedGradients(steps=1, baseline=empty), module, inputs, target)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@EMPTY
def test_integrated_gradients_add_up_to_the_difference_of_the_logits(empty):
    module, inputs, target = tiny_model(), images(2), labels(0, 3)
    subject = Candidate(module, black=BLACK)
    start = np.ascontiguousarray(without_content(empty, subject, inputs))
    rows = np.arange(2)
    expected = (subject.predict(inputs) - subject.predict(start))[rows, target]
    found = maps(IntegratedGradients(steps=100, baseline=empty), module, inputs, target)
    np.testing.assert_allclose(found.sum(axis=(1, 2)), expected, atol=0.02)


def test_images_without_content():
    inputs, subject = images(2, side=32), Candidate(None, black=BLACK)
    black, zero, mean, blur = (
        without_content(kind, subject, inputs) for kind in ("black", "zero", "mean", "blur")
    )
    assert (black == BLACK[:, None, None]).all()
    assert not zero.any()
    np.testing.assert_allclose(mean[1, 2], inputs[1, 2].mean(), atol=1e-6)
    assert np.ptp(blur) < 0.1 * np.ptp(inputs)
    np.testing.assert_allclose(blur.mean(axis=(2, 3)), inputs.mean(axis=(2, 3)), atol=1e-6)
    flat = np.full((1, 3, 8, 8), 0.7, dtype=np.float32)
    np.testing.assert_allclose(without_content("blur", subject, flat), flat, atol=1e-6)
    assert {a.dtype for a in (black, zero, mean, blur)} == {np.dtype(np.float32)}


def test_black_must_have_a_value_for_each_channel():
    with pytest.raises(DataError, match=r"black: must be \(1,\), .* got \(3,\)"):
        without_content("black", Candidate(None, black=BLACK), images(1, channels=1))


def test_samples_without_noise_would_be_the_same():
    with pytest.raises(pydantic.ValidationError, match="samples must be 1 without noise, got 8"):
        GradientTimesInput(samples=8)


@ids
def test_the_first_layer_may_write_in_place(method):
    def build(in_place):
        module = nn.Sequential(nn.ReLU(inplace=in_place), nn.Flatten(), nn.Linear(48, 2))
        return with_weights(module)

    inputs, target = images(3, side=4), labels(0, 1, 1)
    expected = maps(method, build(in_place=False), inputs, target)
    np.testing.assert_array_equal(maps(method, build(in_place=True), inputs, target), expected)


@ids
def test_a_map_depends_on_its_image_alone(method):
    module, inputs, target = tiny_model(), images(4), labels(0, 1, 2, 3)
    together = maps(method, module, inputs, target)
    alone = [maps(method, module, inputs[i : i + 1], target[i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)
    assert method.resolution(Candidate(module), inputs) == (16, 16)


@ids
def test_without_a_network_another_method_is_named(method):
    for work in (method.maps, method.resolution):
        arguments = (images(1), labels(0)) if work == method.maps else (images(1),)
        stream = {"stream": STREAM} if work == method.maps else {}
        with pytest.raises(UsageError, match="use occlusion or rise"):
            work(Function(None), *arguments, **stream)


@ids
def test_a_network_that_stops_gradients(method):
    class Stopped(nn.Module):
        def forward(self, x):
            return x.detach().mean((2, 3))

    with pytest.raises(ModelError, match="must pass gradients to its input, got none"):
        maps(method, Stopped().eval(), images(1), labels(0))
