"""Small networks of every kind of coupling, and the check that a cut equals a masked model."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof.compressors.coupling import couple, cut, cut_again, silence
from shrinkproof.compressors.coupling.state import tensors_in
from shrinkproof.models.cifar import resnet


def awake(model, seed=0):
    """Give every parameter and statistic a value of its own, so that nothing hides an error."""
    draws = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, tensor in (*module._parameters.items(), *module._buffers.items()):
                if tensor is None or not tensor.is_floating_point():
                    continue
                values = torch.rand(tensor.shape, generator=draws, dtype=torch.float64)
                if tensor.ndim > 1:
                    fan = tensor[0].numel()
                    values = (values - 0.5) * (12 / fan) ** 0.5
                elif name in ("weight", "running_var"):
                    values = values + 0.5
                else:
                    values = values - 0.5
                tensor.copy_(values)
    return model.eval()


def choose(coupling, seed=0, ratio=0.5):
    """Return a random removal that empties no axis."""
    rng = np.random.default_rng(seed)
    removed = rng.random(coupling.classes) < ratio
    removed[list(coupling.locked)] = False
    while empty := coupling.emptied(removed):
        for axis in empty:
            removed[coupling.axes[axis][0]] = False
    return removed


def outputs(model, x):
    with torch.no_grad():
        return list(tensors_in(model(x)))


def macs_by_hooks(model, x):
    """Count multiply-accumulates while the model runs, without any coupling."""
    total = 0

    def count(module, inputs, out):
        nonlocal total
        applied = inputs[0] if isinstance(module, nn.modules.conv._ConvTransposeNd) else out
        channels = applied.shape[-1 if isinstance(module, nn.Linear) else 1]
        total += applied.numel() // channels * module.weight.numel()

    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    handles = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, kinds)]
    outputs(model, x)
    for handle in handles:
        handle.remove()
    return total


def assert_cut_equals_mask(model, shape, *, seed=0, ratio=0.5, functional=False):
    """Cut a random half of what is free to go, compare with the masked model; return both."""
    model = model.double().eval()
    example = torch.zeros(shape, dtype=torch.float64)
    coupling = couple(model, example)
    removed = choose(coupling, seed, ratio)
    assert removed.any()
    masked, small, again = (copy.deepcopy(model) for _ in range(3))
    silence(masked, coupling, removed)
    account = cut(small, coupling, removed)
    x = torch.randn(
        (2, *shape[1:]), dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    for expected, got in zip(outputs(masked, x), outputs(small, x), strict=True):
        assert expected.shape == got.shape
        assert expected.abs().max() > 0
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-10)
    assert sum(p.numel() for p in small.parameters()) == coupling.parameters(removed)
    assert sum(p.numel() for p in model.parameters()) == coupling.parameters()
    if not functional:
        assert macs_by_hooks(small, example) == coupling.macs(removed)
        assert sum(coupling.macs_of(removed).values()) == coupling.macs(removed)
    cut_again(again, account)
    again.load_state_dict(small.state_dict(), strict=True)
    for expected, got in zip(outputs(small, x), outputs(again, x), strict=True):
        assert torch.equal(expected, got)
    return coupling, removed, small


class Block(nn.Sequential):
    """Convolution, batch norm, rectifier."""

    def __init__(self, inputs, outs, size=3, **kwargs):
        conv = nn.Conv2d(inputs, outs, size, padding=size // 2, bias=False, **kwargs)
        super().__init__(conv, nn.BatchNorm2d(outs), nn.ReLU(inplace=True))


class Head(nn.Sequential):
    """Global pooling and a linear layer."""

    def __init__(self, inputs):
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 3))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.outer = Block(3, 8), Block(8, 6), Block(6, 8)
        self.head = Head(8)

    def forward(self, x):
        x = self.stem(x)
        return self.head(F.relu(x + self.outer(self.inner(x))))


class LambdaLayer(nn.Module):
    """The spelling of a published implementation: a function in a closure."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class LambdaPad(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.conv = Block(3, 6), Block(6, 11, stride=2)
        planes = 3
        self.shortcut = LambdaLayer(
            lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, planes - 1, planes), "constant", 0)
        )
        self.head = Head(11)

    def forward(self, x):
        x = self.stem(x)
        return self.head(F.relu(self.conv(x) + self.shortcut(x)))


class TwoPads(nn.Module):
    """One module pads twice, and runs twice."""

    class Pad(nn.Module):
        def forward(self, x):
            x = F.pad(x, (1, 1, 1, 1))
            x = F.pad(x, pad=[0, 0, 0, 0, 0, 2])
            return F.pad(x, (0, 0, 0, 0, 3, 1))

    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.pad = Block(3, 4), Block(3, 10, size=1), self.Pad()
        self.mix, self.head = nn.Conv2d(10, 5, 1), Head(5)

    def forward(self, x):
        thin = self.stem(x)
        wide = self.wide(F.pad(x, (1, 1, 1, 1)))
        return self.head(self.mix(wide + self.pad(thin) + self.pad(thin * 2)))


class Depthwise(nn.Sequential):
    def __init__(self, multiplier=1):
        wide = 6 * multiplier
        super().__init__(
            *(Block(3, 6), nn.Conv2d(6, wide, 3, groups=6), nn.BatchNorm2d(wide), nn.ReLU6()),
            *(nn.Conv2d(wide, 7, 1), nn.SiLU(), Head(7)),
        )


class Grouped(nn.Sequential):
    def __init__(self):
        super().__init__(
            Block(3, 8), nn.Conv2d(8, 12, 3, groups=4), nn.PReLU(12), nn.Conv2d(12, 6, 1), Head(6)
        )


class Concat(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = Block(3, 5), Block(5, 4), Block(9, 6)
        self.norm, self.head = nn.BatchNorm2d(15), Head(15)

    def forward(self, x):
        a = self.one(x)
        b = torch.cat((a, self.two(a)), 1)
        return self.head(F.gelu(self.norm(torch.cat([b, self.three(b)], dim=1))))


class Flatten(nn.Sequential):
    def __init__(self):
        super().__init__(
            *(Block(3, 6), nn.MaxPool2d(2), nn.Conv2d(6, 5, 3, padding=1), nn.Hardswish()),
            *(nn.Flatten(), nn.Linear(5 * 16, 10), nn.LeakyReLU(), nn.Dropout(), nn.Linear(10, 4)),
        )


class SqueezeExcite(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = Block(3, 8), Head(8)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.scale = nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x):
        x = self.stem(x)
        gate = torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))
        return self.head(x * gate * self.scale)


class Shared(nn.Module):
    """One layer on several inputs, and two layers with one weight."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.shared = Block(3, 6), Block(3, 6, stride=2), Block(6, 6)
        self.first, self.second = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1)
        self.second.weight = self.first.weight
        self.head = Head(4)

    def forward(self, x):
        a, b = self.shared(self.one(x)), self.shared(self.two(x))
        return self.head(self.first(a)), self.head(self.second(b))


class Transposed(nn.Sequential):
    def __init__(self, groups=1):
        super().__init__(
            *(Block(3, 8), nn.ConvTranspose2d(8, 16 if groups == 8 else 12, 2, 2, groups=groups)),
            *(nn.Tanh(), nn.ConvTranspose2d(16 if groups == 8 else 12, 5, 3), Head(5)),
        )


class Functional(nn.Module):
    """No layer modules: parameters and functions."""

    def __init__(self):
        super().__init__()
        self.w1, self.b1 = nn.Parameter(torch.ones(8, 3, 3, 3)), nn.Parameter(torch.ones(8))
        self.w2 = nn.Parameter(torch.ones(8, 8, 3, 3))
        self.w3, self.b3 = nn.Parameter(torch.ones(3, 8)), nn.Parameter(torch.ones(3))
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x):
        x = F.conv2d(F.pad(x, (1, 1, 1, 1)), self.w1, self.b1)
        y = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.w2)
        y = torch.where(y > 0, y, 0.1 * y) * self.scale.reshape(1, -1, 1, 1) + x.clamp(-1, 1)
        y = F.interpolate(F.max_pool2d(y, 2), scale_factor=2)
        return F.linear(y.permute(0, 2, 3, 1), self.w3, self.b3).mean((1, 2))


class Tokens(nn.Module):
    """Pixels as a sequence, a perceptron on each."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 2, 2), nn.InstanceNorm2d(8, affine=True)
        self.up, self.down, self.head = nn.Linear(8, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = self.norm(self.stem(x)).flatten(2).transpose(1, 2)
        x = x + self.down(F.gelu(self.up(x)))
        parts = torch.stack(x.unbind(1)[:4], dim=0)
        return self.head(x).softmax(1).sum(1), self.head(parts).amax(0)


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict(
            {"a": nn.Sequential(Residual().stem, Block(8, 8)), "b": Block(3, 8)}
        )
        self.head = Head(8)

    def forward(self, x):
        return {"logits": self.head(self.body["a"](x) - self.body["b"](x))}


NETS = {
    "residual": Residual,
    "lambda_pad": LambdaPad,
    "two_pads": TwoPads,
    "cifar_resnet": lambda: resnet(8, 8),
    "cifar_resnet_projected": lambda: resnet(8, 8, "project"),
    "depthwise": Depthwise,
    "depthwise_multiplier": lambda: Depthwise(2),
    "grouped": Grouped,
    "concat": Concat,
    "flatten": Flatten,
    "squeeze_excite": SqueezeExcite,
    "shared": Shared,
    "transposed": Transposed,
    "transposed_grouped": lambda: Transposed(4),
    "transposed_depthwise": lambda: Transposed(8),
    "functional": Functional,
    "tokens": Tokens,
    "nested": Nested,
}
