"""Maps of a layer: closed forms, literal formulas, and networks that are awkward to look into."""

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.attributions.cam import EigenCam, GradCam, GradCamPlusPlus
from shrinkproof.attributions.network import activations, activations_and_gradients
from shrinkproof.errors import DataError, UnknownNameError, UsageError
from shrinkproof.testing import tiny_model

from .candidate import STREAM, Candidate, Function, images, labels, one_by_one, with_weights

IMAGE = np.array([[[[1.0, 2.0], [-3.0, 0.0]]]], dtype=np.float32)
"""Behind the rectifier: channel 0 is (1, 2; 0, 0), channel 1 is (0, 0; 3, 0)."""

METHODS = [GradCam(), GradCamPlusPlus(), EigenCam()]
ids = pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)


def maps(method, module, inputs, target, layer=None):
    return method.maps(Candidate(module, layer), inputs, target, stream=STREAM)


def test_gradcam_by_hand():
    """With a global average the weights are those of the linear layer, divided by 4 places."""
    found = maps(GradCam(rectified=False), one_by_one(), IMAGE, labels(0), "1")
    np.testing.assert_allclose(found, [[[1.0, 2.0], [-6.0, 0.0]]], atol=1e-6)
    other = maps(GradCam(), one_by_one(), IMAGE, labels(1), "1")
    np.testing.assert_allclose(other, [[[0.0, 0.0], [3.0, 0.0]]], atol=1e-6)


def test_gradcam_is_the_class_activation_map_behind_a_global_average():
    module, inputs, target = tiny_model(), images(4), labels(0, 1, 2, 3)
    found = maps(GradCam(rectified=False), module, inputs, target, "6")
    behind = activations("test", module, "6", inputs).numpy()
    weight = module.get_parameter("9.weight").detach().numpy()[target]
    np.testing.assert_allclose(found, np.einsum("nk,nkij->nij", weight, behind) / 64, atol=1e-6)


def test_rectified_sets_negative_values_to_zero():
    inputs, target = images(4), labels(0, 1, 2, 3)
    signed = maps(GradCam(rectified=False), tiny_model(), inputs, target)
    assert signed.min() < 0 < signed.max()
    np.testing.assert_array_equal(
        maps(GradCam(), tiny_model(), inputs, target), np.maximum(signed, 0)
    )


def test_gradcam_plus_plus_by_hand():
    """Gradients of class 0 are 1 and -2 everywhere, the sums of the channels 3 and 3."""
    found = maps(GradCamPlusPlus(), one_by_one(), IMAGE, labels(0), "1")
    weight = 4 * 1 / (2 + 1 * 3)
    np.testing.assert_allclose(found, [[[weight, 2 * weight], [0.0, 0.0]]], atol=1e-6)


def test_gradcam_plus_plus_is_the_published_formula():
    module, inputs, target = tiny_model(), images(4), labels(0, 1, 2, 3)
    found, slope = (
        t.double().numpy() for t in activations_and_gradients("test", module, "3", inputs, target)
    )
    bottom = 2 * slope**2 + slope**3 * found.sum(axis=(2, 3), keepdims=True)
    share = np.divide(slope**2, bottom, out=np.zeros_like(slope), where=bottom != 0)
    weight = (share * np.maximum(slope, 0)).sum(axis=(2, 3), keepdims=True)
    expected = np.maximum((weight * found).sum(axis=1), 0)
    got = maps(GradCamPlusPlus(), module, inputs, target, "3")
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("side", [4, 2], ids=["fewer channels", "fewer places"])
def test_eigencam_is_the_projection_on_numpys_first_singular_vector(side):
    module = with_weights(nn.Sequential(nn.Conv2d(3, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, side)))
    module.append(nn.Flatten())
    inputs = images(5, side=side)
    got = maps(EigenCam(), module, inputs, labels(*[0] * 5), "1")
    for image, found in zip(
        activations("test", module, "1", inputs).double().numpy(), got, strict=True
    ):
        matrix = image.reshape(6, -1).T
        expected = matrix @ np.linalg.svd(matrix)[2][0]
        expected *= np.sign(expected.sum())
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5, atol=1e-6)


def test_eigencam_is_nowhere_negative_behind_a_rectifier():
    assert maps(EigenCam(), tiny_model(), images(4), labels(0, 1, 2, 3), "6").min() > -1e-6


@ids
def test_a_layer_without_signal_gives_a_constant_map(method):
    module = tiny_model()
    with torch.no_grad():
        module.get_parameter("5.weight").zero_()
        module.get_parameter("5.bias").fill_(-1.0)
    found = maps(method, module, images(2), labels(0, 1), "6")
    np.testing.assert_array_equal(found, np.zeros((2, 8, 8)))


@ids
def test_writing_in_place_changes_nothing(method):
    def build(in_place):
        return with_weights(
            nn.Sequential(
                *(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(inplace=in_place)),
                *(nn.Conv2d(5, 4, 3), nn.ReLU(inplace=in_place)),
                *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
            )
        )

    inputs, target = images(3), labels(0, 1, 2)
    for layer in ("1", "2", "3", "4"):
        expected = maps(method, build(in_place=False), inputs, target, layer)
        np.testing.assert_array_equal(
            maps(method, build(in_place=True), inputs, target, layer), expected
        )


class Reused(nn.Module):
    """One rectifier at three places, as in torchvision's residual networks."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.last = nn.Identity()
        self.unused = nn.Conv2d(3, 4, 3)
        self.aside = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.first(x))
        self.aside(x)
        x = self.last(self.relu(self.second(x) + x))
        return self.head(x.mean((2, 3)))


@ids
def test_of_a_module_that_is_used_twice_the_last_call_counts(method):
    module, inputs, target = with_weights(Reused()), images(3), labels(0, 1, 2)
    expected = maps(method, module, inputs, target, "last")
    np.testing.assert_array_equal(maps(method, module, inputs, target, "relu"), expected)


@ids
def test_a_map_depends_on_its_image_alone(method):
    module, inputs, target = tiny_model(), images(6), labels(0, 1, 2, 3, 0, 1)
    together = maps(method, module, inputs, target)
    alone = [maps(method, module, inputs[i : i + 1], target[i : i + 1])[0] for i in range(6)]
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-5)


@ids
def test_the_resolution_is_that_of_the_layer(method):
    assert method.resolution(Candidate(tiny_model(), "0"), images(1)) == (16, 16)
    assert method.resolution(Candidate(tiny_model()), images(1, side=18)) == (9, 9)


@pytest.mark.parametrize(
    ("layer", "error", "sentence"),
    [
        ("frist", UnknownNameError, "unknown layer 'frist'; did you mean 'first'"),
        ("unused", UsageError, "'unused': must be called"),
        ("head", UsageError, r"'head': its output must be spatial.*got \(1, 3\)"),
        ("aside", UsageError, "'aside': must lead to the logits, got no gradient"),
    ],
)
def test_layers_that_cannot_be_looked_at(layer, error, sentence):
    with pytest.raises(error, match=sentence):
        maps(GradCam(), with_weights(Reused()), images(1), labels(0), layer)


@ids
def test_without_a_network_another_method_is_named(method):
    with pytest.raises(UsageError, match="got one that only predicts; use occlusion or rise"):
        method.maps(Function(None), images(1), labels(0), stream=STREAM)


@pytest.mark.parametrize(
    ("inputs", "target", "sentence"),
    [
        (images(2)[0], labels(0), r"inputs must be \(n, C, H, W\) float32"),
        (images(2).astype(np.float64), labels(0, 1), "got .* float64"),
        (images(2)[:0], labels(), "with at least one image"),
        (images(2), labels(0), r"target must be \(2,\) int64"),
        (images(2), np.array([0.0, 1.0]), "got .* float64"),
        (images(2), labels(-1, 0), "target must be 0 or more, got -1"),
        (images(2), labels(0, 4), "logits with a class 4, got an output of shape"),
    ],
)
def test_inputs_that_do_not_fit(inputs, target, sentence):
    with pytest.raises(DataError, match=sentence):
        maps(GradCam(), tiny_model(), inputs, target)


@ids
def test_a_broken_network_gives_no_numbers(method):
    module, inputs = tiny_model(), images(3)
    inputs[1, 0, 0, 0] = np.nan
    with pytest.raises(DataError, match="for 1 of 3 images, first at position 1"):
        maps(method, module, inputs, labels(0, 1, 2))


@ids
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_offset_that_is_no_number_is_seen_though_gradients_do_not_know_it(method, value):
    module = tiny_model()
    module[-1].bias.data[2] = value
    with pytest.raises(DataError, match="logits must be finite, got NaN or infinity for 3 of 3"):
        maps(method, module, images(3), labels(0, 1, 2))


def test_an_output_that_is_no_logits():
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    with pytest.raises(DataError, match=r"must give \(1, classes\) logits"):
        maps(GradCam(), module, images(1), labels(0), "1")
