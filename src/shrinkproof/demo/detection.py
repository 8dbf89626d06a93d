"""The demo of detection: handwritten digits in textured scenes."""

from __future__ import annotations

from typing import Final

from shrinkproof.demo.baseline import Baseline
from shrinkproof.training.settings import Training

BASELINE: Final = Baseline(
    model="fcos-tiny",
    file="baseline.safetensors",
    training=Training(
        epochs=24,
        batch=16,
        learning_rate=0.004,
        optimizer="adam",
        weight_decay=1e-4,
        schedule="onecycle",
        precision="bfloat16",
    ),
)

STUDY: Final = """\
# What `shrinkproof demo --task detection` runs: a small detector of digits in textured scenes.
study: demo-detection
task: detection

models:
  fcos-tiny:
    use: checkpoint:baseline.safetensors   # trained by the demo on the train split below
    arch: detector:fcos-tiny
    classes: 10
    preprocess: {mean: [0.45, 0.45, 0.45], std: [0.25, 0.25, 0.25]}
    seen: [train]

data:                                      # made of the digits that come with scikit-learn
  split: {from: "digit-scenes:?count=900", train: 600, calibrate: 40, select: 100, report: 160}
  batch: 16

recipes:
  prune0.7:
    steps:
      - prune.weights: {ratio: 0.7}
      - finetune: {epochs: 2, learning_rate: 0.001, optimizer: adam, batch: 16}
  channels0.3:
    steps:
      - prune.channels: {ratio: 0.3, round_to: 4}
      - finetune: {epochs: 2, learning_rate: 0.001, optimizer: adam, batch: 16}
  cluster16:
    steps:
      - fold
      - cluster: {levels: 16}
  int8:
    steps:
      - quantize.static

conditions:                                # pixels move a little under some of them; boxes stay
  gaussian_noise: [1, 3]
  motion_blur: [1, 3]
  fog: [1, 3]
  jpeg_compression: [1, 3]

measure:
  cost: {latency: {}}
  saliency: {images: 16, methods: [gradcam]}

select:
  minimize: [cost.bytes_zip]
  maximize: [robustness.mpc]
  require: ["detection.ap50@clean >= 0.5"]
"""
