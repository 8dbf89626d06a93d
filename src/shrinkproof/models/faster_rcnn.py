"""Faster R-CNN of torchvision as a detector with one output tensor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.detecting import Detections
from shrinkproof.errors import ModelError
from shrinkproof.models.box_decoding import check_outputs, without_duplicates
from shrinkproof.models.faster_rcnn_proposals import anchors_of
from shrinkproof.models.faster_rcnn_pyramid import Pyramid
from shrinkproof.models.torchvision_detectors import CATEGORIES, check_targets, used_categories
from shrinkproof.randomness import torch_seed

# Shape suffixes: n images, A anchors, P proposals, C classes, B classes and background.

_MULTIPLE: Final = 32
"""Height and width must be whole on every level that is read."""

_SMALLEST: Final = 1e-2
"""A found box with a shorter side is none, pixels (as in torchvision)."""

_CLASSES: Final = "roi_heads.box_predictor.cls_score"
_BOXES: Final = "roi_heads.box_predictor.bbox_pred"

_OLD_CONVOLUTION: Final = re.compile(r"rpn\.head\.conv\.(weight|bias)")
_OLD_PYRAMID: Final = re.compile(r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)")


class FasterRCNN(nn.Module):
    """A two-stage detector (Ren et al. 2015, arXiv:1506.01497) on a feature pyramid.

    It has the layers of torchvision's network under their names. The output holds, for each
    image, objectness (A) and deltas (A, 4) of all anchors, P proposals (P, 4), empty ones behind,
    class logits (P, B) and deltas (P, B, 4) of all proposals. Class k of ours is torchvision's
    k + 1; its first is the background.

    Proposals are in parts of ``unit`` pixels, a power of two, which rounds nothing. In pixels they
    would dwarf the logits, and whoever compares outputs by their largest number would not see that
    logits are wrong.

    Args:
        network: torchvision's network; its layers are used, not copied.
        size: (H, W) of the input, multiples of 32.

    Raises:
        ModelError: the size is no multiple of 32.
    """

    def __init__(self, network: Any, size: tuple[int, int]) -> None:
        super().__init__()
        if any(side % _MULTIPLE or side < _MULTIPLE for side in size):
            raise ModelError(
                f"faster_rcnn: height and width of 'input_shape' must be multiples of {_MULTIPLE}, "
                f"got {size[0]}x{size[1]}; images are resized to it"
            )
        self.backbone: Any = network.backbone
        self.rpn: Any = network.rpn
        self.roi_heads: Any = network.roi_heads
        self.size = size
        self.unit = 2.0 ** math.ceil(math.log2(max(size)))
        self.count = int(self.rpn._post_nms_top_n["testing"])
        shapes = self._shapes()
        self.pyramid = _pyramid(self.roi_heads.box_roi_pool, size, shapes)
        cells = self.rpn.anchor_generator.cell_anchors
        grids = [(*shape, len(cell)) for shape, cell in zip(shapes.values(), cells, strict=True)]
        self.grids = [number for grid in grids for number in grid]
        self.cells = [float(number) for cell in cells for number in cell.flatten()]
        self.anchors = sum(math.prod(grid) for grid in grids)

    def _shapes(self) -> dict[str, tuple[int, int]]:
        """Return the height and width of each level of the pyramid."""
        training = self.backbone.training
        with torch.no_grad():
            features = self.backbone.eval()(torch.zeros(1, 3, *self.size))
        self.backbone.train(training)
        return {name: tuple(part.shape[2:]) for name, part in features.items()}

    @property
    def num_classes(self) -> int:
        """Number of classes of objects; the background is none."""
        return int(self.roi_heads.box_predictor.cls_score.out_features) - 1

    @property
    def rule(self) -> str:
        """How boxes are chosen, for readers."""
        heads = self.roi_heads
        return (
            f"score above {heads.score_thresh:g}, non-maximum suppression above IoU "
            f"{heads.nms_thresh:g} within each class, at most {heads.detections_per_img} boxes per "
            f"image, of {self.count} proposals"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return everything that boxes and the loss are made of, (n, 5 A + P (4 + 5 B))."""
        features = self.backbone(images)
        levels = list(features.values())
        logits, moves = self.rpn.head(levels)
        objectness = torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in logits], dim=1)
        deltas = torch.cat([part.permute(0, 2, 3, 1).flatten(1) for part in moves], dim=1)
        proposals = torch.ops.shrinkproof.propose(
            objectness.detach(),
            deltas.detach().unflatten(1, (-1, 4)),
            self.cells,
            self.grids,
            self.size,
            int(self.rpn._pre_nms_top_n["testing"]),
            self.count,
            float(self.rpn.nms_thresh),
            _logit(self.rpn.score_thresh),
        )
        inside = self.roi_heads.box_head(self.pyramid.read(levels, proposals))
        predictor = self.roi_heads.box_predictor
        classes = predictor.cls_score(inside.flatten(1)).unflatten(0, (-1, self.count))
        boxes = predictor.bbox_pred(inside.flatten(1)).unflatten(0, (-1, self.count))
        parts = (proposals * (1 / self.unit), classes, boxes)
        return torch.cat([objectness, deltas, *(part.flatten(1) for part in parts)], dim=1)

    def decode(self, outputs: NDArray[np.float32]) -> list[Detections]:
        """Return what was found in each image, from the output of the network.

        The same rule as torchvision's in evaluation mode.

        Raises:
            DataError: the outputs are not finite, or not those of images of our size.
        """
        check_outputs(outputs, (sum(self._lengths()),), type(self).__name__)
        tensor = torch.from_numpy(np.array(outputs, dtype=np.float32))
        with torch.no_grad():
            _, _, proposals, logits, deltas = self._parts(tensor)
            scores, deltas = logits.softmax(-1)[..., 1:], deltas[:, :, 1:]
            return [self._found(*image) for image in zip(proposals, scores, deltas, strict=True)]

    def _found(self, proposals_P4: Tensor, scores_PC: Tensor, deltas_PC4: Tensor) -> Detections:
        from torchvision.ops import clip_boxes_to_image, remove_small_boxes

        heads = self.roi_heads
        place, label = (scores_PC > heads.score_thresh).nonzero(as_tuple=True)
        score = scores_PC[place, label]
        boxes = heads.box_coder.decode_single(deltas_PC4[place, label], proposals_P4[place])
        boxes = clip_boxes_to_image(boxes, self.size)
        # Empty proposals give empty boxes, so nothing is found in what fills up the output.
        large = remove_small_boxes(boxes, min_size=_SMALLEST)
        boxes, score, label, place = boxes[large], score[large], label[large], place[large]
        found = [part.numpy() for part in (boxes, score, label, place)]
        kept = without_duplicates(
            *found[:3], overlap=heads.nms_thresh, largest=heads.detections_per_img
        )
        return Detections(*(part[kept] for part in found))

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Return the logit of every class for every proposal, (n, P, C)."""
        return self._parts(outputs)[3][..., 1:]

    def read_weights(self, tensors: Mapping[str, Tensor]) -> tuple[int | None, dict[str, Tensor]]:
        """Return how many classes weights of torchvision have, and the weights in our layout.

        Published COCO weights have a row for each of 91 category numbers, of which 80 are in use;
        the rows of the others are left out, so that class k is the k-th category. Weights of 90
        classes of one's own look the same and are not told apart. Older weights have other names
        of some layers.
        """
        found = {_present_name(name): tensor for name, tensor in tensors.items()}
        weight = found.get(f"{_CLASSES}.weight")
        if weight is None or not weight.ndim:
            return None, found
        rows = len(weight)
        if rows != CATEGORIES:
            return rows - 1, found
        kept = torch.tensor(used_categories())
        for layer, each in ((_CLASSES, 1), (_BOXES, 4)):
            for name in (f"{layer}.weight", f"{layer}.bias"):
                # What is missing or of another shape is named by whoever fills the network.
                if name in found and len(found[name]) == rows * each:
                    by_row = found[name].unflatten(0, (rows, each))
                    found[name] = by_row.index_select(0, kept).flatten(0, 1)
        return len(kept) - 1, found

    def loss(self, outputs: Tensor, target: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the sum of the four losses of both stages, a scalar.

        Torchvision's assignments, samples and losses, with two differences: the second stage
        learns from the proposals alone, to which torchvision adds the objects' own boxes, and
        there are as many proposals as in evaluation. The samples depend on the output alone, so
        equal outputs have equal losses.

        Raises:
            DataError: a box has no area.
        """
        check_targets(target)
        objectness, deltas, proposals, logits, boxes = self._parts(outputs)
        objects = [t["boxes"].to(outputs) for t in target]
        labels = [t["labels"].to(outputs.device) + 1 for t in target]
        devices = [outputs.device] if outputs.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            # The samplers draw from the global state.
            torch.manual_seed(torch_seed("faster_rcnn", float(objectness.detach().sum())))
            return self._first_loss(objectness, deltas, objects) + self._second_loss(
                proposals, logits, boxes, objects, labels
            )

    def _first_loss(self, objectness: Tensor, deltas: Tensor, objects: list[Tensor]) -> Tensor:
        """Return the loss of the region proposal network."""
        anchors = torch.cat(anchors_of(self.cells, self.grids, self.size)).to(objectness)
        each = [anchors] * len(objects)
        labels, matched = self.rpn.assign_targets_to_anchors(each, [{"boxes": b} for b in objects])
        wanted = self.rpn.box_coder.encode(matched, each)
        first, second = self.rpn.compute_loss(
            objectness.flatten(), deltas.flatten(0, 1), labels, wanted
        )
        total: Tensor = first + second
        return total

    def _second_loss(
        self,
        proposals: Tensor,
        logits: Tensor,
        boxes: Tensor,
        objects: list[Tensor],
        labels: list[Tensor],
    ) -> Tensor:
        """Return the loss of classes and boxes of the proposals."""
        from torchvision.models.detection.roi_heads import fastrcnn_loss

        heads = self.roi_heads
        real = [(part[:, 2] > part[:, 0]).nonzero().squeeze(1) for part in proposals]
        own = [part[rows] for part, rows in zip(proposals, real, strict=True)]
        matched, classes = heads.assign_targets_to_proposals(own, objects, labels)
        chosen = heads.subsample(classes)
        if not sum(len(rows) for rows in chosen):
            return logits.sum() * 0
        rows = [part[pick] for part, pick in zip(real, chosen, strict=True)]
        wanted = [
            (whole if len(whole) else whole.new_zeros((1, 4)))[part[pick]]
            for whole, part, pick in zip(objects, matched, chosen, strict=True)
        ]
        targets = heads.box_coder.encode(
            wanted, [part[pick] for part, pick in zip(own, chosen, strict=True)]
        )
        first, second = fastrcnn_loss(
            torch.cat([part[pick] for part, pick in zip(logits, rows, strict=True)]),
            torch.cat([part[pick].flatten(1) for part, pick in zip(boxes, rows, strict=True)]),
            [part[pick] for part, pick in zip(classes, chosen, strict=True)],
            targets,
        )
        total: Tensor = first + second
        return total

    def _parts(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return objectness, deltas, proposals, logits, and deltas of the proposals."""
        wide = self.num_classes + 1
        objectness, deltas, proposals, logits, boxes = outputs.split(self._lengths(), dim=1)
        return (
            objectness,
            deltas.unflatten(1, (-1, 4)),
            self.unit * proposals.unflatten(1, (-1, 4)),
            logits.unflatten(1, (-1, wide)),
            boxes.unflatten(1, (-1, wide, 4)),
        )

    def _lengths(self) -> list[int]:
        """Return how many numbers each part of the output has for an image."""
        wide = self.num_classes + 1
        numbers = [self.count * part for part in (4, wide, 4 * wide)]
        return [self.anchors, 4 * self.anchors, *numbers]


def _logit(probability: float) -> float:
    if probability <= 0:
        return -math.inf
    return math.log(probability / (1 - probability))


def _pyramid(pool: Any, size: tuple[int, int], shapes: Mapping[str, tuple[int, int]]) -> Pyramid:
    """Return what reads the levels that torchvision's pooling would."""
    used = [shapes[name] for name in pool.featmap_names if name in shapes]
    lowest, highest = (round(math.log2(size[0] / tall)) for tall, _ in (used[0], used[-1]))
    return Pyramid(
        size=size,
        lowest=lowest,
        highest=highest,
        side=int(pool.output_size[0]),
        ratio=int(pool.sampling_ratio),
        usual_side=float(pool.canonical_scale),
        usual_level=int(pool.canonical_level),
    )


def build(
    name: str, classes: int | None, input_shape: tuple[int, int, int], weights: Any = None
) -> FasterRCNN:
    """Return torchvision's Faster R-CNN as a detector.

    Batch norms are ordinary ones, with published weights, too, so that they can be folded;
    torchvision freezes them there.

    Args:
        name: ``fasterrcnn_resnet50_fpn``, ``fasterrcnn_resnet50_fpn_v2``,
            ``fasterrcnn_mobilenet_v3_large_fpn`` or ``fasterrcnn_mobilenet_v3_large_320_fpn``.
        classes: number of classes of objects; None for the 80 of COCO.
        input_shape: (3, H, W) of one input; H and W are multiples of 32.
        weights: torchvision's entry of the published weights; None for freshly drawn ones.

    Raises:
        ModelError: height or width are no multiples of 32.
    """
    from torchvision import models

    classes = len(used_categories()) - 1 if classes is None else classes
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes + 1)
    detector = FasterRCNN(network, (input_shape[1], input_shape[2]))
    if weights is not None:
        _, state = detector.read_weights(weights.get_state_dict(progress=False, check_hash=True))
        counters = {n: t for n, t in detector.state_dict().items() if n.endswith("_tracked")}
        detector.load_state_dict({**counters, **state})
        if name == "fasterrcnn_resnet50_fpn":
            # Its published weights were made with frozen norms without a small constant.
            for layer in detector.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = 0.0
    return detector


def _present_name(name: str) -> str:
    """Return the present name of a tensor of weights made before torchvision 0.13."""
    if found := _OLD_CONVOLUTION.fullmatch(name):
        return f"rpn.head.conv.0.0.{found[1]}"
    if found := _OLD_PYRAMID.fullmatch(name):
        return f"{found[1]}.0.{found[2]}"
    return name
