"""The networks of pruning papers: published sizes, hand-counted layers, traceable, exportable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import fx, nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.sizes import macs
from shrinkproof.compressors.fold import fold_batch_norm
from shrinkproof.errors import ModelError
from shrinkproof.models.cifar_densenet import densenet
from shrinkproof.models.cifar_mobilenet import STAGES, mobilenet_v2
from shrinkproof.models.cifar_preresnet import preresnet
from shrinkproof.models.cifar_resnet18 import resnet18
from shrinkproof.models.cifar_source import NETWORKS, Cifar
from shrinkproof.models.cifar_vgg import vgg
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.models.torchvision_source import Torchvision

PAPERS = (
    *("densenet40_12", "mobilenetv2", "preresnet110", "preresnet164", "resnet18"),
    *("vgg16_bn", "vgg19_bn"),
)


def built(name: str, classes: int | None = None) -> nn.Module:
    spec = ModelSpec(use=f"cifar:{name}", preprocess=Preprocess(), classes=classes)
    return load_model(spec, {}).module


def count(name: str, classes: int | None = None) -> int:
    return sum(p.numel() for p in built(name, classes).parameters())


def vgg_by_hand(stages: tuple[int, ...], head: int) -> int:
    total, inputs = 0, 3
    for layers, width in zip(stages, (64, 128, 256, 512, 512), strict=True):
        for _ in range(layers):
            total += 9 * inputs * width + 2 * width
            inputs = width
    return total + head


def preresnet_by_hand(blocks: int) -> int:
    total, inputs = 3 * 16 * 9, 16
    for inner in (16, 32, 64):
        for block in range(blocks):
            total += 2 * inputs + inputs * inner  # norm and 1x1
            total += 2 * inner + 9 * inner * inner  # norm and 3x3
            total += 2 * inner + inner * 4 * inner  # norm and 1x1
            total += inputs * 4 * inner if block == 0 else 0  # projected shortcut
            inputs = 4 * inner
    return total + 2 * 256 + 256 * 10 + 10


def densenet_by_hand(layers: int, growth: int, classes: int) -> int:
    total, inputs = 3 * 16 * 9, 16
    for block in range(3):
        for _ in range(layers):
            total += 2 * inputs + 9 * inputs * growth
            inputs += growth
        total += 2 * inputs + (inputs * inputs if block < 2 else 0)
    return total + inputs * classes + classes


def mobilenet_by_hand() -> int:
    total, inputs = 27 * 32 + 64, 32
    for expansion, outputs, blocks, _ in STAGES:
        for _ in range(blocks):
            inner = inputs * expansion
            total += inputs * inner + 2 * inner if expansion > 1 else 0
            total += 9 * inner + 2 * inner + inner * outputs + 2 * outputs
            inputs = outputs
    return total + 320 * 1280 + 2 * 1280 + 1280 * 10 + 10


def resnet18_by_hand() -> int:
    total, inputs = 27 * 64 + 128, 64
    for outputs in (64, 128, 256, 512):
        total += 9 * inputs * outputs + 3 * 9 * outputs * outputs + 4 * 2 * outputs
        total += inputs * outputs + 2 * outputs if inputs != outputs else 0
        inputs = outputs
    return total + 512 * 10 + 10


@pytest.mark.parametrize(
    ("name", "expected", "published"),
    [
        # Lin et al. 2020 (arXiv:2002.10179), table 1 prints 14.98 million, cut after two digits.
        ("vgg16_bn", vgg_by_hand((2, 2, 3, 3, 3), 512 * 513 + 1024 + 513 * 10), 14.98),
        # Liu et al. 2017 (arXiv:1708.06519), table 1: 20.04, 1.70 and 1.02 million.
        ("vgg19_bn", vgg_by_hand((2, 2, 4, 4, 4), 513 * 10), 20.04),
        ("preresnet164", preresnet_by_hand(18), 1.70),
        ("densenet40_12", densenet_by_hand(12, 12, 10), 1.02),
        # 1.73 million in He et al. 2015 (arXiv:1512.03385), table 6, printed as 1.7.
        ("resnet110", 1_727_962, 1.73),
        ("preresnet110", preresnet_by_hand(12), 1.15),
        # 11.17 million in the usual implementations with a 3x3 convolution in front.
        ("resnet18", resnet18_by_hand(), 11.17),
        # The published CIFAR checkpoints mobilenetv2_x1_0 have 2.24 million.
        ("mobilenetv2", mobilenet_by_hand(), 2.24),
    ],
)
def test_number_of_parameters_is_the_published_one(name, expected, published):
    found = count(name)
    assert found == expected
    assert found / 1e6 == pytest.approx(published, abs=0.008)


def test_number_of_parameters_for_a_hundred_classes():
    # Liu et al. 2017 (arXiv:1708.06519), table 1: 20.08 and 1.06 million.
    assert count("vgg19_bn", 100) == vgg_by_hand((2, 2, 4, 4, 4), 513 * 100)
    assert round(count("vgg19_bn", 100) / 1e6, 2) == 20.08
    assert count("densenet40_12", 100) == densenet_by_hand(12, 12, 100)
    assert round(count("densenet40_12", 100) / 1e6, 2) == 1.06


@pytest.mark.parametrize(
    ("name", "expected"),
    # In million multiply-accumulates: H-Rank's tables, and the published MobileNetV2.
    [
        *(("vgg16_bn", 313.5), ("vgg19_bn", 398.1), ("resnet110", 252.9), ("mobilenetv2", 88.0)),
        ("resnet18", 555.4),
    ],
)
def test_number_of_operations_is_the_published_one(name, expected):
    assert round(macs(built(name), torch.zeros(1, 3, 32, 32)) / 1e6, 1) == expected


@pytest.mark.parametrize("name", PAPERS)
def test_traced_and_folded_networks_give_the_same_logits(name):
    module = built(name)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = module(x)
        assert logits.shape == (2, 10)
        assert torch.equal(fx.symbolic_trace(module)(x), logits)
        folded = fold_batch_norm(module)
        assert torch.allclose(folded(x), logits, atol=1e-4 * float(logits.abs().max()))
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    left, before = (sum(isinstance(m, norms) for m in net.modules()) for net in (folded, module))
    # Norms that follow an addition or a concatenation have no layer to go into.
    blocks = {"preresnet110": 36, "preresnet164": 54}
    assert left == {"densenet40_12": before}.get(name, blocks.get(name, -1) + 1)


@pytest.mark.parametrize("name", PAPERS)
def test_every_activation_is_a_module_of_its_own(name):
    graph = fx.symbolic_trace(built(name)).graph
    targets = [node.target for node in graph.nodes if node.op == "call_module"]
    assert len(targets) == len(set(targets))


@pytest.mark.parametrize("name", sorted({*PAPERS, "resnet110"}))
def test_other_sizes_of_images_are_welcome(name):
    with torch.no_grad():
        assert built(name)(torch.zeros(1, 3, 40, 24)).shape == (1, 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) for n in PAPERS])
def test_exported_networks_give_the_same_logits(name, tmp_path: Path):
    # `export_onnx` raises where file and model disagree.
    report = export_onnx(built(name), torch.zeros(1, 3, 32, 32), tmp_path / "net.onnx")
    assert report.bytes < 4.2 * count(name) + 400_000


def test_convolutions_of_vgg_are_numbered_as_papers_count_them():
    names = [n for n, m in built("vgg16_bn").named_modules() if isinstance(m, nn.Conv2d)]
    assert names == [f"features.conv{number}" for number in range(1, 14)]
    widths = [m.out_channels for m in built("vgg16_bn").modules() if isinstance(m, nn.Conv2d)]
    assert widths == [64, 64, 128, 128, 256, 256, 256, *[512] * 6]


def test_layer_names_of_published_checkpoints():
    pre = set(built("preresnet110").state_dict())
    assert {"layer1.0.downsample.0.weight", "layer3.11.bn3.running_var", "fc.bias"} < pre
    assert not any(name.startswith("layer1.1.downsample") for name in pre)
    dense = set(built("densenet40_12").state_dict())
    assert {"dense1.0.conv1.weight", "trans2.bn1.weight", "dense3.11.bn1.bias"} < dense
    mobile = set(built("mobilenetv2").state_dict())
    assert {"features.0.0.weight", "features.1.conv.0.0.weight", "classifier.1.weight"} < mobile


def test_mobilenet_has_torchvisions_names_and_shapes():
    ours = {k: v.shape for k, v in built("mobilenetv2").state_dict().items()}
    theirs = Torchvision().build("mobilenet_v2", 10, {}).state_dict()
    assert ours == {k: v.shape for k, v in theirs.items()}


def test_resnet18_has_torchvisions_names_and_shapes_behind_the_stem():
    ours = {k: v.shape for k, v in built("resnet18").state_dict().items()}
    theirs = {k: v.shape for k, v in Torchvision().build("resnet18", 10, {}).state_dict().items()}
    assert ours.pop("conv1.weight") == (64, 3, 3, 3)
    assert theirs.pop("conv1.weight") == (64, 3, 7, 7)
    assert ours == theirs


def test_identities_of_the_residual_networks_stay():
    """Results of earlier runs are found by them."""
    assert Cifar().arch_identity("resnet20", {}) == {"name": "resnet20", "arch": [20, 16, "pad", 1]}
    assert Cifar().arch_identity("resnet8w8", {})["arch"] == [8, 8, "project", 1]
    identities = [repr(Cifar().arch_identity(name, {})) for name in NETWORKS]
    assert len(set(identities)) == len(NETWORKS)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: vgg(15), "vgg: depth must be 11, 13, 16 or 19, got 15"),
        (lambda: vgg(16, hidden=-1), "vgg: hidden must be at least 0"),
        (lambda: vgg(16, num_classes=1), "vgg: num_classes must be at least 2"),
        (lambda: preresnet(56 + 1), "preresnet: depth must be 9n"),
        (lambda: preresnet(2), "preresnet: depth must be 9n"),
        (lambda: preresnet(20, num_classes=0), "preresnet: num_classes must be"),
        (lambda: densenet(41), "densenet: depth must be 3n"),
        (lambda: densenet(40, growth=0), "densenet: growth must be"),
        (lambda: densenet(40, num_classes=1), "densenet: num_classes must be"),
        (lambda: mobilenet_v2(1), "mobilenet_v2: num_classes must be"),
        (lambda: resnet18(1), "resnet18: num_classes must be at least 2, got 1"),
    ],
)
def test_impossible_networks_are_refused(build, message):
    with pytest.raises(ModelError, match=message):
        build()
