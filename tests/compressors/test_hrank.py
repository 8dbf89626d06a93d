"""Ranks of matrices, which map belongs to a layer, and the criterion made of both."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shrinkproof.compressors.constraint import Mask, constrain
from shrinkproof.compressors.criteria.following import follow, read_maps
from shrinkproof.compressors.criteria.hrank import HRank
from shrinkproof.compressors.criteria.rank import (
    EPSILON,
    exact_ranks,
    fast_ranks,
    plain_ranks,
    rank_threads,
)
from shrinkproof.errors import CompressionError
from shrinkproof.models.cifar import resnet
from shrinkproof.models.cifar_densenet import densenet
from shrinkproof.models.cifar_mobilenet import mobilenet_v2
from shrinkproof.models.cifar_preresnet import preresnet

SHAPES = [
    (1, 1),
    (1, 9),
    (2, 2),
    (2, 5),
    (3, 3),
    (4, 4),
    (7, 7),
    (8, 8),
    (16, 9),
    (9, 16),
    (32, 32),
]


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def families(shape, count, seed=0):
    """Yield matrices of many kinds: full, thinned out, singular, graded, integer, constant."""
    height, width = shape
    g = drawn(seed)
    full = torch.randn(count, height, width, generator=g)
    yield "full", full
    yield "rectified", (full - 0.5).relu()
    rows = torch.rand(count, height, 1, generator=g) < 0.6
    columns = torch.rand(count, 1, width, generator=g) < 0.6
    yield "zero rows and columns", full.relu() * rows * columns
    small = torch.randint(-2, 3, (count, height, width), generator=g).float()
    yield "small integers", small
    yield "constant", full[:, :1, :1].expand(count, height, width).contiguous()
    inner = max(1, min(shape) // 2)
    left = torch.randn(count, height, inner, generator=g)
    yield "product", left @ torch.randn(count, inner, width, generator=g)
    yield "graded", full * 10 ** (-9 * torch.rand(count, height, 1, generator=g))
    yield "tiny", full * 1e-25
    yield "zero", torch.zeros(count, height, width)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_exact_ranks_are_those_of_torch_map_by_map(shape):
    for kind, matrices in families(shape, 300):
        assert exact_ranks(matrices).equal(plain_ranks(matrices)), kind


@pytest.mark.parametrize("shape", [(2, 2), (3, 3), (4, 4), (8, 8), (32, 32)], ids=str)
def test_singular_values_close_to_the_limit_are_decided_as_torch_does(shape):
    count, side = 400, shape[0]
    g = drawn(1)
    left = torch.linalg.qr(torch.randn(count, side, side, generator=g))[0]
    right = torch.linalg.qr(torch.randn(count, side, side, generator=g))[0]
    values = torch.ones(count, side)
    values[:, -1] = side * EPSILON * (0.5 + torch.rand(count, generator=g))
    matrices = left * values[:, None] @ right
    expected = plain_ranks(matrices)
    assert set(expected.tolist()) == {side - 1, side}
    assert exact_ranks(matrices).equal(expected)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_ranks_agree_with_numpy_in_float64_where_nothing_is_close_to_the_limit(shape):
    for kind, matrices in families(shape, 100, seed=2):
        if kind in ("graded", "tiny"):
            continue
        limit = EPSILON * max(shape)
        expected = [
            np.linalg.matrix_rank(m, tol=limit * np.linalg.norm(m, 2))
            for m in matrices.double().numpy()
        ]
        assert exact_ranks(matrices).tolist() == expected, kind
        off = (fast_ranks(matrices) - torch.tensor(expected)).abs()
        # Products are rounded in float32, and pivots see some of that as rank.
        assert (off > 0).float().mean() <= (0.05 if kind == "product" else 0.01), kind
        assert off.max() <= 2, kind


@pytest.mark.parametrize("ranks", [exact_ranks, fast_ranks])
@pytest.mark.parametrize("rank", [0, 1, 3, 6])
def test_sums_of_outer_products_have_the_rank_of_their_number(ranks, rank):
    g = drawn(3)
    left = torch.linalg.qr(torch.randn(50, 8, 8, generator=g))[0][:, :, :rank]
    right = torch.linalg.qr(torch.randn(50, 6, 6, generator=g))[0][:, :rank]
    assert ranks(left @ right).tolist() == [rank] * 50


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    scale=st.integers(-18, 18),
    zeros=st.floats(0, 1),
    seed=st.integers(0, 2**31),
)
def test_any_thinned_out_matrix_has_the_rank_torch_gives(height, width, scale, zeros, seed):
    g = drawn(seed)
    matrices = torch.randn(20, height, width, generator=g) * 10.0**scale
    matrices *= torch.rand(20, height, width, generator=g) >= zeros
    assert exact_ranks(matrices).equal(plain_ranks(matrices))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_ranks_do_not_depend_on_the_number_of_threads(threads):
    matrices = torch.cat([m for _, m in families((8, 8), 4000)])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with rank_threads() as ranks:
            assert torch.get_num_threads() == threads
            found = ranks(exact_ranks, matrices)
            assert ranks(exact_ranks, matrices[:0]).tolist() == []
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found.equal(exact_ranks(matrices))


class Paths(nn.Module):
    """Every way in which an output may reach its map."""

    def __init__(self):
        super().__init__()
        names = ("bare", "function", "inplace", "norm", "left", "right", "later", "pooled", "gate")
        for name in names:
            setattr(self, name, nn.Conv2d(3, 3, 1))
        self.bn = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)
        self.unused = nn.Conv2d(3, 3, 1)
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        self.maps = {"bare": self.bare(x)}
        x = self.maps["function"] = F.relu(self.function(self.maps["bare"] * 2))
        x = self.maps["inplace"] = self.relu(self.inplace(x)).clone()
        x = self.maps["norm"] = self.bn(self.norm(x))
        left, right = self.bn(self.left(x - 1)), self.right(x - 2)
        left += right
        x = self.maps["left"] = self.maps["right"] = torch.relu(left)
        y = self.later(x - 1) + x
        x = self.maps["later"] = F.silu(self.bn(y)) + 0
        x = F.relu(self.pooled_map(x))
        gate = self.maps["gate"] = self.gate(x - 1)
        x = x * torch.sigmoid(gate)
        return self.head(x.mean((2, 3)))

    def pooled_map(self, x):
        self.maps["pooled"] = self.pooled(x)
        return F.max_pool2d(self.maps["pooled"], 2)


@pytest.fixture
def paths():
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return Paths().eval()


CONVOLUTIONS = ("bare", "function", "inplace", "norm", "left", "right", "later", "pooled", "gate")


def test_the_map_of_a_layer(paths):
    x = torch.randn(2, 3, 6, 6, generator=drawn(8))
    layers = (*CONVOLUTIONS, "unused", "head")
    trail = follow(paths, layers, x[:1])
    assert {layer: trail.chains(layer) for layer in layers} == {
        "bare": [()],
        "function": [("rectifier",)],
        "inplace": [("rectifier",)],
        "norm": [("norm",)],
        "left": [("norm", "addition", "rectifier")],
        "right": [("addition", "rectifier")],
        "later": [("addition", "norm", "rectifier")],
        "pooled": [()],
        "gate": [()],
        "unused": [],
        "head": [()],
    }
    found = {}
    chains = {layer: trail.chains(layer) for layer in CONVOLUTIONS}

    def use(names, maps):
        found.update(dict.fromkeys(names, maps.clone()))

    read_maps(paths, chains, x, use)
    for layer in CONVOLUTIONS:
        torch.testing.assert_close(found[layer], paths.maps[layer], rtol=0, atol=0)


def test_layers_of_one_sum_share_their_map(paths):
    x = torch.randn(1, 3, 4, 4, generator=drawn(9))
    chains = {layer: follow(paths, [layer], x).chains(layer) for layer in ("left", "right")}
    shared = []
    read_maps(paths, chains, x, lambda names, maps: shared.append(names))
    assert [set(names) for names in shared] == [{"left", "right"}]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (
            lambda: resnet(20),
            {"layer1.0.conv1": "norm rectifier", "layer2.0.conv2": "norm addition rectifier"},
        ),
        (
            lambda: preresnet(20),
            {"layer1.0.conv1": "norm rectifier", "layer1.0.conv3": "addition norm rectifier"},
        ),
        (
            mobilenet_v2,
            {"features.2.conv.0.0": "norm rectifier", "features.3.conv.2": "norm"},
        ),
        (lambda: densenet(40, 12), {}),
    ],
    ids=["resnet", "preresnet", "mobilenet", "densenet"],
)
def test_every_convolution_of_real_networks_has_a_map(network, expected):
    model = network().eval()
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    x = torch.randn(1, 3, 16, 16, generator=drawn(1))
    trail = follow(model, layers, x)
    for layer, chain in expected.items():
        assert " ".join(trail.chains(layer)[0]) == chain
    seen = []
    chains = {layer: trail.chains(layer) for layer in layers}
    assert all(len(chain) == 1 for chain in chains.values())
    read_maps(model, chains, x, lambda names, maps: seen.extend(names))
    assert sorted(seen) == sorted(layers)


def test_a_path_that_depends_on_the_images_is_refused(toy_context):
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x):
            y = self.conv(x)
            return (torch.relu(y) if len(x) == 1 else -y).mean((2, 3))

    with pytest.raises(CompressionError, match="depends on the images"):
        HRank().scores(Moody().eval(), ["conv"], toy_context)


def test_a_model_that_does_not_run_is_refused(toy_context):
    model = nn.Sequential(nn.Conv2d(5, 3, 1)).eval()
    with pytest.raises(CompressionError, match="must run on inputs of shape"):
        HRank().scores(model, ["0"], toy_context)


class Given:
    """Feature maps as inputs: one image is (C, H, W)."""

    def __init__(self, inputs):
        self.inputs = inputs

    @property
    def count(self):
        return len(self.inputs)

    def batches(self, size, *, order=None, augment=None):
        for part in np.split(order, range(size, len(order), size)):
            yield self.inputs[part], torch.zeros(len(part), dtype=torch.long)


def identity(*diagonal):
    """A convolution that passes each channel on, times a positive number."""
    layer = nn.Conv2d(len(diagonal), len(diagonal), 1, bias=False)
    layer.weight = nn.Parameter(torch.diag(torch.tensor(diagonal))[:, :, None, None])
    return nn.Sequential(layer, nn.ReLU()).eval()


def known_maps(*ranks, side=4):
    """Return one image per entry: channel c has a map of rank ranks[n][c]."""
    return torch.stack(
        [
            torch.stack([torch.diag((torch.arange(side) < r).float()) for r in image])
            for image in ranks
        ]
    )


def test_averages_of_known_ranks(toy_context):
    maps = known_maps((0, 1, 4), (0, 2, 4), (0, 4, 4))
    context = replace(toy_context, calibration=Given(maps), example=maps[:1])
    found = HRank().scores(identity(1.0, 2.0, 4.0), ["0"], context)["0"]
    # Half a step of 1/3 is shared out by the L1 norms.
    expected = [(0 + 0.125) / 3, (7 + 0.25) / 3, (12 + 0.5) / 3]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)


def test_ties_go_by_the_norm_and_never_change_other_places(toy_context):
    maps = known_maps(*[(3, 3, 3, 2)] * 4, (3, 3, 4, 2))
    context = replace(toy_context, calibration=Given(maps), example=maps[:1])
    found = HRank().scores(identity(5.0, 1.0, 0.01, 100.0), ["0"], context)["0"]
    assert found.argsort().tolist() == [3, 1, 0, 2]
    assert (found * 5).floor().tolist() == [15, 15, 16, 10]


def test_channels_of_zeros_only_have_score_zero(toy_context):
    model = identity(1.0, 1.0)
    with torch.no_grad():
        model[0].weight.zero_()
    maps = known_maps((1, 2))
    context = replace(toy_context, calibration=Given(maps), example=maps)
    assert HRank().scores(model, ["0"], context)["0"].tolist() == [0.0, 0.0]


def test_a_shared_layer_has_the_average_over_its_maps(toy_context):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = identity(1.0, 1.0)[0]

        def forward(self, x):
            first = F.relu(self.conv(x))
            return F.relu(self.conv(first * torch.diag(torch.tensor([1.0, 0, 0, 0]))))

    maps = known_maps((3, 4), (1, 2))
    context = replace(toy_context, calibration=Given(maps), example=maps[:1])
    found = HRank().scores(Twice().eval(), ["conv"], context)["conv"]
    assert found.tolist() == [(3 + 1 + 1 + 1 + 0.5) / 4, (4 + 1 + 2 + 1 + 0.5) / 4]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_scores_do_not_depend_on_the_batch(small_net, toy_context, mode):
    layers = ("stem", "depthwise", "mix")
    expected = HRank(batch=60, mode=mode).scores(small_net, layers, toy_context)
    found = HRank(batch=7, mode=mode).scores(small_net, layers, toy_context)
    for layer in layers:
        assert (found[layer] - expected[layer]).abs().max() < 0.02


def test_scores_are_torchs_ranks_of_the_rectified_outputs(small_net, toy_context):
    found = HRank(images=20).scores(small_net, ["stem", "mix"], toy_context)
    order = np.arange(20) * 60 // 20
    inputs, _ = next(toy_context.calibration.batches(20, order=order))
    with torch.no_grad():
        stem = torch.relu(small_net.norm(small_net.stem(inputs)))
        mix = torch.relu(small_net.mix(small_net.depthwise(stem)))
    for layer, maps in (("stem", stem), ("mix", mix)):
        expected = torch.linalg.matrix_rank(maps).sum(0)
        assert (found[layer] * 20).floor().long().equal(expected)


def test_a_masked_filter_has_maps_of_its_mask(small_net, toy_context):
    kept = torch.ones(8, 3, 3, 3, dtype=torch.bool)
    kept[2] = False
    constrain(small_net.stem, "weight", Mask(kept))
    found = HRank().scores(small_net, ["stem"], toy_context)["stem"]
    # A constant map: its rank is at most 1 and its norm 0.
    assert float(found[2]) in (0.0, 1.0)
    assert (found[torch.arange(8) != 2] > 1).any()


def test_layers_without_maps_are_left_out_and_said_so(small_net, toy_context):
    notes = []
    small_net.unused = nn.Conv2d(3, 3, 1)
    context = replace(toy_context, note=notes.append)
    found = HRank(images=10).scores(small_net, ["head", "mix", "unused"], context)
    assert list(found) == ["mix"]
    assert notes == [
        {
            "criterion": "hrank",
            "mode": "exact",
            "images": 10,
            "maps": 160,
            "left_out": dict.fromkeys(("head", "unused"), "has no feature maps (N, out, H, W)"),
        }
    ]


def test_fast_tells_how_far_it_is_off(small_net, toy_context):
    notes = []
    context = replace(toy_context, note=notes.append)
    exact = HRank().scores(small_net, ["stem"], toy_context)["stem"]
    fast = HRank(mode="fast").scores(small_net, ["stem"], context)["stem"]
    (note,) = notes
    assert note["maps"] == 60 * 8
    assert note["disagreement"]["sampled"] == 10
    assert 0 <= note["disagreement"]["share"] <= 1
    assert float((exact - fast).abs().max()) <= 0.5


def test_maps_that_are_not_finite_are_refused(small_net, toy_context):
    with torch.no_grad():
        small_net.norm.bias[1] = torch.nan
    with pytest.raises(CompressionError, match="feature maps of stem must be finite"):
        HRank().scores(small_net, ["stem"], toy_context)
