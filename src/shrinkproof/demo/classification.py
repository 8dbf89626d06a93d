"""The demo of classification: a small residual network on real handwritten digits."""

from __future__ import annotations

from typing import Final

from shrinkproof.demo.baseline import Baseline
from shrinkproof.training.settings import Training

BASELINE: Final = Baseline(
    model="resnet8",
    file="baseline.safetensors",
    training=Training(
        epochs=30,
        batch=64,
        learning_rate=0.2,
        weight_decay=5e-4,
        schedule="onecycle",
        augment=("crop",),
    ),
)

STUDY: Final = """\
# What `shrinkproof demo` runs: a small residual network on real handwritten digits.
study: demo
task: classification

models:
  resnet8:
    use: checkpoint:baseline.safetensors   # trained by the demo on the train split below
    arch: cifar:resnet8w8
    classes: 10
    preprocess: {mean: [0.3, 0.3, 0.3], std: [0.35, 0.35, 0.35]}
    seen: [train]

data:                                      # 1,797 digits that come with scikit-learn
  split: {from: digits, train: 700, calibrate: 97, select: 150, certify: 550, report: 300}
  batch: 150

recipes:
  prune0.8:
    steps:
      - prune.weights: {ratio: 0.8}
      - finetune: {epochs: 5, learning_rate: 0.02, batch: 64}
  channels0.25:
    steps:
      - prune.channels: {ratio: 0.25, round_to: 2}
      - finetune: {epochs: 5, learning_rate: 0.02, batch: 64}
  cluster16:
    steps:
      - fold
      - cluster: {levels: 16}
  int8:
    steps:
      - quantize.static
  channels0.25-int8:
    steps:
      - prune.channels: {ratio: 0.25, round_to: 2}
      - finetune: {epochs: 5, learning_rate: 0.02, batch: 64}
      - quantize.static

conditions:
  common: {use: common-corruptions, severities: [1, 2, 3, 4, 5]}

measure:
  cost: {latency: {}}
  margins: {accuracy.top1: 0.02}           # within two points, accuracy may be called kept
  saliency: {images: 64}                   # Grad-CAM maps, compared with the baseline's

select:
  minimize: [robustness.mean_error, cost.bytes_zip]
  require: ["accuracy.top1@clean >= 0.95"]
  tolerance: {robustness.mean_error: 0.02} # two points: a smaller loss does not matter here

certify:                                   # tested on the certify images, which nothing else reads
  promises:
    - {error: 0.10, over: every, corruptions: [snow, brightness], up_to_severity: 2}
  candidates: all
"""
