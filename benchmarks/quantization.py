"""ResNet-50 and MobileNetV2 as 8-bit files: latency and size against float32 and ONNX Runtime.

    python benchmarks/quantization.py [--networks resnet50 mobilenet_v2] [--rounds 60]

torchvision's networks with random weights and batch-norm statistics of a few random images, 224
pixels, batch 1, one thread. Five files of each network run by turns in one process:

* ``float32``: our export as it is;
* ``int8``: ours after ``quantize.static``;
* ``int8 of ORT``: ONNX Runtime's own ``quantize_static`` on our float32 file (QDQ, unsigned 8-bit
  activations, signed 8-bit weights per channel, min-max, the same calibration images);
* ``weights int8`` and ``weights int4``: ours after ``quantize.weights``, float32 arithmetic.

A row has the median latency, the median of the ratios float32 / file within a round, and bytes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Classification
from shrinkproof.torchvision_ops import ensure

SIZE, IMAGES = 224, 8
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "int8": ("quantize.static", {}),
    "weights int8": ("quantize.weights", {"format": "int8"}),
    "weights int4": ("quantize.weights", {"format": "int4"}),
}


class Noise:
    """A few random images as a feed."""

    count = IMAGES

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.inputs = torch.randn(IMAGES, 3, SIZE, SIZE, generator=generator)

    def batches(
        self, size: int, *, order: Any = None, augment: Any = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all images in their order."""
        if order is not None or augment is not None:
            raise ValueError("these images have one order and are never augmented")
        for start in range(0, IMAGES, size):
            part = self.inputs[start : start + size]
            yield part, torch.zeros(len(part), dtype=torch.int64)


def network(name: str, feed: Noise) -> nn.Module:
    """Return a network with random weights whose batch norms know the images."""
    ensure()
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = getattr(torchvision.models, name)()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model.train()(feed.inputs)
    return model.eval()


def quantized_by_runtime(source: Path, target: Path, feed: Noise) -> None:
    """Write what ONNX Runtime's own tool makes of a float32 file."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(feed.inputs.split(1))

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            image = next(self.left, None)
            return None if image is None else {"images": image.numpy()}

    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
    )


def files_of(name: str, folder: Path) -> dict[str, Path]:
    """Return file name -> path of everything that is compared."""
    feed = Noise()
    model = network(name, feed)
    context = Context(
        task=Classification(),
        example=feed.inputs[:1],
        device=torch.device("cpu"),
        stream=lambda *parts: stream("benchmark", *parts),
        calibration=feed,
    )
    paths = {"float32": folder / f"{name}.onnx"}
    export_onnx(model, context.example, paths["float32"])
    for label, (step, fields) in STEPS.items():
        module, changes = Recipe((COMPRESSORS.create(step, fields),)).apply(model, context)
        paths[label] = folder / f"{name} {label}.onnx"
        export_onnx(module, context.example, paths[label], changes=changes)
    paths["int8 of ORT"] = folder / f"{name} runtime.onnx"
    quantized_by_runtime(paths["float32"], paths["int8 of ORT"], feed)
    return paths


def latencies(paths: dict[str, Path], rounds: int) -> dict[str, list[float]]:
    """Return seconds of each file in each round; the files take turns."""
    sessions = {label: Session(path, threads=1) for label, path in paths.items()}
    image = Noise().inputs[:1].numpy()
    seconds: dict[str, list[float]] = {label: [] for label in paths}
    for warm in (True, False):
        for _ in range(5 if warm else rounds):
            for label, session in sessions.items():
                start = time.perf_counter()
                session(image)
                if not warm:
                    seconds[label].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print a table for each network."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--networks", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            paths = files_of(name, Path(folder))
            seconds = latencies(paths, arguments.rounds)
            plain = seconds["float32"]
            print(f"{name:14} {'ms':>8} {'speed':>7} {'MB':>8} {'smaller':>8}")
            for label, path in paths.items():
                ratio = statistics.median(a / b for a, b in zip(plain, seconds[label], strict=True))
                size = path.stat().st_size
                smaller = paths["float32"].stat().st_size / size
                print(
                    f"{label:14} {1e3 * statistics.median(seconds[label]):8.2f} {ratio:6.2f}x "
                    f"{size / 1e6:8.2f} {smaller:7.2f}x"
                )


if __name__ == "__main__":
    main()
