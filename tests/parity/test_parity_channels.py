"""Coupled channels against torch-pruning's dependency groups, on networks that both support.

Grouped convolutions are left out: torch-pruning keeps groups equally wide outside its groups.
"""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.compressors.coupling import couple
from shrinkproof.models.cifar import resnet

pytestmark = pytest.mark.parity

EXAMPLE = torch.zeros(1, 3, 64, 64)
NETWORKS = ("resnet18", "vgg11_bn", "mobilenet_v2", "densenet121", "squeezenet1_1")


@pytest.fixture(scope="module")
def torch_pruning():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated torch functions at import
        return pytest.importorskip("torch_pruning")


def build(name):
    if name == "cifar":
        return resnet(20, shortcut="project").eval()
    from shrinkproof.torchvision_ops import ensure

    if ensure().mode == "absent":
        pytest.skip("torchvision cannot be used here")
    from torchvision import models

    return models.get_model(name, weights=None).eval()


def their_partners(torch_pruning, graph, model, layer, position):
    """Return what torch-pruning removes together with one output channel."""
    target = model.get_submodule(layer)
    group = graph.get_pruning_group(target, torch_pruning.prune_conv_out_channels, idxs=[position])
    names = {module: name for name, module in model.named_modules()}
    found = set()
    for dependency, positions in group:
        module = dependency.target.module
        if module not in names:
            continue  # operations without parameters
        out = dependency.handler in (
            torch_pruning.prune_conv_out_channels,
            torch_pruning.prune_linear_out_channels,
            torch_pruning.prune_batchnorm_out_channels,
            torch_pruning.prune_depthwise_conv_out_channels,
        )
        found |= {(names[module], 0 if out else 1, int(i)) for i in positions}
    return found


def our_partners(coupling, model, layer, position):
    """Return the same from our classes, in terms of modules and their channels."""
    klass = coupling.axes[f"{layer}.weight", 0][position]
    found = set()
    for axis, classes in coupling.axes.items():
        name, _, tensor = axis.tensor.rpartition(".")
        if tensor != "weight":
            continue
        for place in np.flatnonzero(classes == klass).tolist():
            module = model.get_submodule(name)
            groups = 1
            if isinstance(module, nn.Conv2d) and axis.dim == 1:
                groups = module.groups
            size = classes.size
            found |= {(name, axis.dim, place + g * size) for g in range(groups)}
    return found


@pytest.mark.parametrize("name", ["cifar", *NETWORKS])
def test_what_is_removed_together(torch_pruning, name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(name)
    coupling = couple(model, EXAMPLE)
    graph = torch_pruning.DependencyGraph()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph.build_dependency(model, EXAMPLE)
    producers = [n for n, use in coupling.layers.items() if not use.depthwise and use.groups == 1]
    producers = [n for n in producers if isinstance(model.get_submodule(n), nn.Conv2d)]
    for layer in producers[:: max(1, len(producers) // 6)]:
        for position in (0, 3):
            ours = our_partners(coupling, model, layer, position)
            theirs = their_partners(torch_pruning, graph, model, layer, position)
            assert ours == theirs, (layer, position)
