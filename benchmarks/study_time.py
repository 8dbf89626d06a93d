"""Wall time of a whole study over its bare forward passes, and over what a user does today.

    python benchmarks/study_time.py            32 and 224 pixels, some forty minutes
    python benchmarks/study_time.py --small    a quick look: fixed costs weigh far more

Eight candidates that need no training, the 15 common corruptions at severity 3 and clean images:
a ResNet-20 on 1,000 images of 32 pixels, a MobileNetV2 on 100 images of 224 pixels. For each:

(a) ``Study.run`` in one process, everything included, stage by stage, over the sum of the bare
    forward passes of the same networks: the same files, runtime and batches on one thread, inputs
    that are ready in memory. The goal for the measuring stage is 1.10. Corruption, preprocessing,
    metrics, intervals and files are our own cost and count against us.
(b) the same measurements as a script makes them: for each network and each condition a loop over
    batches that corrupts with the published generator, runs PyTorch (and in turn ONNX Runtime) on
    all cores, and updates accuracy and calibration error of torchmetrics. It sees a few images of
    each condition, and the better time per image of two turns is scaled. Compared with the
    measuring stage of (a) in one process and in one for each core, as ``shrinkproof run`` does.
    Goal: 5x.
(c) two processes against one, measuring the same candidates. Goal: 1.7x.
(d) two processes that measure the PyTorch form in bfloat16, and compare it with float32.

What happens once (preparing and exporting candidates, planning, the summary and the page's
pictures) does not grow with conditions; it is printed in seconds and as a share of a study with
all five severities and all images of the data set. Random images and weights cost what real ones
cost. Run it alone on an idle machine; it needs the packages of the extra ``parity``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

if __name__ == "__main__":  # before numpy comes; who imports this keeps its own setting
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np
import torch
from numpy.typing import NDArray

from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.artifacts.session import Session
from shrinkproof.engines.processes import Processes
from shrinkproof.models.loaded import LoadedModel
from shrinkproof.models.reference import load_model
from shrinkproof.records import STANDARD_15, Condition
from shrinkproof.results import Results
from shrinkproof.study import Study
from shrinkproof.study.progress import Silence
from shrinkproof.torchvision_ops import ensure

SEVERITY: Final = 3
GOAL, GOAL_OF_USERS, GOAL_OF_TWO = 1.10, 5.0, 1.7

Predict = Callable[[NDArray[np.float32]], Any]

STUDY = """
study: time
models:
  net:
    use: {network}
    classes: {classes}
    preprocess: {{mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}
    input_shape: [3, {side}, {side}]
    seen: []
data:
  calibrate: {{use: arrays:calibrate.npz, count: 32}}
  report: arrays:images.npz
  preset: {preset}
recipes:
  prune0.5:
    steps: [{{prune.weights: {{ratio: 0.5}}}}]
  prune0.8:
    steps: [{{prune.weights: {{ratio: 0.8}}}}]
  channels0.25:
    steps: [{{prune.channels: {{ratio: 0.25, include: {include}, scope: layer, round_to: 4}}}}]
  channels0.5:
    steps: [{{prune.channels: {{ratio: 0.5, include: {include}, scope: layer, round_to: 4}}}}]
  cluster16:
    steps: [fold, {{cluster: {{levels: 16}}}}]
  int8:
    steps: [quantize.static]
  weights4:
    steps: [{{quantize.weights: {{format: int4}}}}]
conditions:
{conditions}
"""
BFLOAT16 = """
measure:
  form: twin
  inference: {precision: bfloat16}
"""


@dataclass(frozen=True)
class Setting:
    """A study, and how large the one is that it stands for.

    Attributes:
        side: pixels of an image.
        network: reference of the model.
        include: what is pruned by channels.
        classes: number of classes.
        preset: corruption constants.
        images: how many are evaluated.
        seen: images of each condition that the user's loop is given.
        batch: of the user's loop.
        full: images of the data set it stands for.
        corruptions: which corruptions.
    """

    side: int
    network: str
    include: str
    classes: int
    preset: str
    images: int
    seen: int
    batch: int
    full: int
    corruptions: tuple[str, ...] = STANDARD_15

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """Clean images and every corruption."""
        return (Condition(), *(Condition(name, SEVERITY) for name in self.corruptions))


SETTINGS: Final = {
    32: Setting(32, "cifar:resnet20", '["layer*.conv1"]', 10, "cifar", 1000, 128, 128, 10_000),
    224: Setting(
        *(224, "torchvision:mobilenet_v2/none", '["features.*.conv.0.0"]', 1000, "imagenet"),
        *(100, 8, 8, 50_000),
    ),
}
SMALL: Final = {
    32: replace(SETTINGS[32], images=512, seen=16, corruptions=("fog", "elastic_transform")),
    224: replace(SETTINGS[224], images=24, seen=2, corruptions=("fog", "zoom_blur")),
}


@dataclass
class Stages(Silence):
    """Keeps how long each stage took."""

    seconds: dict[str, float] = field(default_factory=dict)

    def end(self, stage: str, seconds: float) -> None:
        """Keep it."""
        self.seconds[stage] = seconds

    def warn(self, message: str) -> None:
        """A study that did not do everything is no measure."""
        raise RuntimeError(message)


def write_study(folder: Path, setting: Setting) -> tuple[Study, Study]:
    """Return a study that needs no data set, as it is and in bfloat16."""
    from corruptions import textured

    for name, count in (("images", setting.images), ("calibrate", 32)):
        images = np.concatenate(
            [textured(min(64, count - k), setting.side) for k in range(0, count, 64)]
        )
        # Equal pictures cost what others cost, but data sets must not repeat an image.
        images[:, 0, 0, 0] = np.arange(count) % 256
        images[:, 0, 1, 0] = np.arange(count) // 256
        images[:, 0, 2, 0] = len(name)
        names = np.array([f"class{number}" for number in range(setting.classes)])
        target = np.arange(count) % setting.classes
        np.savez(folder / f"{name}.npz", images=images, target=target, classes=names)
    lines = [f"  {name}: [{SEVERITY}]" for name in setting.corruptions]
    values = {**vars(setting), "conditions": "\n".join(lines)}
    (folder / "study.yaml").write_text(text := STUDY.format(**values))
    (folder / "bfloat16.yaml").write_text(text + BFLOAT16)
    return Study.load(folder / "study.yaml"), Study.load(folder / "bfloat16.yaml")


@dataclass(frozen=True)
class Networks:
    """The candidates of a run, as its cells run them and as a script would.

    Attributes:
        base: the uncompressed model.
        sessions: exported files in ONNX Runtime on one thread.
        modules: the same networks in PyTorch.
        wide: exported files on all cores.
    """

    base: LoadedModel
    sessions: list[Predict]
    modules: list[Predict]
    wide: list[Predict]


def networks_of(results: Results, study: Study) -> Networks:
    """Return all candidates of a run, loaded."""
    base = load_model(study.spec.models["net"], study.inputs.places)
    folders = [results.store.candidate(c.key) for c in results.candidates]
    cores = os.cpu_count() or 1
    return Networks(
        base,
        [Session(folder / "model.onnx") for folder in folders],
        [in_pytorch(load_candidate(folder, base.module)) for folder in folders],
        [Session(folder / "model.onnx", threads=cores) for folder in folders],
    )


def in_pytorch(module: torch.nn.Module) -> Predict:
    """Return a network as a function of arrays."""

    def predict(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            found: NDArray[np.float32] = module(torch.from_numpy(inputs)).numpy()
        return found

    return predict


def bare(networks: Networks, setting: Setting, batch: int) -> tuple[float, float]:
    """Return the seconds of the forward passes of one condition: of files, and of PyTorch."""
    shape = (batch, 3, setting.side, setting.side)
    ready = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    sizes = [min(batch, setting.images - k) for k in range(0, setting.images, batch)]
    torch.set_num_threads(1)
    found = []
    for predictors in (networks.sessions, networks.modules):
        start = time.perf_counter()
        for size in sizes:
            for predict in predictors:
                predict(ready[:size])
        found.append(time.perf_counter() - start)
    return found[0], found[1]


def loop_of_today(
    predictors: list[Predict], base: LoadedModel, setting: Setting, photos: Path
) -> float:
    """Return the seconds per forward pass of a script without this package, everything included."""
    ensure()
    # Here, because every worker imports this file.
    from corruptions import textured
    from PIL import Image
    from published_corruptions import Legacy, published
    from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

    images = textured(setting.seen, setting.side)
    target = torch.arange(setting.seen) % setting.classes
    mean = torch.tensor(base.preprocess.mean).view(3, 1, 1)
    std = torch.tensor(base.preprocess.std).view(3, 1, 1)
    start = time.perf_counter()
    for predict in predictors:
        for condition in setting.conditions:
            random = Legacy()
            accuracy = MulticlassAccuracy(setting.classes, average="micro")
            error = MulticlassCalibrationError(setting.classes, n_bins=15)
            for first in range(0, setting.seen, setting.batch):
                pixels = []
                for image in images[first : first + setting.batch]:
                    if not condition.is_clean:
                        image = published(
                            condition.corruption, Image.fromarray(image), condition.severity,
                            setting.preset, random, photos=photos,
                        )  # fmt: skip
                    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
                    pixels.append((values.float() / 255 - mean) / std)
                logits = torch.from_numpy(predict(torch.stack(pixels).numpy()))
                truth = target[first : first + setting.batch]
                accuracy.update(logits, truth)
                error.update(logits.softmax(1), truth)
            accuracy.compute(), error.compute()
    return (time.perf_counter() - start) / (
        len(predictors) * len(setting.conditions) * setting.seen
    )


def run(study: Study, folder: Path, workers: int) -> tuple[Results, Stages, float]:
    """Return what a study gives in so many processes, its stages, and its wall time."""
    stages = Stages()
    engine = Processes(workers=workers) if workers > 1 else None
    start = time.perf_counter()
    results = study.run(folder, engine=engine, progress=stages)
    return results, stages, time.perf_counter() - start


def measuring(study: Study, folder: Path, name: str, workers: int) -> float:
    """Return the seconds of measuring the candidates that are prepared in ``folder/run``."""
    again = folder / name
    shutil.copytree(folder / "run" / "candidates", again / "candidates")
    seconds = run(study, again, workers)[1].seconds
    shutil.rmtree(again)
    return seconds["measure"] + seconds.get("verify", 0.0)


def compare(setting: Setting, photos: Path, folder: Path, count_turns: int) -> Iterator[str]:
    """Yield the lines of one image size."""
    study, rounded = write_study(folder, setting)
    results, stages, wall = run(study, folder / "run", 1)
    networks = networks_of(results, study)
    batch = study.inputs.batch_of(study.inputs.splits(["report"]).sets["report"])
    count, passes = len(results.candidates), len(setting.conditions)
    yield (
        f"\n{setting.side} pixels: {count} candidates of {setting.network}, {setting.images:,} "
        f"images in batches of {batch}, {passes} passes"
    )
    ways = ((study, 1), (study, 2), (rounded, 2))
    measured: list[list[float]] = [[] for _ in ways]
    turns: list[tuple[float, float]] = []
    for turn in range(count_turns):
        for way, ((chosen, workers), seconds) in enumerate(zip(ways, measured, strict=True)):
            seconds.append(measuring(chosen, folder, f"turn{turn}-{way}", workers))
        turns.append(bare(networks, setting, batch))
    files, twins = (statistics.median(t[k] for t in turns) for k in (0, 1))
    # The clean images are also shown to the PyTorch form of each candidate.
    forwards = passes * files + twins
    one, two, fast = map(statistics.median, measured)
    spent = sum(stages.seconds.values())
    yield f"  bare forward passes {forwards:.1f} s (files {passes} x {files:.2f} s, PyTorch once)"
    yield f"  measuring, 1 process  {one:8.1f} s  {one / forwards:6.3f} x bare (goal {GOAL})"
    for stage, seconds in stages.seconds.items():
        yield f"    whole study: {stage:<10}{seconds:8.1f} s"
    yield f"    whole study: {'the rest':<10}{wall - spent:8.1f} s (planning, summary, pictures)"
    once = wall - stages.seconds["measure"]
    large = (5 * len(setting.corruptions) + 1) * files * setting.full / setting.images
    yield (
        f"  whole study           {wall:8.1f} s  {wall / forwards:6.3f} x bare; what happens once "
        f"is {100 * once / large:.1f} % of five severities and {setting.full:,} images"
    )
    yield f"  measuring, 2 processes{two:8.1f} s  {one / two:6.2f} x faster (goal {GOAL_OF_TWO})"
    yield f"  the same in bfloat16  {fast:8.1f} s  {two / fast:6.2f} x faster than float32"
    yield from against_users(networks, setting, photos, one, two, fast)


def against_users(
    networks: Networks, setting: Setting, photos: Path, one: float, two: float, fast: float
) -> Iterator[str]:
    """Yield how much faster the measuring stage is than the loops of today."""
    predictions = len(networks.sessions) * len(setting.conditions) * setting.images
    torch.set_num_threads(os.cpu_count() or 1)
    for name, predictors in (("PyTorch", networks.modules), ("ONNX Runtime", networks.wide)):
        loop_of_today(predictors[:1], networks.base, replace(setting, seen=2), photos)
        theirs = predictions * min(
            loop_of_today(predictors, networks.base, setting, photos) for _ in range(2)
        )
        yield (
            f"  script with {name:<12}{theirs:7.1f} s, scaled from {setting.seen} images: "
            f"{theirs / one:.1f}x one process, {theirs / two:.1f}x two (goal {GOAL_OF_USERS:g}x), "
            f"{theirs / fast:.1f}x two in bfloat16"
        )


def frost_photos() -> Path:
    """Return the frost photos, which the package imagecorruptions brings."""
    from importlib.util import find_spec

    found = find_spec("imagecorruptions")
    if found is None or found.origin is None:
        raise SystemExit("install the packages of the parity tests: make parity")
    return Path(found.origin).parent / "frost"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sides", type=int, nargs="+", default=[32, 224], choices=SETTINGS)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")  # the opponents' libraries warn about each other
    for side in arguments.sides:
        with tempfile.TemporaryDirectory() as folder:
            setting = (SMALL if arguments.small else SETTINGS)[side]
            for line in compare(setting, frost_photos(), Path(folder), arguments.turns):
                print(line)
                sys.stdout.flush()


if __name__ == "__main__":
    main()
