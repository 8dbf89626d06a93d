"""Channel criteria on tensors small enough to compute by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof.compressors.constraint import Codebook, Mask, constrain, weight_of
from shrinkproof.compressors.criteria import CHANNEL_CRITERIA
from shrinkproof.errors import CompressionError
from shrinkproof.protocols import Needs


def scores(name, model, layers, context, **settings):
    return CHANNEL_CRITERIA.create(name, settings).scores(model, layers, context)


def conv(weight, **settings):
    """A convolution with the given weight, 1 x 1 if it has two axes."""
    weight = torch.tensor(weight)
    weight = weight if weight.ndim == 4 else weight[:, :, None, None]
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2:], bias=False, **settings)
    layer.weight = nn.Parameter(weight)
    return layer


class Fed:
    """Batches of given inputs and targets, as a split would give them."""

    def __init__(self, inputs, target):
        self.inputs, self.target = inputs, target
        self.orders = []

    @property
    def count(self):
        return len(self.inputs)

    def batches(self, size, *, order=None, augment=None):
        self.orders.append(order)
        for part in np.split(order, range(size, len(order), size)):
            yield self.inputs[part], self.target[part]


def test_norms_of_filters(toy_context):
    model = nn.Sequential(conv([[3.0, -4.0], [0.0, 1.0], [0.0, 0.0]]))
    assert scores("l1", model, ["0"], toy_context)["0"].tolist() == [7.0, 1.0, 0.0]
    assert scores("l2", model, ["0"], toy_context)["0"].tolist() == [5.0, 1.0, 0.0]


def test_distances_between_filters(toy_context):
    # A right triangle with sides 3, 4 and 5.
    model = nn.Sequential(conv([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]]))
    assert scores("fpgm", model, ["0"], toy_context)["0"].tolist() == pytest.approx([7.0, 8.0, 9.0])


def test_equal_filters_have_distance_zero_however_long_they_are(toy_context):
    filters = torch.randn(1, 40, generator=torch.Generator().manual_seed(0)) * 1e6
    model = nn.Sequential(conv(filters.repeat(6, 1).tolist()))
    assert scores("fpgm", model, ["0"], toy_context)["0"].tolist() == [0.0] * 6


@pytest.mark.parametrize("spread", [1e-6, 1e-3, 1.0])
def test_sums_of_distances_agree_with_scipy(toy_context, spread):
    from scipy.spatial.distance import cdist

    generator = torch.Generator().manual_seed(1)
    filters = torch.randn(1, 60, generator=generator)
    filters = filters + spread * torch.randn(30, 60, generator=generator)
    model = nn.Sequential(conv(filters.tolist()))
    expected = cdist(filters.double().numpy(), filters.double().numpy()).sum(1)
    found = scores("fpgm", model, ["0"], toy_context)["0"].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize("groups", [1, 2])
def test_output_channels_of_a_transposed_convolution(toy_context, groups):
    layer = nn.ConvTranspose2d(4, 6, 3, groups=groups, bias=False)
    found = scores("l1", nn.Sequential(layer), ["0"], toy_context)["0"]
    for channel in range(6):
        # The channel's output on all-one inputs and absolute weights sums its filter.
        x = torch.ones(1, 4, 1, 1)
        out = F.conv_transpose2d(x, layer.weight.detach().abs(), groups=groups)
        assert float(found[channel]) == pytest.approx(float(out[0, channel].sum()), rel=1e-5)


def test_chance_depends_on_the_stream_and_the_layer_alone(toy_context):
    model = nn.Sequential(conv([[1.0], [2.0]]), conv([[1.0, 1.0], [2.0, 2.0]]))
    first = scores("random", model, ["0", "1"], toy_context)
    second = scores("random", model, ["1"], toy_context)
    assert first["1"].equal(second["1"])
    assert not first["0"].equal(first["1"])


@pytest.mark.parametrize("name", ["l1", "l2", "fpgm"])
def test_a_masked_weight_counts_as_zero(toy_context, name):
    model = nn.Sequential(conv([[3.0, -4.0], [5.0, 12.0]]))
    zeroed = nn.Sequential(conv([[3.0, 0.0], [0.0, 12.0]]))
    mask = torch.tensor([[True, False], [False, True]])[:, :, None, None]
    constrain(model[0], "weight", Mask(mask))
    expected = scores(name, zeroed, ["0"], toy_context)["0"]
    assert scores(name, model, ["0"], toy_context)["0"].equal(expected)


@pytest.mark.parametrize("name", ["l1", "l2", "fpgm", "random", "hrank", "taylor"])
def test_weights_that_are_not_finite_are_refused(toy_context, name):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    with torch.no_grad():
        model[0].weight[1, 0] = torch.nan
    with pytest.raises(CompressionError, match="must be finite"):
        scores(name, model, ["0"], toy_context)


def test_a_layer_without_filters_is_refused(toy_context):
    with pytest.raises(CompressionError, match="must be a convolution or a fully connected layer"):
        scores("l1", nn.Sequential(nn.BatchNorm2d(3)), ["0"], toy_context)


class Norms(nn.Module):
    """A batch norm as a module, as a function, behind a rectifier, without scale, and none."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.d, self.e = (nn.Conv2d(3, 3, 1) for _ in range(5))
        self.norm = nn.BatchNorm2d(3)
        self.plain = nn.BatchNorm2d(3, affine=False)
        self.scale = nn.Parameter(torch.tensor([-1.0, 0.0, 2.0]))

    def forward(self, x):
        x = F.relu_(self.norm(self.a(x)))
        x = F.batch_norm(self.b(x), torch.zeros(3), torch.ones(3), self.scale, torch.zeros(3))
        x = self.norm(F.relu(self.c(x)))
        return self.e(self.plain(self.d(x))).mean((2, 3))


def test_scale_of_the_batch_norm_directly_behind(toy_context):
    model = Norms().eval()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([0.5, -3.0, 0.0]))
    found = scores("bn_scale", model, list("abcde"), toy_context)
    assert {name: s.tolist() for name, s in found.items()} == {
        "a": [0.5, 3.0, 0.0],
        "b": [1.0, 0.0, 2.0],
    }


def test_scale_of_a_batch_norm_that_is_written_as_arithmetic(toy_context):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            for name in ("weight", "bias", "running_mean", "running_var"):
                self.register_buffer(name, torch.tensor([1.0, -2.0, 3.0]))

        def forward(self, x):
            return x * self.weight[:, None, None] + self.bias[:, None, None]

    model = nn.Sequential(nn.Conv2d(3, 3, 1), Frozen())
    assert scores("bn_scale", model, ["0"], toy_context)["0"].tolist() == [1.0, 2.0, 3.0]


def test_a_scale_that_is_not_finite_is_refused(toy_context):
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()
    with torch.no_grad():
        model[1].weight[0] = torch.inf
    with pytest.raises(CompressionError, match="batch norm scales behind 0 must be finite"):
        scores("bn_scale", model, ["0"], toy_context)


def test_a_shared_layer_has_the_mean_over_its_batch_norms(toy_context):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))

        def forward(self, x):
            for norm in self.norms:
                x = norm(self.conv(x))
            return x

    model = Shared().eval()
    with torch.no_grad():
        model.norms[1].weight.fill_(3.0)
    assert scores("bn_scale", model, ["conv"], toy_context)["conv"].tolist() == [2.0] * 3


class SquaredError:
    """Half the mean squared error, whose gradient is easy to write down."""

    name = "squared error"

    def loss(self, outputs, target, *, label_smoothing=0.0):
        return 0.5 * (outputs - target).square().sum(1).mean()


@pytest.fixture
def linear_context(toy_context):
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(10, 3, 1, 1, generator=generator)
    target = torch.randn(10, 2, generator=generator)
    return replace(toy_context, task=SquaredError(), calibration=Fed(inputs, target))


@pytest.fixture
def linear_net():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten()).eval()


def test_taylor_is_the_squared_effect_of_each_batch(linear_net, linear_context):
    feed = linear_context.calibration
    x, y = feed.inputs.flatten(1).double(), feed.target.double()
    weight = linear_net[0].weight.detach().flatten(1).double()
    bias = linear_net[0].bias.detach().double()
    outputs = x @ weight.T + bias
    expected = torch.zeros(2, dtype=torch.double)
    for part in (slice(0, 4), slice(4, 8), slice(8, 10)):
        # d loss / d output times output: a gate on the channel sees exactly this.
        effect = ((outputs - y) * outputs)[part].mean(0)
        expected += (part.stop - part.start) / 10 * effect.square()
    found = scores("taylor", linear_net, ["0"], linear_context, batch=4)["0"]
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5)


def test_taylor_is_the_slope_of_the_loss_along_a_shrinking_channel(small_net, toy_context):
    found = scores("taylor", small_net, ["mix"], toy_context, images=24, batch=24)["mix"]
    inputs, target = [], []
    order = np.arange(24) * toy_context.calibration.count // 24
    for x, t in toy_context.calibration.batches(24, order=order):
        inputs.append(x.double())
        target.append(t)
    small_net.double()
    for channel in (0, 7):
        losses = []
        for factor in (1 - 1e-4, 1 + 1e-4):
            kept = [p.detach().clone() for p in (small_net.mix.weight, small_net.mix.bias)]
            with torch.no_grad():
                small_net.mix.weight[channel] *= factor
                small_net.mix.bias[channel] *= factor
                losses.append(toy_context.task.loss(small_net(inputs[0]), target[0]).item())
                small_net.mix.weight.copy_(kept[0])
                small_net.mix.bias.copy_(kept[1])
        slope = (losses[1] - losses[0]) / 2e-4
        assert float(found[channel]) == pytest.approx(slope**2, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("name", ["taylor", "hrank"])
def test_no_calibration_images_is_refused(small_net, toy_context, name):
    assert CHANNEL_CRITERIA.create(name).needs is Needs.CALIBRATION
    empty = Fed(torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.long))
    for feed in (None, empty):
        with pytest.raises(CompressionError, match="needs images of the split 'calibrate'"):
            scores(name, small_net, ["stem"], replace(toy_context, calibration=feed))


def test_images_are_spread_over_the_split(linear_net, linear_context):
    scores("taylor", linear_net, ["0"], linear_context, images=4, batch=3)
    assert linear_context.calibration.orders[0].tolist() == [0, 2, 5, 7]


@pytest.mark.parametrize("name", sorted(CHANNEL_CRITERIA))
def test_the_model_stays_as_it_is(small_net, toy_context, name):
    constrain(small_net.mix, "weight", Mask(torch.rand(16, 8, 1, 1) < 0.5))
    levels, index = torch.tensor([-0.1, 0.2]), torch.randint(0, 2, (8, 1, 3, 3)).to(torch.uint8)
    constrain(small_net.depthwise, "weight", Codebook(levels, index))
    small_net.stem.weight.requires_grad_(False)
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in small_net.named_parameters()}
    hooks = [len(m._forward_hooks) for m in small_net.modules()]
    found = scores(name, small_net, ["stem", "depthwise", "mix"], toy_context)
    assert found
    for score in found.values():
        assert score.isfinite().all()
        assert not score.requires_grad
    assert [len(m._forward_hooks) for m in small_net.modules()] == hooks
    for parameter_name, parameter in small_net.named_parameters():
        value, trainable = before[parameter_name]
        assert parameter.equal(value)
        assert parameter.requires_grad == trainable
        assert parameter.grad is None
    assert weight_of(small_net.depthwise).unique().numel() == 2
