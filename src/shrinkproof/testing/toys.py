"""Models, images and predictions that are small, deterministic, and behave like real ones."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shrinkproof.data.imageset import ImageSet, hash_pixels
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.evaluators.world import Generated
from shrinkproof.models.loaded import Preprocess
from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.protocols import Context, Needs
from shrinkproof.randomness import stream
from shrinkproof.records import CLEAN, Cell, Condition

if TYPE_CHECKING:
    from torch import nn

# Shape suffixes: N images, C classes, H height, W width.

_WIDTH = 8


def tiny_model(classes: int = 4, seed: int = 0) -> nn.Module:
    """Return a small network with batch norm, in evaluation mode; (N, 3, H, W) -> (N, classes).

    Two convolutions with batch norm whose statistics are not trivial, a max pooling, a global
    average and a linear layer. Same arguments, same weights.
    """
    import torch
    from torch import nn

    model = nn.Sequential(
        nn.Conv2d(3, _WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
        nn.BatchNorm2d(_WIDTH),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(_WIDTH, classes),
    )
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        generator = stream("tiny model", seed, name)
        values = generator.normal(0.0, 0.3, tuple(tensor.shape))
        if name.endswith("running_var") or name in ("1.weight", "5.weight"):
            values = 0.5 + np.abs(values)
        tensor.copy_(torch.from_numpy(values))
    return model.eval()


def tiny_images(count: int = 48, classes: int = 4, seed: int = 0, side: int = 16) -> ImageSet:
    """Return textured images whose class can be learned, (count, side, side, 3) uint8.

    Every class has its own direction of a color gradient; noise makes the images differ.
    """
    generator = stream("tiny images", count, classes, seed, side)
    target = np.arange(count, dtype=np.int64) % classes
    angle = 2 * np.pi * target / classes
    ramp = np.linspace(-1, 1, side)
    gradient = (
        np.cos(angle)[:, None, None] * ramp[:, None] + np.sin(angle)[:, None, None] * ramp[None, :]
    )
    color = generator.uniform(0.5, 1.0, (count, 1, 1, 3))
    noise = generator.normal(0, 0.15, (count, side, side, 3))
    pixels = 128 + 80 * (gradient[..., None] * color + noise)
    images = np.clip(pixels, 0, 255).astype(np.uint8)
    return ImageSet(
        source="tiny",
        images=images,
        shape=(side, side),
        target=target,
        classes=tuple(f"class {i}" for i in range(classes)),
        index=np.arange(count, dtype=np.int64),
        hashes=hash_pixels(images),
        preset="cifar",
    )


def tiny_context(
    images: ImageSet | None = None,
    *,
    seed: int = 0,
    needs: Needs = Needs.CALIBRATION | Needs.TRAINING | Needs.VALIDATION,
) -> Context:
    """Return what a step may use, on the CPU.

    Args:
        images: serve for calibration, training and validation; `tiny_images` by default.
        seed: root of the random streams.
        needs: which parts to fill in; the others are None.
    """
    import torch

    from shrinkproof.tasks import Classification
    from shrinkproof.training.feed import ImageFeed

    feed = ImageFeed(images if images is not None else tiny_images(), Preprocess())
    example, _ = next(feed.batches(1))
    return Context(
        task=Classification(),
        example=example,
        device=torch.device("cpu"),
        stream=partial(stream, "tiny context", seed),
        calibration=feed if Needs.CALIBRATION in needs else None,
        training=feed if Needs.TRAINING in needs else None,
        validation=feed if Needs.VALIDATION in needs else None,
    )


def tiny_predictions(count: int = 60, classes: int = 4, seed: int = 0) -> ClassificationPredictions:
    """Return predictions of a model that is right more often than not."""
    generator = stream("tiny predictions", count, classes, seed)
    target = generator.integers(0, classes, count)
    logits_NC = generator.normal(0, 2, (count, classes)).astype(np.float32)
    logits_NC[np.arange(count), target] += 4
    return ClassificationPredictions(
        logits=logits_NC, target=target.astype(np.int64), index=np.arange(count, dtype=np.int64)
    )


def tiny_subjects(folder: Path, condition: Condition = CLEAN) -> list[Subject]:
    """Return three loaded candidates that share a scene; the one in the middle is broken.

    The broken one cannot predict, its file does not exist, and nothing is known about its size.

    Args:
        folder: an empty folder for the exported files.
        condition: what the world does to the images.
    """
    images = tiny_images()
    world = Generated(preset="cifar", seed=0)
    scene = Scene(images=images, condition=condition, world=world, batch=20)
    classes = len(images.classes)
    height, width = images.one_shape
    _write_onnx(folder / "model.onnx", classes)
    facts: dict[str, int | list[int]] = {
        "cost.parameters": 12 + classes,
        "cost.nonzero": 12,
        "cost.macs": 3 * classes,
        "cost.bytes": 1000,
        "cost.bytes_zip": 900,
        "cost.bytes_dense": 800,
        "cost.bytes_packed": 700,
        "input_shape": [3, height, width],
    }
    (folder / "complete.json").write_text(json.dumps(facts), encoding="utf-8")
    return [
        Subject(
            cell=Cell(f"{name:0>16}", f"{name:0>16}", "tiny", "artifact", "report", condition),
            predict=_broken if name == "b" else partial(_predict, classes),
            preprocess=Preprocess(),
            num_classes=classes,
            scene=scene,
            folder=folder / "absent" if name == "b" else folder,
            reference=folder,
            facts={} if name == "b" else facts,
            load_twin=partial(_load_twin, classes),
        )
        for name in "abc"
    ]


def _load_twin(classes: int, folder: Path) -> nn.Module:  # noqa: ARG001 - all have one network
    return tiny_model(classes)


def _predict(classes: int, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    columns = inputs.mean(axis=(1, 2))
    return np.ascontiguousarray(columns[:, :classes] * 5, dtype=np.float32)


def _broken(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    raise RuntimeError(f"this candidate is broken on purpose; it was given {len(inputs)} images")


def _write_onnx(path: Path, classes: int) -> None:
    """Write a network that averages each channel and applies one linear layer."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = stream("tiny file").normal(0, 1, (3, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["features"]),
            helper.make_node("MatMul", ["features", "weight"], ["logits"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
