from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from shrinkproof.compressors.channels import ChannelPruning
from shrinkproof.compressors.channels.check import difference, probe_of, run
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.errors import CompressionError


def net(*layers):
    """Return layers in a row with equal weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(*(make() for make in layers)).eval()


def pair(*, between=nn.Identity):
    """Return a network with its first channel silent, and the one without that channel."""
    silent = net(lambda: nn.Conv2d(3, 3, 1), between, lambda: nn.Conv2d(3, 2, 1))
    small = net(lambda: nn.Conv2d(3, 2, 1), between, lambda: nn.Conv2d(2, 2, 1))
    with torch.no_grad():
        silent[0].weight[0] = 0
        silent[0].bias[0] = 0
        silent[2].weight[:, 0] = 0
        small[0].weight.copy_(silent[0].weight[1:])
        small[0].bias.copy_(silent[0].bias[1:])
        small[2].weight.copy_(silent[2].weight[:, 1:])
        small[2].bias.copy_(silent[2].bias)
    return silent, small


KEPT = {"0": np.array([1, 2]), "2": np.array([0, 1])}
INPUTS = torch.randn(1, 3, 5, 5, generator=torch.Generator().manual_seed(1))


def compare(silent, small):
    return difference(run(silent, KEPT, INPUTS), run(small, KEPT, INPUTS), KEPT)


def test_the_probe_is_noise_even_where_the_example_is_zero():
    probe = probe_of(torch.zeros(4, 3, 5, 5), "cpu")
    assert probe.shape == (1, 3, 5, 5)
    assert probe.std() > 0.5
    assert torch.equal(probe, probe_of(torch.zeros(1, 3, 5, 5), "cpu"))


def test_equal_networks_differ_by_rounding_only():
    assert compare(*pair()) < 1e-6


def test_the_difference_is_a_part_of_the_largest_value():
    silent, small = pair()
    with torch.no_grad():
        small[2].weight[:] = silent[2].weight[:, 1:]
        small[2].bias += 5e-5 * silent(INPUTS).abs().max()
    assert compare(silent, small) == pytest.approx(5e-5, rel=0.01)


def test_the_first_layer_that_differs_is_named():
    silent, small = pair()
    with torch.no_grad():
        small[0].bias[1] += 0.1
    with pytest.raises(CompressionError, match=r"from layer '0' on\. Usually an operation"):
        compare(silent, small)


def test_an_operation_across_channels_is_found_behind_it():
    with pytest.raises(CompressionError, match="from layer '2' on"):
        compare(*pair(between=lambda: nn.Softmax(1)))


def test_small_signals_below_a_large_bias_are_compared():
    silent, small = pair()
    with torch.no_grad():
        for model in (silent, small):
            model[2].bias.fill_(1e6)
        small[0].bias += 1e-3
    with pytest.raises(CompressionError, match="from layer '0' on"):
        compare(silent, small)


class Behind(nn.Module):
    """A network and an operation on its output and its width."""

    def __init__(self, inner, operation) -> None:
        super().__init__()
        self.inner = inner
        self.operation = operation

    def forward(self, x):
        return self.operation(self.inner(x), self.inner[0].out_channels)


def behind(operation):
    kept = {f"inner.{name}": positions for name, positions in KEPT.items()}
    silent, small = (Behind(model, operation) for model in pair())
    return difference(run(silent, kept, INPUTS), run(small, kept, INPUTS), kept)


@dataclass(slots=True)
class Answer:
    """What a network may return."""

    logits: torch.Tensor


@pytest.mark.parametrize("wrap", [Answer, lambda y: SimpleNamespace(logits=[y])])
def test_outputs_inside_of_objects_are_compared(wrap):
    assert behind(lambda y, _: wrap(y)) < 1e-6
    with pytest.raises(CompressionError, match="got other outputs"):
        behind(lambda y, width: wrap(y * width))


def test_outputs_are_compared_in_any_form():
    assert behind(lambda y, width: {"a": [y, (y + 1,)], "b": 3}) < 1e-6
    with pytest.raises(CompressionError, match=r"got other outputs .* counts channels"):
        behind(lambda y, width: {"a": y * width})
    with pytest.raises(CompressionError, match="got other outputs"):
        behind(lambda y, width: [y] * width)
    with pytest.raises(CompressionError, match=r"got other outputs \(by inf"):
        behind(lambda y, width: y[:, :, :width])


@pytest.mark.parametrize(
    "operation",
    [
        lambda y, width: y.flatten().topk(width).indices,
        lambda y, width: y[y > y.flatten().sort().values[-width]],
        lambda y, width: (y > y.mean() + width).nonzero(),
    ],
    ids=["topk", "mask", "nonzero"],
)
def test_outputs_that_depend_on_the_data_are_not_compared(operation):
    assert 0 <= behind(operation) < 1e-6


class Written(nn.Module):
    """A number of channels in the code."""

    def forward(self, x):
        return x.view(len(x), 3, -1).unsqueeze(-1)


def test_a_width_in_the_code_is_found_in_its_module():
    _, small = pair()
    small[1] = nn.Sequential(nn.Identity(), Written())
    with pytest.raises(CompressionError, match=r"RuntimeError in 1\.1: shape .*add the layers"):
        run(small, KEPT, INPUTS)


def test_hooks_are_taken_off_again():
    silent, _ = pair()
    run(silent, KEPT, INPUTS)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in silent.modules())


class CountsInTheCode(nn.Module):
    """Divides by the number of channels that it was written for."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 3, 1)

    def forward(self, x):
        x = self.first(x)
        if x.shape[1] != 8:
            raise ValueError("expected 8 channels")
        return self.second(x).mean((2, 3))


def test_a_network_that_insists_on_its_width_is_an_error(toy_context):
    step = ChannelPruning(ratio=0.5, round_to=1)
    with pytest.raises(CompressionError, match=r"ValueError in the model itself: expected 8 chann"):
        Recipe((step,)).apply(CountsInTheCode(), toy_context)
