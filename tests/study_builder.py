"""A study that runs in seconds: 60 + 60 small images, a tiny network of user code, 3 recipes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

NETWORK = """
import torch
from torch import nn


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
"""

STUDY = """
study: tiny
models:
  net:
    use: import:tiny_user_network:network
    classes: 4
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5]}
    input_shape: [3, 16, 16]
    seen: [train]
data:
  train: arrays:train.npz
  calibrate: {use: arrays:train.npz, count: 32}
  split: {from: arrays:test.npz, select: 60, report: 60}
  preset: cifar
  batch: 32
recipes:
  prune{ratio}:
    grid: {ratio: [0.5, 0.8]}
    steps:
      - prune.weights: {ratio: "{ratio}"}
      - finetune: {epochs: 1, learning_rate: 0.01, batch: 32}
  cluster8:
    steps:
      - cluster: {levels: 8}
conditions:
  gaussian_noise: [1, 5]
  contrast: [3]
measure:
  intervals: {replicates: 200}
  cost: {latency: {repeats: 20, warmup: 1, processes: 1}}
select:
  minimize: [robustness.mean_error, cost.bytes_zip]
"""


def write_images(path: Path, count: int, seed: int) -> None:
    """Four classes of textured images that a network can tell apart a little."""
    rng = np.random.default_rng(seed)
    target = rng.integers(0, 4, count)
    images = rng.integers(0, 120, (count, 16, 16, 3))
    images += (target[:, None, None, None] * 30 * np.array([1, 0, 0])).astype(np.int64)
    np.savez(path, images=images.astype(np.uint8), target=target.astype(np.int64))


def write_study(folder: Path, text: str = STUDY) -> Path:
    """Write the study with everything it needs and return its file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_images(folder / "train.npz", 96, 1)
    write_images(folder / "test.npz", 120, 2)
    return rewrite_study(folder / "study.yaml", text)


def rewrite_study(file: Path, text: str) -> Path:
    """Replace a study's text; each folder has a user module of its own, as a process keeps one."""
    module = f"network_{hashlib.sha256(str(file.parent).encode()).hexdigest()[:8]}"
    (file.parent / f"{module}.py").write_text(NETWORK)
    file.write_text(text.replace("tiny_user_network", module))
    return file


def comparable(run: Path) -> list[dict[str, object]]:
    """All records of a run that two runs must share bit for bit: everything but the clock."""
    from shrinkproof.results import Results

    return [
        {key: value for key, value in record.as_json().items() if key != "environment"}
        for record in Results.load(run).records
        if record.evaluator != "latency"
    ]
