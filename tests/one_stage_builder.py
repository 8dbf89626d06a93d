"""Small one-stage detectors made of torchvision's parts, and images for them."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn

from shrinkproof.models.torchvision_detectors import (
    FcosDetector,
    OneStageDetector,
    RetinaDetector,
    SsdDetector,
)
from shrinkproof.protocols import Context
from shrinkproof.randomness import stream
from shrinkproof.tasks import Detection
from shrinkproof.torchvision_ops import ensure

SIDE = 64
CLASSES = 3
WIDTH = 32
"""Channels of a pyramid; FCOS has group normalization of 32 groups."""


class Trunk(nn.Module):
    """Maps of stride 8 and 16, as a pyramid (Lin et al. 2017) or as they are."""

    def __init__(self, *, pyramid: bool) -> None:
        super().__init__()
        from torchvision.ops import FeaturePyramidNetwork

        self.stem = _block(3, 8, 4)
        self.low = _block(8, 16, 2)
        self.high = _block(16, 24, 2)
        self.fpn = FeaturePyramidNetwork([16, 24], WIDTH) if pyramid else None
        self.out_channels = WIDTH if pyramid else [16, 24]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        low = self.low(self.stem(x))
        maps = OrderedDict([("low", low), ("high", self.high(low))])
        return maps if self.fpn is None else self.fpn(maps)


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


def retina(*, groups: bool = False) -> OneStageDetector:
    """Return a RetinaNet; its heads have group normalization where that is asked for."""
    ensure()
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead

    with torch.random.fork_rng():
        torch.manual_seed(0)
        norm = partial(nn.GroupNorm, 4) if groups else None
        network = RetinaNet(
            Trunk(pyramid=True),
            CLASSES + 1,
            anchor_generator=AnchorGenerator(((16,), (32,)), ((0.5, 1.0),) * 2),
            head=RetinaNetHead(WIDTH, 2, CLASSES + 1, norm_layer=norm),
        )
        return awake(RetinaDetector(network, (SIDE, SIDE)))


def fcos() -> OneStageDetector:
    """Return an FCOS, whose heads have group normalization."""
    ensure()
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOS, FCOSHead

    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = FCOSHead(WIDTH, 1, CLASSES + 1, num_convs=1)
        for branch in (head.classification_head, head.regression_head):
            branch.conv[1] = nn.GroupNorm(4, WIDTH)
        network = FCOS(
            Trunk(pyramid=True),
            CLASSES + 1,
            anchor_generator=AnchorGenerator(((8,), (16,)), ((1.0,),) * 2),
            head=head,
        )
        return awake(FcosDetector(network, (SIDE, SIDE)))


def ssd() -> OneStageDetector:
    """Return an SSD without a pyramid."""
    ensure()
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD

    with torch.random.fork_rng():
        torch.manual_seed(0)
        boxes = DefaultBoxGenerator([[2], [2]])
        network = SSD(Trunk(pyramid=False), boxes, (SIDE, SIDE), CLASSES + 1)
        return awake(SsdDetector(network, (SIDE, SIDE)))


DETECTORS = {
    "fcos": fcos,
    "retina": retina,
    "retina groups": partial(retina, groups=True),
    "ssd": ssd,
}


def awake(module: OneStageDetector) -> OneStageDetector:
    """Draw weights whose outputs differ from place to place; the background never wins.

    Networks of torchvision start with weights so small that all places score alike.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                scale = (2 / layer.weight[0].numel()) ** 0.5
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * scale)
        outputs = module.eval()(torch.randn(1, 3, *module.size, generator=generator))
        for name in module._class_layers():
            layer = module.get_submodule(name)
            layer.weight.div_(outputs[..., 5 : 4 + module.rows].std() / 2)
            layer.bias.zero_().unflatten(0, (-1, module.rows))[:, 0] = -30.0
            other = name.replace("classification", "regression").replace("cls_logits", "bbox_reg")
            module.get_submodule(other).weight.div_(outputs[..., :4].std())
    return module


class BoxFeed:
    """Noise with a bright rectangle for each object, brighter in the channel of its class."""

    def __init__(self, count: int, *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        inputs = rng.normal(0, 0.3, (count, 3, SIDE, SIDE))
        self.target = []
        for image in inputs:
            objects = int(rng.integers(1, 3))
            corner = rng.integers(0, SIDE - 32, (objects, 2))
            boxes = np.concatenate([corner, corner + rng.integers(14, 32, (objects, 2))], axis=1)
            labels = rng.integers(0, CLASSES, objects)
            for (left, top, right, bottom), label in zip(boxes, labels, strict=True):
                image[label, top:bottom, left:right] += 2.0
            found = {
                "boxes": torch.from_numpy(boxes.astype(np.float32)),
                "labels": torch.from_numpy(labels),
            }
            self.target.append(found)
        self.inputs = torch.from_numpy(inputs.astype(np.float32))
        self.fingerprint = f"boxes {count} {seed}"

    @property
    def count(self) -> int:
        return len(self.inputs)

    def batches(self, size, *, order=None, augment=None):
        rows = np.arange(self.count) if order is None else order
        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield self.inputs[chosen], [self.target[i] for i in chosen]


@cache
def images(count: int = 24, seed: int = 0) -> BoxFeed:
    """Return a feed, made once."""
    return BoxFeed(count, seed=seed)


def context_of(module: nn.Module) -> Context:
    """Return what a step gets with such a detector."""
    feed = images()
    return Context(
        task=Detection.of(module),
        example=feed.inputs[:1],
        device=torch.device("cpu"),
        stream=lambda *parts: stream("test", *parts),
        calibration=feed,
        training=feed,
    )
