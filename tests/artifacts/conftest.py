"""Fixtures of the artifact tests: trained toy networks, compressed and exported once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from shrinkproof.artifacts.candidate import write_candidate
from shrinkproof.artifacts.export import ExportReport
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.records import Candidate, Change
from shrinkproof.tasks import Classification

SIZE = 12
CLASSES = 5


class Block(nn.Module):
    """Residual block whose shortcut has no parameters: every second pixel, zero channels."""

    def __init__(self, wide_in: int, wide_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(wide_in, wide_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide_out)
        self.conv2 = nn.Conv2d(wide_out, wide_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wide_out)
        self.stride = stride
        self.extra = (wide_out - wide_in) // 2

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride != 1:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.extra, self.extra))
        return F.relu(x + y)


class Residual(nn.Module):
    """A small CIFAR-style residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.linear = nn.Linear(16, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.linear(self.blocks(x).mean((2, 3)))


def sequential() -> nn.Sequential:
    """A plain chain with max pooling and a flattened head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, CLASSES),
    )


def toy_inputs(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Oriented waves with noise; the class is the direction."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % CLASSES
    angle = target * np.pi / CLASSES
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    along = np.cos(angle)[:, None, None] * rows[None] + np.sin(angle)[:, None, None] * columns[None]
    waves = np.sin(along * 1.3 + rng.uniform(0, 6, count)[:, None, None])
    pixels = waves[:, None] * rng.uniform(0.5, 1.5, (count, 3, 1, 1))
    pixels = pixels + rng.normal(0, 0.4, pixels.shape)
    return torch.from_numpy(pixels.astype(np.float32)), torch.from_numpy(target)


class ToyFeed:
    """Tensors as a feed."""

    def __init__(self, count: int, seed: int) -> None:
        self.inputs, self.target = toy_inputs(count, seed)

    @property
    def count(self) -> int:
        return len(self.inputs)

    def batches(self, size, *, order=None, augment=None):
        rows = np.arange(self.count) if order is None else order
        for start in range(0, self.count, size):
            chosen = torch.from_numpy(rows[start : start + size])
            yield self.inputs[chosen], self.target[chosen]


def trained(model: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for layer in model.modules():
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    feed = ToyFeed(512, seed=1)
    model.train()
    for _ in range(4):
        for inputs, target in feed.batches(64):
            optimizer.zero_grad()
            F.cross_entropy(model(inputs), target).backward()
            optimizer.step()
    return model.eval()


@dataclass(frozen=True)
class Made:
    """A compressed network and the folder it is stored in."""

    folder: Path
    candidate: Candidate
    module: nn.Module
    changes: tuple[Change, ...]
    report: ExportReport
    context: Context


@pytest.fixture(scope="session")
def context() -> Context:
    feed = ToyFeed(256, seed=2)
    return Context(
        task=Classification(),
        example=torch.zeros(1, 3, SIZE, SIZE),
        device=torch.device("cpu"),
        stream=lambda *parts: stream("test", *parts),
        calibration=feed,
        training=feed,
    )


@pytest.fixture(scope="session")
def residual() -> nn.Module:
    return trained(Residual())


RECIPES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "float": [],
    "int8": [("quantize.static", {"reduce_range": False})],
    "sparse int8": [("prune.weights", {"ratio": 0.6}), ("quantize.static", {})],
    "levels": [("cluster", {"levels": 16})],
    "levels int8": [("fold", {}), ("cluster", {"levels": 16}), ("quantize.static", {})],
}


@pytest.fixture(scope="session")
def make(residual, context, tmp_path_factory):
    """Return a recipe's model and files by its name; each is made once."""
    root: Path = tmp_path_factory.mktemp("candidates")
    made: dict[str, Made] = {}

    def by_name(name: str) -> Made:
        if name not in made:
            steps = tuple(COMPRESSORS.create(step, fields) for step, fields in RECIPES[name])
            module, changes = Recipe(steps=steps).apply(residual, context)
            candidate = Candidate(key="0123456789abcdef", model="toy", recipe=name)
            folder = root / name
            report = write_candidate(
                folder,
                module=module,
                changes=changes,
                candidate=candidate,
                example=context.example,
            )
            made[name] = Made(folder, candidate, module, changes, report, context)
        return made[name]

    return by_name


@pytest.fixture(scope="session")
def test_images() -> torch.Tensor:
    return toy_inputs(1000, seed=3)[0]


@pytest.fixture(scope="session")
def plain() -> nn.Module:
    return trained(sequential())


@pytest.fixture(scope="session")
def fresh_residual():
    return Residual
