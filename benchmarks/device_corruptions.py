"""Images per second of the corruptions on a device: a GPU where there is one, and the processor.

    python benchmarks/device_corruptions.py [--device cuda] [--severity 3] [--count 512]

Wall time, synchronized, best of several rounds, images already on the device and results left
there, ``cifar`` constants at 32 pixels and ``imagenet`` ones at 224. Per size:

* ``draws``: what the host does, the random draws (all of the work for those without a twin);
* ``device``: what the device does with draws that are there already;
* ``both``: one after the other, `corrupt_on_device` as it is called;
* ``ahead``: batch after batch through `corrupted_batches`, the host one batch ahead.

The last lines give the rates of a mean image over the 15 standard corruptions, with and without
``jpeg_compression``, which has no twin.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from shrinkproof.corruptions.device import corrupt_on_device, corrupted_batches
from shrinkproof.corruptions.device.apply import Job
from shrinkproof.corruptions.presets import SETS
from shrinkproof.records import STANDARD_15, Condition

SIZES = ((32, "cifar"), (224, "imagenet"))
COLUMNS = ("draws", "device", "both", "ahead")
ROUNDS, BATCHES = 3, 4


def rate(work: Callable[[], object], count: int) -> float:
    """Return images per second of the fastest round."""
    seconds = []
    work()
    for _ in range(ROUNDS):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        seconds.append(time.perf_counter() - start)
    return count / min(seconds)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def textured(count: int, side: int, device: str) -> Tensor:
    """Return waves with noise, (count, side, side, 3) uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side] / side
    phase = rng.random((count, 1, 1, 3)) * 6
    waves = np.sin(6 * x + 9 * y)[None, :, :, None] + np.sin(phase + (29 * x)[None, :, :, None])
    noise = rng.normal(0, 0.2, (side, side, 3))
    pixels = np.clip((waves + noise + 2) / 4, 0, 1) * 255
    return torch.from_numpy(pixels.astype(np.uint8)).to(device)


def rates(images: Tensor, condition: Condition, preset: str) -> tuple[float, ...]:
    """Return images per second, one number for each column."""
    count = len(images)
    index = np.arange(count)
    job = Job(condition, preset, 0)
    prepared = job.prepare(images, index)

    def both() -> Tensor:
        return corrupt_on_device(images, condition, preset=preset, seed=0, index=index)

    def ahead() -> None:
        batches = ((index + k * count, images) for k in range(BATCHES))
        for _ in corrupted_batches(batches, condition, preset=preset, seed=0):
            pass

    return (
        rate(lambda: job.prepare(images, index), count),
        rate(lambda: job.finish(prepared), count),
        rate(both, count),
        rate(ahead, BATCHES * count),
    )


def main() -> None:
    """Print one line for each corruption and size, then the means."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--severity", type=int, default=3)
    parser.add_argument("--count", type=int, help="images of 224 pixels; 16 times as many of 32")
    parser.add_argument("names", nargs="*", default=list(SETS["all-corruptions"]))
    options = parser.parse_args()
    large = options.count or (256 if options.device.startswith("cuda") else 8)
    where = torch.cuda.get_device_name() if options.device.startswith("cuda") else "processor"
    print(f"torch {torch.__version__}, {where}, {torch.get_num_threads()} threads of the host")
    for side, preset in SIZES:
        images = textured(large * (16 if side == 32 else 1), side, options.device)
        print(f"\n{len(images)} images of {side} px, {preset}, severity {options.severity}, per s")
        print(f"{'':<18}" + "".join(f"{column:>12}" for column in COLUMNS))
        found = {}
        for name in options.names:
            found[name] = rates(images, Condition(name, options.severity), preset)
            print(f"{name:<18}" + "".join(f"{value:>12,.0f}" for value in found[name]), flush=True)
        standard = [name for name in options.names if name in STANDARD_15]
        for label, leave in (("mean of standard", ""), ("... without jpeg", "jpeg_compression")):
            members = [found[name] for name in standard if name != leave]
            if members:
                means = len(members) / (1 / np.array(members)).sum(axis=0)
                print(f"{label:<18}" + "".join(f"{value:>12,.0f}" for value in means))


if __name__ == "__main__":
    main()
