"""The adapter of da Silva et al. 2025: sizes of its networks, and what it does to an image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from shrinkproof.errors import ModelError, UnknownNameError
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, fingerprint, load_model
from shrinkproof.models.upsampled_source import Upsampled

PREPROCESS = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def built(name: str, classes: int | None = None) -> torch.nn.Module:
    return Upsampled().build(name, classes, {}).eval()


@pytest.mark.parametrize(
    ("name", "convolutions", "channels"),
    [
        # Keras prints 2,257,984 without a head, 34,112 of them running means and variances.
        ("mobilenet_v2", 2_257_984 - 34_112, 1280),
        # 23,587,712; 53,120 are running values, 26,560 biases before batch normalization.
        ("resnet50", 23_587_712 - 53_120 - 26_560, 2048),
        ("vgg19", 20_024_384, 512),
    ],
)
@pytest.mark.parametrize("classes", [None, 100])
def test_number_of_parameters(name, convolutions, channels, classes):
    module = built(name, classes)
    head = channels * 1024 + 1024 + 1024 * (classes or 10) + (classes or 10)
    assert sum(p.numel() for p in module.parameters()) == convolutions + head


def test_each_pixel_is_repeated():
    module = built("mobilenet_v2")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    large = images.repeat_interleave(7, 2).repeat_interleave(7, 3)
    with torch.inference_mode():
        pooled = module.features(large).mean((2, 3))
        expected = module.fc(F.relu(module.hidden(pooled)))
        torch.testing.assert_close(module(images), expected)


def test_weights_depend_on_the_reference_only():
    first, second = (built("mobilenet_v2").state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not first["fc.bias"].any()
    bound = (6 / (1280 + 1024)) ** 0.5
    assert 0.9 * bound < first["hidden.weight"].abs().max() <= bound


def test_a_model_of_it():
    spec = ModelSpec(use="upsampled:mobilenet_v2", preprocess=PREPROCESS, classes=100)
    loaded = load_model(spec, {})
    assert (loaded.num_classes, loaded.input_shape) == (100, (3, 32, 32))
    assert loaded.fingerprint == fingerprint(spec, {})
    with_weights = ModelSpec(
        use="upsampled:mobilenet_v2/IMAGENET1K_V1", preprocess=PREPROCESS, classes=100
    )
    assert fingerprint(with_weights, {}) != loaded.fingerprint


def test_what_is_refused():
    with pytest.raises(UnknownNameError, match="unknown upsampled network 'vgg16'"):
        built("vgg16")
    with pytest.raises(ModelError, match="has no weights of its own, got 'IMAGENET1K_V1'"):
        built("vgg19/IMAGENET1K_V1")
    with pytest.raises(ModelError, match="num_classes must be at least 2, got 1"):
        built("mobilenet_v2", 1)
    with pytest.raises(UnknownNameError, match="set of weights of torchvision:vgg19"):
        load_model(ModelSpec(use="upsampled:vgg19/KERAS", preprocess=PREPROCESS), {})
