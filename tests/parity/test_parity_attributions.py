"""Our heat maps against captum's, and where captum needs what we do not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.attributions.cam import GradCam
from shrinkproof.attributions.gradients import GradientTimesInput, IntegratedGradients
from shrinkproof.attributions.occlusion import Occlusion
from shrinkproof.models.cifar import resnet
from shrinkproof.randomness import stream
from shrinkproof.testing import tiny_model

pytestmark = pytest.mark.parity

COUNT = 4
TARGET = np.arange(COUNT, dtype=np.int64)


@pytest.fixture(scope="module")
def captum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("captum.attr")


@pytest.fixture(scope="module")
def inputs():
    return np.random.default_rng(3).normal(size=(COUNT, 3, 32, 32)).astype(np.float32)


def awake(module):
    """Give the batch norms statistics and weights of their own."""
    draws = np.random.default_rng(1)
    for name, tensor in module.state_dict().items():
        if "bn" in name and tensor.is_floating_point():
            is_scale = name.endswith(("running_var", "weight"))
            values = draws.normal(1.0 if is_scale else 0.0, 0.2, tuple(tensor.shape))
            tensor.copy_(torch.from_numpy(values))
    return module.eval()


@pytest.fixture(scope="module")
def module():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return awake(resnet(8))


class Candidate:
    layer = None
    black = np.array([-1.0, 0.5, 2.0], dtype=np.float32)

    def __init__(self, module, layer=None):
        self.module = module
        self.layer = layer

    def predict(self, inputs):
        with torch.no_grad():
            return self.module(torch.from_numpy(inputs)).numpy()


def ours(method, module, inputs, layer=None):
    return method.maps(Candidate(module, layer), inputs, TARGET, stream=stream)


def close(found, expected, tolerance=1e-5):
    """Assert agreement, as a part of the largest value."""
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "layer", ["relu", "layer1.0.conv2", "layer2.0.relu2", "layer3.0.bn2", "layer3"]
)
@pytest.mark.parametrize("rectified", [True, False])
def test_gradcam_is_captums(captum, module, inputs, layer, rectified):
    peer = captum.LayerGradCam(module, module.get_submodule(layer))
    expected = peer.attribute(
        torch.from_numpy(inputs), torch.from_numpy(TARGET), relu_attributions=rectified
    )
    found = ours(GradCam(rectified=rectified), module, inputs, layer)
    close(found, expected[:, 0].detach().numpy())


def test_gradient_times_input_is_captums(captum, module, inputs):
    peer = captum.InputXGradient(module)
    expected = peer.attribute(torch.from_numpy(inputs).requires_grad_(), torch.from_numpy(TARGET))
    found = ours(GradientTimesInput(), module, inputs)
    close(found, expected.sum(1).detach().numpy())


@pytest.mark.parametrize("baseline", ["zero", "black"])
def test_integrated_gradients_are_captums(captum, module, inputs, baseline):
    peer = captum.IntegratedGradients(module)
    black = torch.from_numpy(Candidate.black).view(1, 3, 1, 1)
    start = (black if baseline == "black" else torch.zeros(1, 3, 1, 1)).expand(1, 3, 32, 32)
    expected = peer.attribute(
        torch.from_numpy(inputs),
        start,
        torch.from_numpy(TARGET),
        n_steps=16,
        method="gausslegendre",
    )
    found = ours(IntegratedGradients(steps=16, baseline=baseline), module, inputs)
    close(found, expected.sum(1).detach().numpy())


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (7, 5), (16, 16)])
def test_occlusion_is_captums(captum, module, inputs, window, stride):
    peer = captum.Occlusion(module)
    expected = peer.attribute(
        torch.from_numpy(inputs),
        (3, window, window),
        (3, stride, stride),
        0,
        torch.from_numpy(TARGET),
    )
    found = ours(Occlusion(window=window, stride=stride), module, inputs)
    close(found, expected[:, 0].numpy())


class Reused(nn.Module):
    """One rectifier, writing in place, at two places."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, COUNT)

    def forward(self, x):
        x = self.relu(self.first(x))
        return self.head(self.relu(self.second(x) + x).mean((2, 3)))


def test_captum_keeps_the_last_call_of_a_reused_module_too(captum, inputs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Reused().eval()
    peer = captum.LayerGradCam(module, module.relu)
    expected = peer.attribute(torch.from_numpy(inputs), torch.from_numpy(TARGET))
    found = ours(GradCam(rectified=False), module, inputs, "relu")
    close(found, expected[:, 0].detach().numpy())


def test_captum_changes_the_statistics_of_a_network_in_training_mode(captum, inputs):
    """It runs a network in the mode it finds; ours runs it in evaluation mode."""
    module = tiny_model(classes=COUNT).train()
    before = module.get_buffer("1.running_mean").clone()
    ours(GradCam(), module, inputs, "6")
    assert torch.equal(module.get_buffer("1.running_mean"), before)
    captum.LayerGradCam(module, module.get_submodule("6")).attribute(
        torch.from_numpy(inputs), torch.from_numpy(TARGET)
    )
    assert not torch.equal(module.get_buffer("1.running_mean"), before)
