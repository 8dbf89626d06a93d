"""The demo of detection: handwritten digits in textured scenes."""

from __future__ import annotations

from typing import Final

from shrinkproof.demo.baseline import Baseline
from shrinkproof.training.settings import Training

BASELINE: Final = Baseline(
    model="fcos-tiny",
    file="baseline.safetensors",
    training=Training(
        epochs=18,
        batch=16,
        learning_rate=0.03,
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
    input_shape: [3, 112, 112]
    preprocess: {mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25], size: [112, 112]}
    seen: [train]

data:                                      # scenes that share a digit stay in one part
  split: {from: "digit-scenes:?count=1000", train: 700, calibrate: 40, select: 90, report: rest}
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

conditions:                                # at the full size of each scene; boxes stay
  gaussian_noise: [3]
  fog: [3]
  jpeg_compression: [3]

measure:
  scores:
    - detection.ap                         # without this list, all twelve numbers of COCO
    - detection.ap50
    - detection.ap75
    - detection.ar100
    - detection.d_ece
    - detection.laece
    - detection.laace
  cost: {latency: {}}
  saliency: {images: 16, methods: [gradcam]}

select:
  minimize: [cost.bytes_zip]
  maximize: ["robustness.mpc@corrupted"]
  require: ["detection.ap50@clean >= 0.4"]
"""
