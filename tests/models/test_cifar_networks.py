from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode

from shrinkproof.errors import ModelError, UnknownNameError
from shrinkproof.models.cifar import PadShortcut, resnet
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model

IMAGENET = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
HALF = Preprocess(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def built(name: str, **settings) -> nn.Module:
    spec = ModelSpec(use=f"cifar:{name}", preprocess=Preprocess(), **settings)
    return load_model(spec, {}).module


@pytest.mark.parametrize(
    ("name", "count"),
    # He et al. 2015, table 6 prints these rounded: 0.27, 0.46 and 0.85 million.
    [("resnet20", 269_722), ("resnet32", 464_154), ("resnet56", 853_018), ("resnet20b", 272_474)],
)
def test_number_of_parameters(name, count):
    assert sum(p.numel() for p in built(name).parameters()) == count


def test_the_small_network_is_small():
    module = built("resnet8w8")
    with FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, 32, 32))
    # One multiply-accumulate counts as two operations; 3,236,160 by hand from the layer shapes.
    assert counter.get_total_flops() // 2 == 3_236_160


def test_layer_names_of_option_a():
    names = set(built("resnet20").state_dict())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.conv1.weight", "layer3.2.bn2.bias"} < names
    assert {"linear.weight", "linear.bias"} < names
    assert not any("downsample" in name or "relu" in name for name in names)


def test_layer_names_of_option_b():
    names = set(built("resnet20b").state_dict())
    assert {"layer2.0.downsample.0.weight", "layer3.0.downsample.1.running_mean"} < names
    assert {"fc.weight", "fc.bias"} < names
    assert not any(name.startswith("layer1.0.downsample") for name in names)


def test_pad_shortcut_by_hand():
    x = torch.arange(2 * 3 * 3, dtype=torch.float32).reshape(1, 2, 3, 3)
    out = PadShortcut(1)(x)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 0].eq(0).all()
    assert out[0, 3].eq(0).all()
    assert out[0, 1].tolist() == [[0, 2], [6, 8]]
    assert out[0, 2].tolist() == [[9, 11], [15, 17]]


@pytest.mark.parametrize("name", ["resnet20", "resnet8w8"])
def test_traced_network_gives_the_same_logits(name):
    module = built(name)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(fx.symbolic_trace(module)(x), module(x))
        assert torch.allclose(module(x)[:1], module(x[:1]), atol=1e-6)


# torch 2.13's own exporter emits it.
@pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning")
def test_exported_network_gives_the_same_logits():
    module = built("resnet20")
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    buffer = io.BytesIO()
    torch.onnx.export(module, (x,), dynamo=True, verbose=False).save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue())
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    with torch.no_grad():
        # Two runtimes sum in different orders; logits of size 1.
        np.testing.assert_allclose(logits, module(x).numpy(), atol=1e-4)


def test_drawn_weights_depend_on_the_reference_alone():
    torch.manual_seed(1)
    first = built("resnet8w8")
    state = torch.get_rng_state()
    second = built("resnet8w8")
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    assert not torch.equal(built("resnet20").conv1.weight, built("resnet20b").conv1.weight)


def test_classes_and_input_shape_follow_the_settings():
    loaded = load_model(
        ModelSpec(
            use="cifar:resnet8w8", preprocess=HALF, classes=7, input_shape=(3, 40, 24), seen=("a",)
        ),
        {},
    )
    assert loaded.num_classes == 7
    assert loaded.input_shape == (3, 40, 24)
    assert loaded.seen == ("a",)
    assert not loaded.module.training


def test_unknown_network():
    with pytest.raises(UnknownNameError, match="did you mean 'resnet20'"):
        built("resnet-20")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 18}, "depth must be 6n"),
        ({"depth": 2}, "depth must be 6n"),
        ({"depth": 20, "shortcut": "a"}, "shortcut must be"),
        ({"depth": 20, "width": 15}, "width must be"),
        ({"depth": 20, "width": 0, "shortcut": "project"}, "width must be"),
        ({"depth": 20, "num_classes": 1}, "num_classes must be at least 2"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        resnet(**settings)


@pytest.mark.parametrize(
    ("file", "arch", "preprocess"),
    [
        ("cifar10_resnet20", "resnet20", IMAGENET),
        pytest.param("cifar10_resnet32", "resnet32", IMAGENET, marks=pytest.mark.slow),
        pytest.param("cifar10_resnet56", "resnet56", IMAGENET, marks=pytest.mark.slow),
        ("cifar10_resnet20b_dense", "resnet20b", HALF),
        ("cifar10_resnet20b_sparse_channels", "resnet20b", HALF),
    ],
)
def test_published_weights_give_the_reference_logits(
    checkpoints, cifar10_test, file, arch, preprocess
):
    spec = ModelSpec(
        use=f"checkpoint:{file}.safetensors", arch=f"cifar:{arch}", preprocess=preprocess
    )
    loaded = load_model(spec, {"weights": checkpoints})
    with torch.no_grad():
        logits = loaded.module(torch.from_numpy(loaded.preprocess(cifar10_test[0][:64])))
    expected = np.load(checkpoints / "reference_outputs.npz")[file]
    # Another implementation on another machine; logits of size 10.
    np.testing.assert_allclose(logits.numpy(), expected, atol=1e-4)


@pytest.mark.slow
def test_published_accuracy_of_resnet20(checkpoints, cifar10_test):
    spec = ModelSpec(
        use="checkpoint:cifar10_resnet20.safetensors", arch="cifar:resnet20", preprocess=IMAGENET
    )
    loaded = load_model(spec, {"weights": checkpoints})
    images, labels = cifar10_test
    correct = 0
    with torch.no_grad():
        for start in range(0, len(images), 500):
            inputs = torch.from_numpy(loaded.preprocess(images[start : start + 500]))
            predicted = loaded.module(inputs).argmax(1).numpy()
            correct += int((predicted == labels[start : start + 500]).sum())
    assert correct == 9173
