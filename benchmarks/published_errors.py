"""Errors of a network on our corruptions against those on the original generator's.

    python benchmarks/published_errors.py                      ResNet-20, test images 0 to 1999
    python benchmarks/published_errors.py --images 2000 4000   other images, nothing to compare with

With --scripts the comparison is with the published scripts as `published_corruptions` has them,
run on the same images; then --weights FILE and --arch NAME may name another network as well.

The original's errors were measured on the same images with other random draws. So a corruption
without randomness must give the same error, and a random one must lie within the interval that
holds the difference of two proportions in 95 % of cases (binomial variance of both; an upper
bound, since the images are the same: repeated runs of the published algorithm itself stay inside).

It needs the development data: the folder that SHRINKPROOF_DEV_DATA names, else ``shared/data``
beside the checkout. It takes about three minutes of one core and ends with 1 where the errors do
not agree.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import binom

from shrinkproof.corruptions.apply import corrupt_batch
from shrinkproof.corruptions.presets import SETS
from shrinkproof.models.loaded import Preprocess
from shrinkproof.models.reference import ModelSpec, load_model
from shrinkproof.records import Condition

BATCH: Final = 500
IMAGES: Final = (0, 2000)
Z95: Final = 1.959964
WITHOUT_RANDOMNESS: Final = (
    "defocus_blur",
    "zoom_blur",
    "brightness",
    "contrast",
    "pixelate",
    "jpeg_compression",
    "gaussian_blur",
    "saturate",
)
SLACK: Final = 0.001
"""Difference of errors allowed without randomness: levels may differ by one where rounding does."""
CONDITIONS: Final = tuple(Condition(n, s) for n in SETS["all-corruptions"] for s in range(1, 6))

Predictor = Callable[[NDArray[np.uint8]], NDArray[np.int64]]


@dataclass(frozen=True)
class Comparison:
    """One condition on both generators.

    Attributes:
        condition: corruption and severity.
        ours: error on our images, a fraction.
        theirs: error on the original's.
        count: images behind each.
    """

    condition: Condition
    ours: float
    theirs: float
    count: int

    @property
    def random(self) -> bool:
        """Whether the two generators drew different numbers."""
        return self.condition.corruption not in WITHOUT_RANDOMNESS

    @property
    def sigmas(self) -> float:
        """The difference in standard deviations of the difference of two proportions."""
        variance = sum(p * (1 - p) for p in (self.ours, self.theirs)) / self.count
        return (self.ours - self.theirs) / variance**0.5 if variance else 0.0

    @property
    def outside(self) -> bool:
        """Whether the difference is larger than its 95 % interval, or than the slack."""
        if self.random:
            return abs(self.sigmas) > Z95
        return abs(self.ours - self.theirs) > SLACK + 1e-9


def disagreements(compared: Iterable[Comparison]) -> list[str]:
    """Return in words where the errors do not agree; empty if they do.

    Without randomness each error must be the same up to `SLACK`. With it, no difference may exceed
    four standard deviations, the number outside the 95 % interval may not be larger than chance
    gives in 999 of 1,000 cases, and neither may the mean of all differences.
    """
    compared = list(compared)
    chance = [c for c in compared if c.random]
    told = [
        f"{c.condition}: error {c.ours:.4f}, theirs {c.theirs:.4f}"
        for c in compared
        if (abs(c.sigmas) > 4 if c.random else c.outside)
    ]
    outside = [c for c in chance if c.outside]
    allowed = int(binom.ppf(0.999, len(chance), 0.05)) if chance else 0
    if len(outside) > allowed:
        names = ", ".join(str(c.condition) for c in outside)
        told.append(f"{len(outside)} outside their interval, chance gives {allowed}: {names}")
    drift = sum(c.sigmas for c in chance) / max(1, len(chance)) ** 0.5
    if abs(drift) > 3.29:
        told.append(f"all random conditions together are {drift:+.1f} standard deviations off")
    return told


def cifar10(data: Path, first: int, last: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return images (N, 32, 32, 3) and labels (N,) of the CIFAR-10 test set."""
    with Image.open(data / "cifar10" / "test.webp") as sheet:
        tiles = np.asarray(sheet.convert("RGB")).reshape(100, 32, 100, 32, 3)
    images = tiles.transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)[first:last]
    return images, np.load(data / "cifar10" / "labels.npz")["test_labels"][first:last]


def network(weights: Path, arch: str) -> Predictor:
    """Return the predicted classes of a checkpoint, on one thread.

    Args:
        weights: safetensors file.
        arch: network of `shrinkproof.models.cifar`, trained with ImageNet's mean and deviation.
    """
    import torch

    torch.set_num_threads(1)
    preprocess = Preprocess(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    spec = ModelSpec(use=f"checkpoint:{weights.name}", arch=f"cifar:{arch}", preprocess=preprocess)
    loaded = load_model(spec, {"weights": weights.parent})
    module = loaded.module.to(memory_format=torch.channels_last)

    def predict(images: NDArray[np.uint8]) -> NDArray[np.int64]:
        parts = []
        with torch.inference_mode():
            for start in range(0, len(images), BATCH):
                inputs = torch.from_numpy(loaded.preprocess(images[start : start + BATCH]))
                parts.append(module(inputs).argmax(1).numpy())
        return np.concatenate(parts)

    return predict


def errors(
    predict: Predictor,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    index: NDArray[np.int64],
    *,
    photos: Path,
    seed: int = 0,
    conditions: Iterable[Condition] = CONDITIONS,
) -> Iterator[tuple[Condition, float]]:
    """Yield the error of a network under each condition, preset cifar."""
    for condition in conditions:
        corrupted = corrupt_batch(
            images, condition, preset="cifar", seed=seed, index=index, frost_dir=photos
        )
        yield condition, float((predict(corrupted) != labels).mean())


def published_errors(data: Path) -> Mapping[Condition, float]:
    """Return the errors of ResNet-20 on the original generator's images 0 to 1999."""
    with (data / "reference_cifar_c" / "errors_resnet20.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["corruption"] != "clean"]
    return {Condition(r["corruption"], int(r["severity"])): float(r["error"]) for r in rows}


def script_errors(
    predict: Predictor,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    photos: Path,
    seed: int = 0,
) -> Iterator[tuple[Condition, float]]:
    """Yield the error of a network on the published scripts' images, preset cifar."""
    from published_corruptions import Legacy, published  # needs the packages of the parity tests

    random = Legacy(seed)
    pictures = [Image.fromarray(image) for image in images]
    for condition in CONDITIONS:
        name, severity = condition.corruption, condition.severity
        corrupted = np.stack(
            [published(name, p, severity, "cifar", random, photos=photos) for p in pictures]
        )
        yield condition, float((predict(corrupted) != labels).mean())


def main() -> int:
    """Print one line per condition and what it means."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    data = Path(os.environ.get("SHRINKPROOF_DEV_DATA") or beside)
    default = data / "checkpoints" / "cifar10_resnet20.safetensors"
    parser.add_argument("--weights", type=Path, default=default)
    parser.add_argument("--arch", default="resnet20")
    parser.add_argument("--images", type=int, nargs=2, default=IMAGES, metavar=("FIRST", "LAST"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scripts", action="store_true")
    arguments = parser.parse_args()

    first, last = arguments.images
    images, labels = cifar10(data, first, last)
    predict = network(arguments.weights, arguments.arch)
    found = errors(
        predict, images, labels, np.arange(first, last), photos=data / "frost", seed=arguments.seed
    )
    known = arguments.weights == default and (first, last) == IMAGES
    theirs = published_errors(data) if known else {}
    if arguments.scripts:
        theirs = dict(script_errors(predict, images, labels, photos=data / "frost"))
    compared = []
    for condition, error in found:
        line = f"{condition!s:<22}{error:>9.4f}"
        if condition in theirs:
            one = Comparison(condition, error, theirs[condition], last - first)
            compared.append(one)
            line += f"{one.theirs:>9.4f}{one.ours - one.theirs:>+9.4f}{one.sigmas:>+7.1f} sd"
            line += "  outside" if one.outside else ""
        print(line, flush=True)
    if not compared:
        return 0
    told = disagreements(compared)
    outside = [c for c in compared if c.outside]
    print(
        f"{len(outside)} of {len(compared)} outside: {', '.join(str(c.condition) for c in outside)}"
    )
    print("\n".join(told) or "the errors agree")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
