"""A candidate that heat maps are made of, and networks small enough to compute by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from shrinkproof.randomness import stream

STREAM = partial(stream, "heat map tests")


@dataclass
class Candidate:
    module: Any
    layer: str | None = None
    black: Any = field(default_factory=lambda: np.zeros(3, dtype=np.float32))
    asked: int = 0

    def predict(self, inputs):
        self.asked += len(inputs)
        with torch.no_grad():
            return self.module(torch.from_numpy(inputs)).numpy()


@dataclass
class Function:
    """A candidate of which only predictions can be had."""

    predict: Any
    module: Any = None
    layer: str | None = None
    black: Any = field(default_factory=lambda: np.zeros(3, dtype=np.float32))


def images(count=3, side=16, channels=3, seed=0):
    draws = np.random.default_rng(seed)
    return draws.normal(size=(count, channels, side, side)).astype(np.float32)


def labels(*values):
    return np.array(values, dtype=np.int64)


def with_weights(module, seed=0):
    """Give every weight and statistic a value of its own, in evaluation mode."""
    draws = np.random.default_rng(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            values = draws.normal(0, 0.4, tuple(tensor.shape))
            values = 0.5 + np.abs(values) if name.endswith("running_var") else values
            tensor.copy_(torch.from_numpy(values))
    return module.eval()


def one_by_one():
    """1x1 convolution to two channels, global average, linear layer; numbers of one digit."""
    module = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2),
    )
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        module[4].weight.copy_(torch.tensor([[4.0, -8.0], [0.0, 4.0]]))
        module[4].bias.copy_(torch.tensor([1.0, 2.0]))
    return module.eval()


def pearson(a, b):
    """Mean over the images of the correlation of two maps."""
    pairs = zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)
    return float(np.mean([np.corrcoef(p, q)[0, 1] for p, q in pairs]))
