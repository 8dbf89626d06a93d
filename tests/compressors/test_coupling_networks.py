"""Real networks: every classification family, detectors, and a published sparse checkpoint."""

from __future__ import annotations

import copy
import os
import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.compressors.coupling import couple, cut, cut_again, silence
from shrinkproof.compressors.coupling.state import tensors_in
from shrinkproof.models.cifar import resnet

from .coupling_nets import assert_cut_equals_mask, awake, choose, macs_by_hooks, outputs

pytestmark = pytest.mark.long

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)
SPARSE = DATA / "checkpoints" / "cifar10_resnet20b_sparse_channels.safetensors"
CLASSIFIERS = {
    "resnet50": 64,
    "resnext50_32x4d": 64,
    "vgg16_bn": 32,
    "mobilenet_v2": 64,
    "mobilenet_v3_small": 64,
    "densenet121": 64,
    "shufflenet_v2_x1_0": 64,
    "efficientnet_b0": 64,
    "regnet_x_400mf": 64,
    "regnet_y_400mf": 64,
    "squeezenet1_1": 64,
    "googlenet": 64,
    "inception_v3": 96,
    "mnasnet0_5": 64,
    "convnext_tiny": 64,
    "vit_b_16": 224,
}
DETECTORS = {
    "ssdlite320_mobilenet_v3_large": "head",
    "ssd300_vgg16": "head",
    "retinanet_resnet50_fpn": "head",
    "fcos_resnet50_fpn": "head",
    "fasterrcnn_mobilenet_v3_large_fpn": "rpn.head",
}
LARGE = ("ssd300_vgg16", "retinanet_resnet50_fpn", "fcos_resnet50_fpn")
FULLY_LOCKED = "reaches the model's output"


@pytest.fixture(scope="module")
def models():
    from shrinkproof.torchvision_ops import ensure

    if ensure().mode == "absent":
        pytest.skip("torchvision cannot be used here")
    return pytest.importorskip("torchvision.models")


def build(models, name, **kwargs):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return models.get_model(name, weights=None, **kwargs)


@pytest.mark.parametrize("depth", [20, 56])
def test_cifar_resnet_inside_and_residual_stream(depth):
    model = awake(resnet(depth)).double()
    coupling, removed, _ = assert_cut_equals_mask(model, (1, 3, 32, 32))
    assert len(coupling.pads) == 2
    stream = coupling.groups()[0]
    assert stream.layers[:2] == ("conv1", "layer1.0.conv2")
    # 16 channels, 8 + 8 and then 16 + 16 zeros around them: 64 in all, none of them locked.
    assert stream.classes.size == 64
    assert removed[stream.classes].any()


def test_inner_half_of_resnet20_has_the_known_size():
    model = resnet(20)
    coupling = couple(model, torch.zeros(1, 3, 32, 32))
    removed = np.zeros(coupling.classes, dtype=bool)
    for name, use in coupling.layers.items():
        if name.startswith("layer") and name.endswith("conv1"):
            removed[coupling.axes[use.out_axis][::2]] = True
    cut(model, coupling, removed)
    assert sum(p.numel() for p in model.parameters()) == coupling.parameters(removed) == 135_754


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(models, name):
    side = CLASSIFIERS[name]
    kwargs = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    model = awake(build(models, name, **kwargs)).double()
    example = torch.zeros((1, 3, side, side), dtype=torch.float64)
    coupling = couple(model, example)
    removed = choose(coupling)
    x = torch.randn(example.shape, dtype=torch.float64)
    small = copy.deepcopy(model)
    account = cut(small, coupling, removed)
    (got,) = outputs(small, x)
    assert sum(p.numel() for p in small.parameters()) == coupling.parameters(removed)
    if name != "vit_b_16":  # its attention multiplies in one fused operation, not in layers
        assert macs_by_hooks(small, example) == coupling.macs(removed)
    again = copy.deepcopy(model)
    cut_again(again, account)
    again.load_state_dict(small.state_dict(), strict=True)
    silence(model, coupling, removed)
    (expected,) = outputs(model, x)
    torch.testing.assert_close(got, expected, rtol=1e-7, atol=1e-7 * float(expected.abs().max()))
    assert expected.std() > 0
    # Where nothing is in the way only the logits are fixed: every other layer can get narrower.
    free = [n for n, u in coupling.layers.items() if removed[coupling.axes[u.out_axis]].any()]
    if not coupling.locked.keys() - _classes_of(coupling, (FULLY_LOCKED, "input")):
        producers = [n for n, use in coupling.layers.items() if not use.depthwise]
        assert set(producers) - set(free) <= {producers[-1]}


def _classes_of(coupling, endings):
    return {k for k, reason in coupling.locked.items() if reason.endswith(endings)}


@pytest.mark.slow
# torchvision compiles its Python version of the region pooling with a deprecated function.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.long] * (n in LARGE)) for n in DETECTORS],
)
def test_detector(models, name):
    model = build(models, name, weights_backbone=None).eval()
    example = torch.rand((1, 3, 224, 224), generator=torch.Generator().manual_seed(3))
    if name.startswith("fasterrcnn"):
        # The second stage takes a number of regions from the first; a few are enough.
        model.rpn._pre_nms_top_n = {"training": 20, "testing": 20}
    coupling = couple(model, example)
    removed = choose(coupling)
    masked, small = copy.deepcopy(model), copy.deepcopy(model)
    silence(masked, coupling, removed)
    cut(small, coupling, removed)
    assert coupling.macs(removed) < 0.6 * coupling.macs()
    expected, got = (head_outputs(m, DETECTORS[name], example) for m in (masked, small))
    assert len(expected) == len(got) > 0
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4 * float(a.abs().max()) + 1e-7)


def head_outputs(model, name, x):
    found = []
    head = model.get_submodule(name)
    handle = head.register_forward_hook(lambda *call: found.extend(tensors_in(call[2])))
    outputs(model, x)
    handle.remove()
    return found


@pytest.mark.slow
def test_resnet50_is_coupled_and_cut_in_less_than_two_seconds(models):
    model = build(models, "resnet50").eval()
    example = torch.zeros(1, 3, 224, 224)
    times, forwards = [], []
    for _ in range(3):
        private = copy.deepcopy(model)
        start = time.perf_counter()
        outputs(model, example)
        forwards.append(time.perf_counter() - start)
        start = time.perf_counter()
        coupling = couple(private, example)
        cut(private, coupling, choose(coupling))
        times.append(time.perf_counter() - start)
    # On a busy machine everything is slower, the network itself too.
    assert min(times) < max(2, 8 * min(forwards)), (times, forwards)


@pytest.mark.slow
def test_counts_of_resnet50_are_fast_enough_for_a_search(models):
    coupling = couple(build(models, "resnet50"), torch.zeros(1, 3, 64, 64))
    removed = choose(coupling)
    times = []
    for _ in range(50):
        start = time.perf_counter()
        coupling.macs(removed)
        times.append(time.perf_counter() - start)
    assert statistics.median(times) < 2e-3


@pytest.mark.skipif(not SPARSE.is_file(), reason="the development data are absent")
def test_zero_channels_of_a_published_checkpoint_can_go():
    from safetensors.torch import load_file

    model = resnet(20, shortcut="project")
    missing, unexpected = model.load_state_dict(load_file(SPARSE), strict=False)
    assert not unexpected
    assert all(key.endswith("num_batches_tracked") for key in missing)
    model.eval()
    coupling = couple(model, torch.zeros(1, 3, 32, 32))
    removed = np.zeros(coupling.classes, dtype=bool)
    dead = {}
    for name, module in model.named_modules():
        if name.startswith("layer") and name.endswith("conv2") and isinstance(module, nn.Conv2d):
            zero = (module.weight == 0).all(dim=(2, 3)).all(dim=0).numpy()
            removed[coupling.axes[f"{name}.weight", 1][zero]] = True
            dead[name] = (int(zero.sum()), zero.size)
    # Facts published with the checkpoint.
    assert dead["layer1.0.conv2"] == (5, 16)
    assert dead["layer1.1.conv2"] == dead["layer1.2.conv2"] == (8, 16)
    assert (dead["layer2.0.conv2"], dead["layer2.1.conv2"]) == ((9, 32), (14, 32))
    assert (dead["layer3.0.conv2"], dead["layer3.1.conv2"]) == ((13, 64), (12, 64))
    x = torch.rand((8, 3, 32, 32), generator=torch.Generator().manual_seed(0)) * 2 - 1
    (before,) = outputs(model, x)
    cut(model, coupling, removed)
    (after,) = outputs(model, x)
    assert model.layer1[0].conv2.in_channels == 11
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)
    assert macs_by_hooks(model, x[:1]) == coupling.macs(removed) < coupling.macs()
