"""Heat maps of what compression leaves: imitated integers, shared values, zeros, fewer channels."""

import copy

import numpy as np
import pytest
import torch

from shrinkproof.attributions import ATTRIBUTIONS
from shrinkproof.attributions.cam import GradCam
from shrinkproof.attributions.layers import choose_layer
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.coupling import couple, cut, silence
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.models.cifar import resnet
from shrinkproof.models.loaded import Preprocess
from shrinkproof.testing import tiny_context, tiny_images

from .candidate import STREAM, Candidate, labels, pearson

STEPS = {
    "int8": [("quantize.static", {})],
    "float16": [("quantize.weights", {"format": "float16"})],
    "clustered": [("cluster", {"levels": 32})],
    "masked": [("prune.weights", {"ratio": 0.3})],
    "channels": [("prune.channels", {"ratio": 0.2, "round_to": 1})],
    "all": [
        ("prune.channels", {"ratio": 0.2, "round_to": 1}),
        ("prune.weights", {"ratio": 0.3}),
        ("fold", {}),
        ("cluster", {"levels": 32}),
        ("quantize.static", {}),
    ],
}
ALIKE = {"int8": 0.85, "float16": 0.99, "clustered": 0.5, "masked": 0.3}
"""Least agreement with the baseline of a network that has learned nothing."""

IMAGES = tiny_images(count=12, side=32)
INPUTS = Preprocess()(IMAGES.images[np.arange(6)])
TARGET = labels(0, 1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def baseline():
    """ResNet-8 whose batch norms know its activations, so that no channel is dead."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = resnet(8, 8, "project")
    module.train()
    inputs = torch.from_numpy(Preprocess()(IMAGES.images[np.arange(12)]))
    with torch.no_grad():
        for _ in range(30):
            module(inputs)
    return module.eval()


@pytest.fixture(scope="module")
def candidates(baseline):
    context = tiny_context(IMAGES)
    made = {}
    for name, steps in STEPS.items():
        recipe = Recipe(tuple(COMPRESSORS.create(step, fields) for step, fields in steps))
        made[name], _ = recipe.apply(baseline, context)
    return made


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("method", ["gradcam", "gradcam_plus_plus", "eigencam", "gradient_x_input"])
def test_maps_can_be_compared_with_those_of_the_baseline(baseline, candidates, name, method):
    layer = choose_layer(baseline, INPUTS, also=[candidates[name]]).name
    assert layer == "layer3.0.relu2"
    method = ATTRIBUTIONS.create(method)
    before = {k: v.clone() for k, v in candidates[name].state_dict().items()}
    expected, found = (
        method.maps(Candidate(module, layer), INPUTS, TARGET, stream=STREAM)
        for module in (baseline, candidates[name])
    )
    assert found.shape == expected.shape
    assert name not in ALIKE or ALIKE[name] < pearson(expected, found) < 1
    after = candidates[name].state_dict()
    assert all(torch.equal(before[k], v) for k, v in after.items())


@pytest.mark.parametrize("method", ["gradcam", "gradcam_plus_plus", "eigencam", "gradient_x_input"])
def test_a_network_without_some_channels_has_the_maps_of_one_where_they_are_zero(baseline, method):
    example = torch.zeros(1, 3, 32, 32)
    silent, small = copy.deepcopy(baseline), copy.deepcopy(baseline)
    coupling = couple(silent, example)
    removed = np.random.default_rng(0).random(coupling.classes) < 0.3
    removed[list(coupling.locked)] = False
    silence(silent, coupling, removed)
    cut(small, couple(small, example), removed)
    assert small.get_parameter("fc.weight").shape[1] < silent.get_parameter("fc.weight").shape[1]
    expected, found = (
        ATTRIBUTIONS.create(method).maps(Candidate(module), INPUTS, TARGET, stream=STREAM)
        for module in (silent, small)
    )
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_gradients_pass_the_rounding_of_integers_unchanged(baseline, candidates):
    """Behind the layer there are a mean and a linear layer: the gradient is known exactly."""
    from shrinkproof.attributions.network import activations_and_gradients

    module = candidates["int8"]
    _, slope = activations_and_gradients("test", module, "layer3.0.relu2", INPUTS, TARGET)
    weight = module.get_submodule("fc").weight.detach()[torch.from_numpy(TARGET)]
    np.testing.assert_allclose(slope[:, :, 3, 5], weight / 64, rtol=1e-5, atol=1e-7)


def test_the_same_network_agrees_with_itself(baseline):
    maps = [GradCam().maps(Candidate(baseline), INPUTS, TARGET, stream=STREAM) for _ in range(2)]
    np.testing.assert_array_equal(*maps)
