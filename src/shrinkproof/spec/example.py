"""The study file that ``shrinkproof init`` writes."""

from __future__ import annotations

from typing import Final

_EXAMPLE: Final = """\
# A shrinkproof study: what to compress, how, and what to measure.
#   shrinkproof check study.yaml     finds every problem in this file
#   shrinkproof run study.yaml       runs what is missing; the same command continues and repairs
#   shrinkproof list                 names and settings of all steps, corruptions and metrics

study: my-study # also the name of the run directory

models:
  # name: what to load. `seen` says which images the network was trained on; without it, every
  # number counts as measured on images that it has seen.
  resnet20:
    use: checkpoint:resnet20.safetensors
    arch: cifar:resnet20
    classes: 10
    preprocess: {mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}
    input_shape: [3, 32, 32]
    seen: [cifar10:train]

data:
  # Five splits that are never mixed: train and calibrate serve the recipes, select the choice,
  # certify the certificate, report every printed number.
  train: cifar10:train
  calibrate: {use: cifar10:train, count: 512}
  split: {from: cifar10:test, select: 2000, certify: 3000, report: rest, seed: 0}
  batch: auto # 256
  # preset: cifar # corruption constants, where the data do not know theirs
  # frost: photos # the published ones, from --root frost_dir=DIR; frost is procedural without
  # stored: cifar-c:DIR # read published corrupted images instead of making them

recipes:
  # Steps run in order. A grid makes one recipe for each value; "{ratio}" takes the value.
  prune{ratio}:
    grid: {ratio: [0.3, 0.5, 0.7]} # fractions, not percent
    steps:
      - prune.weights: {ratio: "{ratio}", scope: global}
      - finetune: {epochs: 2, learning_rate: 0.01}
  int8:
    steps:
      - quantize.static
  cluster16-int8:
    steps:
      - fold
      - cluster: {levels: 16}
      - quantize.static

conditions:
  # corruption: severities, 1 (mild) to 5 (severe); clean images are always measured.
  gaussian_noise: [1, 3, 5]
  fog: [1, 3, 5]
  # or a named set:
  # common: {use: common-corruptions, severities: [1, 2, 3, 4, 5]} # the 15 of mCE

measure:
  scores: [accuracy.top1, accuracy.nll, accuracy.brier, calibration.ece, calibration.ece_equal_mass]
  cost: {latency: {}}

repeats: 1 # recipes that train are repeated with other random streams
seed: 0
controls: dense # equal training without compression; `all` adds pruned shapes from scratch

select:
  minimize: [robustness.mean_error, cost.bytes, "calibration.ece@clean"]
  require: ["accuracy.top1@clean >= 0.85"]
  rule: knee
  tolerance: {robustness.mean_error: 0.01} # a smaller difference does not matter

# Promises about new images, with a confidence; `shrinkproof certify` tests them on certify images.
certify:
  confidence: 0.95
  promises:
    - {error: 0.20, over: clean}
    - {excess_error: 0.03, over: mean} # against the baseline, over the mean of the corruptions
"""


def example_study() -> str:
    """Return a commented study file that passes ``shrinkproof check``."""
    return _EXAMPLE
