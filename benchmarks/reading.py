"""What reading costs: listing many files, decoding them, and batches made beside prediction.

    python benchmarks/reading.py [--files 50000] [--images 256]

Listing: a folder of many tiny images, read for the first time and when they are known. The target
is 3 s for 50,000 known files. Decoding: JPEG files of 500 x 375 pixels prepared to 224, by one
thread and by as many as there are processors. Passes: the same candidates predict the same images
with batches made by a thread of its own and in turn with prediction, alternating, as wall time and
as processor time. Small files are in the memory of the system, so disks do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from shrinkproof.artifacts.session import Session
from shrinkproof.data import imagefolder, known_files
from shrinkproof.data.imageset import ImageSet
from shrinkproof.data.reading import load_images
from shrinkproof.evaluators import prefetch, scores
from shrinkproof.evaluators.prefetch import Ready
from shrinkproof.evaluators.subject import InputKind, Scene, Subject
from shrinkproof.evaluators.world import Generated
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import CLEAN, Cell, Condition

TURNS = 5
CONDITIONS = (
    CLEAN,
    Condition("gaussian_noise", 3),
    Condition("snow", 3),
    Condition("glass_blur", 3),
)


def main() -> None:
    """Print all three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--images", type=int, default=256)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ):
        os.environ["SHRINKPROOF_CACHE"] = f"{folder}/cache"
        listing(Path(folder), arguments.files)
        decoding(Path(folder), arguments.images)
        for side, batch, count in ((32, 256, 4 * arguments.images), (224, 16, arguments.images)):
            passes(Path(folder), side, batch, count)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return wall time and processor time in seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def listing(folder: Path, count: int) -> None:
    """Print how long a folder of tiny images takes to load."""
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        place = folder / f"tiny/{number % 1000:04}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:06}.png")
    with mock.patch.object(known_files, "_SETTLED", 0):
        for name in ("first", "known"):
            wall, processor = timed(lambda: load_images("imagefolder:tiny", {"study": folder}))
            print(f"listing {count} files, {name}: {wall:.2f} s, processor {processor:.2f} s")


def decoding(folder: Path, count: int) -> None:
    """Print how many images per second are decoded and resized."""
    (folder / "photos/a").mkdir(parents=True)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (count, 12, 16, 3), dtype=np.uint8)
    for number, image in enumerate(coarse):
        photo = Image.fromarray(image).resize((500, 375), Image.Resampling.BICUBIC)
        photo.save(folder / f"photos/a/{number:06}.jpg", quality=90)
    images = load_images("imagefolder:photos?resize=256&crop=224", {"study": folder}).images
    positions = np.arange(count)
    images[positions[:16]]
    cores = imagefolder.usable_cores()
    for threads in sorted({1, cores}):
        with mock.patch.object(imagefolder, "usable_cores", lambda threads=threads: threads):
            found = [timed(lambda: images[positions]) for _ in range(TURNS)]
        wall, processor = (statistics.median(each[i] for each in found) for i in (0, 1))
        print(
            f"decoding with {threads} threads: {count / wall:.0f} images per second, "
            f"processor {1000 * processor / count:.2f} ms per image"
        )


@contextlib.contextmanager
def in_turn(scene: Scene, kinds: Iterable[InputKind]) -> Iterator[Iterator[Ready]]:
    """Give the same batches, made when they are asked for."""
    with contextlib.closing(prefetch._ready(scene, kinds)) as batches:
        yield batches


def passes(folder: Path, side: int, batch: int, count: int) -> None:
    """Print what prefetching changes for 1 and 8 candidates."""
    rng = np.random.default_rng(0)
    images = ImageSet(
        source="random",
        images=rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        shape=(side, side),
        target=np.arange(count) % 10,
        classes=tuple("0123456789"),
        index=np.arange(count),
        hashes=np.array([str(number) for number in range(count)]),
    )
    file = folder / f"{side}.onnx"
    export(file, side)
    world = Generated("cifar" if side == 32 else "imagenet", seed=0)
    for candidates in (1, 8):
        sessions = [Session(file) for _ in range(candidates)]
        for condition in CONDITIONS:
            scene = Scene(images, condition, world, batch)
            subjects = [
                Subject(
                    Cell(str(n), str(n), "m", "artifact", "report", condition),
                    session,
                    Preprocess(),
                    10,
                    scene=scene,
                )
                for n, session in enumerate(sessions)
            ]
            ratios = []
            for _ in range(TURNS):
                with mock.patch.object(scores, "prefetched", in_turn):
                    plain = timed(lambda: scores._predict_together(subjects))  # noqa: B023
                ahead = timed(lambda: scores._predict_together(subjects))  # noqa: B023
                ratios.append((ahead[0] / plain[0], ahead[1] / plain[1]))
            wall, processor = (statistics.median(each[i] for each in ratios) for i in (0, 1))
            print(
                f"{side} px, {candidates} candidates, {condition!s:<18} prefetched / in turn: "
                f"wall {wall:.3f}, processor {processor:.3f}"
            )


def export(file: Path, side: int) -> None:
    """Write a ResNet-20 for 32 pixels, and a MobileNetV3 for larger images."""
    from shrinkproof.torchvision_ops import ensure

    ensure()
    import torch
    import torchvision

    from shrinkproof.artifacts.export import export_onnx
    from shrinkproof.models.cifar import CifarResNet

    network = (
        CifarResNet(3, 16, "pad", 10)
        if side == 32
        else torchvision.models.mobilenet_v3_large(num_classes=10)
    )
    export_onnx(network.eval(), torch.zeros(1, 3, side, side), file)


if __name__ == "__main__":
    main()
