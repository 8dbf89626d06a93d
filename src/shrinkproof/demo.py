"""The demo: train a small network on real digits, compress it, and prove what that did."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shrinkproof.study import Study

if TYPE_CHECKING:
    from shrinkproof.results import Results
    from shrinkproof.store import Store
    from shrinkproof.study.progress import Progress

MODEL: Final = "resnet8"
WEIGHTS: Final = "baseline.safetensors"
EPOCHS: Final = 30

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


def run_demo(folder: Path, progress: Progress) -> Results:
    """Run the demo in a directory, certify, and return its results; running again continues.

    Args:
        folder: where the study file, the trained network and the run are written.
        progress: who is told how far it is.
    """
    from shrinkproof.engines.inline import Inline
    from shrinkproof.engines.processes import Processes
    from shrinkproof.store import Store
    from shrinkproof.study.certifying import certify

    store = Store.create(folder)
    store.write_text(folder / "study.yaml", STUDY)
    study = Study.load(folder / "study.yaml")
    if not (folder / WEIGHTS).is_file():
        _train_baseline(study, store, progress)
    cores = os.cpu_count() or 1
    engine = Processes(workers=min(cores, 8)) if cores > 1 else Inline()
    results = study.run(folder, engine=engine, progress=progress)
    # A few passes over few images: starting processes would take longer than the work.
    certify(folder, engine=Inline(), progress=progress)
    return results


def _train_baseline(study: Study, store: Store, progress: Progress) -> None:
    """Train the network on the train split of the demo's study and write its weights."""
    import functools

    import torch
    from safetensors.torch import save

    from shrinkproof import randomness
    from shrinkproof.models.reference import ModelSpec, load_model
    from shrinkproof.protocols import Context
    from shrinkproof.tasks import TASKS
    from shrinkproof.training.feed import ImageFeed
    from shrinkproof.training.settings import Training

    start = time.perf_counter()
    progress.begin("train", EPOCHS)
    spec = study.spec.models[MODEL]
    untrained = ModelSpec(use=spec.arch, classes=spec.classes, preprocess=spec.preprocess)
    model = load_model(untrained, {})
    context = Context(
        task=TASKS.create(study.spec.task),
        example=torch.zeros((1, *model.input_shape)),
        device=torch.device("cpu"),
        training=ImageFeed(study.inputs.splits(["train"]).sets["train"], model.preprocess),
        stream=functools.partial(randomness.stream, "demo"),
        note=lambda values: progress.advance(f"epoch {values['epoch']}"),
    )
    training = Training(
        epochs=EPOCHS,
        batch=64,
        learning_rate=0.2,
        weight_decay=5e-4,
        schedule="onecycle",
        augment=("crop",),
    )
    training.run(model.module, context)
    weights = {name: tensor.contiguous() for name, tensor in model.module.state_dict().items()}
    store.write_bytes(store.path / WEIGHTS, save(weights))
    progress.end("train", time.perf_counter() - start)
