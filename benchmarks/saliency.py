"""What heat maps cost, and Grad-CAM against one run forward and backward.

    python benchmarks/saliency.py

256 images of CIFAR's size on a ResNet-20 without training, in batches of 64, on one thread, in one
process, in turns. The budget: Grad-CAM costs at most 1.3 times one run forward and backward (of the
logits of the classes, gradients of all weights) over the same batches; medians of the ratios.
Memory is what torch allocates for one batch at its highest, above what it held before.

At the end, why RISE is centered: how far two networks with random weights agree that were shown the
same masks (they have nothing to agree about), and two halves of the masks for one network.
"""

from __future__ import annotations

import gc
import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

if __name__ == "__main__":  # before torch comes; its profiler logs every start and stop
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from shrinkproof.attributions import ATTRIBUTIONS
from shrinkproof.attributions.layers import choose_layer
from shrinkproof.attributions.rise import Rise
from shrinkproof.models.cifar import resnet
from shrinkproof.models.loaded import Preprocess
from shrinkproof.randomness import stream
from shrinkproof.testing import tiny_images

COUNT, BATCH, TURNS = 256, 64, 7
BUDGET = 1.3
SETTINGS: dict[str, dict[str, Any]] = {
    "gradient_x_input": {"samples": 16, "noise": 0.15},
    "integrated_gradients": {"steps": 32},
    "rise": {"masks": 500},
}
"""Methods that run a network many times per image: how often, where not by default."""


class Network:
    """The network, as heat maps are made of it."""

    black = np.zeros(3, dtype=np.float32)

    def __init__(
        self, example: np.ndarray, depth: int = 20, width: int = 16, seed: int = 0
    ) -> None:
        torch.manual_seed(seed)
        self.module = resnet(depth, width).eval()
        self.layer = choose_layer(self.module, example).name

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return logits."""
        with torch.no_grad():
            logits: np.ndarray = self.module(torch.from_numpy(inputs)).numpy()
        return logits


def seconds(work: Callable[[], object]) -> float:
    """Return the time of the processor: other processes cannot add to it."""
    start = time.process_time()
    work()
    return time.process_time() - start


def megabytes(work: Callable[[], object]) -> float:
    """Return what torch holds at its highest during some work, above what it held before."""
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [e.nbytes() for e in sorted(events, key=lambda event: event.start_ns())]
    return float(np.cumsum(changes).max()) / 1e6


def main() -> None:
    """Print one line for each way of making heat maps."""
    torch.set_num_threads(1)
    draws = np.random.default_rng(0)
    images = draws.normal(size=(COUNT, 3, 32, 32)).astype(np.float32)
    labels = draws.integers(0, 10, COUNT)
    subject = Network(images[:1])
    module = subject.module

    def train(inputs: np.ndarray, target: np.ndarray) -> None:
        logits = module(torch.from_numpy(inputs))
        logits.gather(1, torch.from_numpy(target)[:, None]).sum().backward()
        module.zero_grad(set_to_none=True)

    def over(work: Callable[..., object], count: int = COUNT) -> Callable[[], None]:
        def run() -> None:
            for start in range(0, count, BATCH):
                part = slice(start, min(start + BATCH, count))
                work(images[part], labels[part])

        return run

    def ours(name: str) -> Callable[..., object]:
        method = ATTRIBUTIONS.create(name, SETTINGS.get(name))
        return partial(_maps, method, subject)

    print(f"{COUNT} images of 32x32, batches of {BATCH}, layer {subject.layer}, one thread")
    print(f"{'':<28}{'images/s':>9}{'of a run':>10}{'MB':>7}")
    cheap = {
        "forward and backward": train,
        **{name: ours(name) for name in ("gradcam", "gradcam_plus_plus", "eigencam")},
        **_captum(subject),
    }
    times = _in_turns({name: over(work) for name, work in cheap.items()})
    for name, spent in times.items():
        pairs = zip(spent, times["forward and backward"], strict=True)
        ratio = statistics.median(a / b for a, b in pairs)
        _print(name, COUNT / min(spent), ratio, megabytes(over(cheap[name], BATCH)))
    run = min(times["forward and backward"]) / COUNT
    for name in ("gradient_x_input", "integrated_gradients", "occlusion", "rise"):
        count = 4 if name == "rise" else BATCH
        spent = seconds(over(ours(name), count)) / count
        settings = ", ".join(f"{k} {v}" for k, v in SETTINGS.get(name, {}).items())
        _print(name, 1 / spent, spent / run, megabytes(over(ours(name), count)), settings)
    pairs = zip(times["gradcam"], times["forward and backward"], strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    verdict = "kept" if ratio <= BUDGET else "BROKEN"
    print(f"Grad-CAM {ratio:.2f} of a run forward and backward, budget {BUDGET}: {verdict}")

    compare_masks()


def compare_masks() -> None:
    """Print the agreement that shared masks make by themselves, and what centering leaves of it."""
    toys = tiny_images(count=12, side=32)
    images = Preprocess(mean=(0.5,) * 3, std=(0.25,) * 3)(toys.images[np.arange(12)])
    one, other = (Network(images[:1], 8, 8, seed) for seed in (0, 1))
    labels = one.predict(images).argmax(axis=1)
    print("\nPearson of RISE maps, 800 masks    strangers, same masks   one network, two halves")
    for centered in (False, True):
        kinds = [(one, None), (other, None), (one, 0), (one, 1)]
        maps = [
            _maps(Rise(masks=800, centered=centered, half=half), network, images, labels)
            for network, half in kinds
        ]
        name = "centered" if centered else "as published"
        print(f"{name:<34}{_pearson(*maps[:2]):>23.2f}{_pearson(*maps[2:]):>26.2f}")


def _pearson(a: np.ndarray, b: np.ndarray) -> float:
    pairs = zip(a.reshape(len(a), -1), b.reshape(len(b), -1), strict=True)
    return float(np.mean([np.corrcoef(p, q)[0, 1] for p, q in pairs]))


def _maps(method: Any, subject: Network, inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    found: np.ndarray = method.maps(subject, inputs, target, stream=stream)
    return found


def _captum(subject: Network) -> dict[str, Callable[..., object]]:
    """Return captum's Grad-CAM, if it is installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from captum.attr import LayerGradCam
    except ImportError:
        print("captum is not installed")
        return {}
    peer = LayerGradCam(subject.module, subject.module.get_submodule(subject.layer))

    def explain(inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
        maps = peer.attribute(
            torch.from_numpy(inputs), torch.from_numpy(target), relu_attributions=True
        )
        found: np.ndarray = maps.detach().numpy()
        return found

    return {"captum LayerGradCam": explain}


def _in_turns(works: dict[str, Callable[[], None]]) -> dict[str, list[float]]:
    """Return the times of each work, one for each turn; the first turn warms up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(TURNS + 1):
        for name, work in works.items():
            spent = seconds(work)
            if turn:
                times[name].append(spent)
    return times


def _print(name: str, rate: float, ratio: float, memory: float, settings: str = "") -> None:
    print(f"{name:<28}{rate:>9.1f}{ratio:>10.2f}{memory:>7.1f}  {settings}".rstrip())


if __name__ == "__main__":
    main()
