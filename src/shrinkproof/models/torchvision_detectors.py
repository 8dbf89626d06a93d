"""One-stage detectors of torchvision (SSD, SSDlite, RetinaNet, FCOS) with one output tensor."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from shrinkproof.detecting import Detections
from shrinkproof.errors import DataError, ModelError
from shrinkproof.models.box_decoding import best_of_groups, check_outputs, without_duplicates
from shrinkproof.torchvision_ops import ensure

CATEGORIES: Final = 91
"""Rows for each anchor of the published COCO weights: the background, 80 classes, 10 gaps."""

HEAD: Final = "head.classification_head."

_OLD_NAME: Final = re.compile(r"(head\.(?:classification|regression)_head\.conv)\.([0246])\.(\w+)")


class OneStageDetector(nn.Module):
    """A detector of torchvision that returns everything before boxes are chosen in one tensor.

    ``forward`` returns (n, places, 4 + K) float32, for FCOS (n, places, 5 + K): the regression of
    each anchor's box, K = C + 1 class logits of which the first is the background's, and FCOS's
    centerness. ``decode`` is torchvision's own rule and gives torchvision's boxes. Class ``k`` of
    ours is torchvision's ``k + 1``.

    Layers have torchvision's names, so that a state dict made with torchvision fits.

    Attributes:
        backbone: torchvision's feature extractor.
        head: torchvision's convolutions behind it.
        score_threshold: boxes with at most this score are dropped, 0 to 1.
        overlap: suppression removes boxes of one class with more intersection over union, 0 to 1.
        candidates: best boxes of each group that suppression looks at; see the class for groups.
        largest: most boxes of an image.
        size: height and width of the input, on which the anchors depend.
    """

    parts: ClassVar[tuple[str, ...]] = ("bbox_regression", "cls_logits")
    group: ClassVar[str] = "level"

    def __init__(self, network: nn.Module, size: tuple[int, int]) -> None:
        """Take over the layers and the rule of a network of torchvision.

        Args:
            network: an SSD, RetinaNet or FCOS of torchvision; its layers are used, not copied.
            size: height and width of the input.

        Raises:
            ModelError: the network does not accept inputs of this size.
        """
        super().__init__()
        found: Any = network
        self.backbone: nn.Module = found.backbone
        self.head: nn.Module = found.head
        # Not registered: it holds the same layers, which shall have one name.
        self.__dict__["_network"] = found
        self.score_threshold: float = found.score_thresh
        self.overlap: float = found.nms_thresh
        self.candidates: int = found.topk_candidates
        self.largest: int = found.detections_per_img
        self.size = size
        maps = self._maps()
        areas = [m.shape[2] * m.shape[3] for m in maps]
        self._anchors = self._anchors_of(maps)
        self._levels = [area * (len(self._anchors) // sum(areas)) for area in areas]

    @property
    def rows(self) -> int:
        """Number of class logits of each anchor, K; the background is the first."""
        head: Any = self.head
        return int(head.classification_head.num_classes)

    @property
    def num_classes(self) -> int:
        """Number of classes of objects, C; the background is none."""
        return self.rows - 1

    @property
    def rule(self) -> str:
        """How boxes are chosen, for readers."""
        return (
            f"score above {self.score_threshold:g}, the best {self.candidates} of each "
            f"{self.group}, non-maximum suppression within a class above IoU {self.overlap:g}, at "
            f"most {self.largest} boxes of an image"
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, places, 4 + K) or (n, places, 5 + K), in training as in evaluation."""
        outputs = self.head(list(self.backbone(images).values()))
        return torch.cat([outputs[part] for part in self.parts], dim=2)

    def decode(self, outputs: NDArray[np.float32]) -> list[Detections]:
        """Return what was found in each image.

        Raises:
            DataError: the outputs are not finite, or not those of images of our size.
        """
        columns = self.rows + 4 + ("bbox_ctrness" in self.parts)
        check_outputs(outputs, (len(self._anchors), columns), type(self).__name__)
        tensor = torch.from_numpy(np.ascontiguousarray(outputs, dtype=np.float32))
        return [self._found(one) for one in tensor]

    def loss(self, outputs: Tensor, target: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Return the sum of torchvision's losses of this network, a scalar.

        Args:
            outputs: what the network returned for n images.
            target: n mappings with ``boxes`` (g, 4) in pixels of the input, and ``labels`` (g,).

        Raises:
            DataError: a box has no area.
        """
        outputs = outputs.float()
        targets = [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in target]
        check_targets(target)
        ends = [4, 4 + self.rows]
        parts = dict(zip(self.parts, outputs.tensor_split(ends, dim=2), strict=False))
        anchors = [self._anchors.to(outputs.device)] * len(outputs)
        losses: dict[str, Tensor] = self._losses(targets, parts, anchors)
        return torch.stack(list(losses.values())).sum()

    def class_scores(self, outputs: Tensor) -> Tensor:
        """Return the logits of all classes at all places, (n, places, C)."""
        return outputs[..., 5 : 4 + self.rows]

    def read_weights(self, tensors: Mapping[str, Tensor]) -> tuple[int | None, dict[str, Tensor]]:
        """Return how many classes weights of torchvision have, and the weights in our layout.

        Published COCO weights have a row for each of 91 category numbers, of which 80 are in use;
        the rows of the others are left out, so that class k is the k-th category. Weights of 90
        classes of one's own look the same and are not told apart.

        Args:
            tensors: name -> tensor, as torchvision names them.

        Returns:
            The number of classes, None where the weights do not fit; and the weights.
        """
        found = dict(tensors)
        layers = self._class_layers()
        own = self.state_dict()
        widths = set()
        for layer in layers:
            weight = found.get(f"{layer}.weight")
            anchors = len(own[f"{layer}.weight"]) // self.rows
            if weight is None or not weight.ndim or len(weight) % anchors:
                return None, found
            widths.add(len(weight) // anchors)
        if len(widths) != 1:
            return None, found
        (rows,) = widths
        if rows != CATEGORIES:
            return rows - 1, found
        kept = torch.tensor(used_categories())
        for name in [f"{layer}.{part}" for layer in layers for part in ("weight", "bias")]:
            if name in found:
                by_row = found[name].unflatten(0, (-1, rows))
                found[name] = by_row.index_select(1, kept).flatten(0, 1)
        return len(kept) - 1, found

    def _class_layers(self) -> list[str]:
        """Return the names of the convolutions that make class logits."""
        return [f"{HEAD}cls_logits"]

    def _maps(self) -> list[Tensor]:
        """Return the feature maps of one blank image of our size."""
        was_training = self.training
        try:
            with torch.no_grad():
                return list(self.eval().backbone(torch.zeros(1, 3, *self.size)).values())
        except RuntimeError as error:
            raise ModelError(
                f"{type(self).__name__}: the network must accept images of height and width "
                f"{self.size}, got {error}; write a larger 'input_shape'"
            ) from error
        finally:
            self.train(was_training)

    def _anchors_of(self, maps: list[Tensor]) -> Tensor:
        """Return the anchors of our size, (places, 4)."""
        from torchvision.models.detection.image_list import ImageList

        images = ImageList(torch.empty(1, 3, *self.size), [self.size])
        anchors: Tensor = self.__dict__["_network"].anchor_generator(images, maps)[0]
        return anchors

    def _found(self, outputs: Tensor) -> Detections:
        """Choose the boxes of one image, from its outputs (places, columns)."""
        from torchvision.ops.boxes import clip_boxes_to_image

        score_PC = self._scores(outputs).numpy()
        place, label = np.nonzero(score_PC > self.score_threshold)
        score = score_PC[place, label]
        best = best_of_groups(score, self._groups(place, label), self.candidates)
        place, label, score = place[best], label[best], score[best]
        rows = torch.from_numpy(place)
        boxes_m4 = clip_boxes_to_image(
            self._boxes(outputs[rows, :4], self._anchors[rows]), self.size
        ).numpy()
        kept = without_duplicates(
            boxes_m4, score, label, overlap=self.overlap, largest=self.largest
        )
        return Detections(
            boxes=boxes_m4[kept], score=score[kept], label=label[kept], place=place[kept]
        )

    def _groups(self, place: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:  # noqa: ARG002
        """Return the group of candidates each candidate competes in: its feature map."""
        ends = np.cumsum(self._levels)
        found: NDArray[np.int64] = np.searchsorted(ends, place, side="right")
        return found

    def _boxes(self, regression: Tensor, anchors: Tensor) -> Tensor:
        """Return boxes (m, 4) from regressions (m, 4) and their anchors (m, 4)."""
        boxes: Tensor = self.__dict__["_network"].box_coder.decode_single(regression, anchors)
        return boxes

    @abstractmethod
    def _scores(self, outputs: Tensor) -> Tensor:
        """Return the score of each class at each place, (places, C), from (places, columns)."""

    @abstractmethod
    def _losses(
        self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        """Return torchvision's losses by name."""


class SsdDetector(OneStageDetector):
    """SSD and SSDlite: a softmax over the background and all classes.

    Reference: Liu et al. 2016, arXiv:1512.02325; Howard et al. 2019, arXiv:1905.02244, section 6.3.
    """

    group: ClassVar[str] = "class"

    @property
    def rows(self) -> int:
        """Number of class logits of each anchor, K; the background is the first."""
        head: Any = self.head
        return int(head.classification_head.num_columns)

    def _class_layers(self) -> list[str]:
        head: Any = self.head
        # The last convolution of each branch; SSDlite has a depthwise one before it.
        branches = [
            list(branch) if isinstance(branch, nn.Sequential) else []
            for branch in head.classification_head.module_list
        ]
        return [
            f"{HEAD}module_list.{number}" + (f".{len(layers) - 1}" if layers else "")
            for number, layers in enumerate(branches)
        ]

    def _groups(self, place: NDArray[np.int64], label: NDArray[np.int64]) -> NDArray[np.int64]:  # noqa: ARG002
        return label

    def _scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, 4:].softmax(dim=1)[:, 1:]

    def _losses(
        self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        from torchvision.ops.boxes import box_iou

        network = self.__dict__["_network"]
        matched = [
            network.proposal_matcher(box_iou(one["boxes"], own))
            if len(one["boxes"])
            else torch.full((len(own),), -1, device=own.device)
            for one, own in zip(targets, anchors, strict=True)
        ]
        losses: dict[str, Tensor] = network.compute_loss(targets, outputs, anchors, matched)
        return losses


class RetinaDetector(OneStageDetector):
    """RetinaNet: a logistic score for each class; the first row belongs to no class.

    Reference: Lin et al. 2017, arXiv:1708.02002.
    """

    def _scores(self, outputs: Tensor) -> Tensor:
        return outputs[:, 5:].sigmoid()

    def _losses(
        self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.__dict__["_network"].compute_loss(
            targets, outputs, anchors
        )
        return losses

    def read_weights(self, tensors: Mapping[str, Tensor]) -> tuple[int | None, dict[str, Tensor]]:
        """Return how many classes weights have, and the weights in our layout.

        Weights made by torchvision before 0.13 have other names in the two heads.
        """
        renamed = {_present_name(name): tensor for name, tensor in tensors.items()}
        return super().read_weights(renamed)


class FcosDetector(OneStageDetector):
    """FCOS: logistic scores times the centerness of a place, no anchors of several shapes.

    Reference: Tian et al. 2019, arXiv:1904.01355.
    """

    parts: ClassVar[tuple[str, ...]] = ("bbox_regression", "cls_logits", "bbox_ctrness")

    def _scores(self, outputs: Tensor) -> Tensor:
        return (outputs[:, 5:-1].sigmoid() * outputs[:, -1:].sigmoid()).sqrt()

    def _boxes(self, regression: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.__dict__["_network"].box_coder.decode(regression, anchors)
        return boxes

    def _losses(
        self, targets: list[dict[str, Tensor]], outputs: dict[str, Tensor], anchors: list[Tensor]
    ) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.__dict__["_network"].compute_loss(
            targets, outputs, anchors, self._levels
        )
        return losses


NETWORKS: Final[Mapping[str, type[OneStageDetector]]] = {
    "ssd300_vgg16": SsdDetector,
    "ssdlite320_mobilenet_v3_large": SsdDetector,
    "retinanet_resnet50_fpn": RetinaDetector,
    "retinanet_resnet50_fpn_v2": RetinaDetector,
    "fcos_resnet50_fpn": FcosDetector,
}
"""Name in torchvision -> our class."""


def build(
    name: str, classes: int | None, input_shape: tuple[int, int, int], weights: Any = None
) -> OneStageDetector:
    """Return a one-stage detector of torchvision.

    Batch norms are ordinary ones, with published weights, too, so that they can be folded;
    torchvision freezes them there.

    Args:
        name: one of `NETWORKS`.
        classes: number of classes of objects; None for the 80 of COCO.
        input_shape: (3, H, W) of one input.
        weights: torchvision's entry of the published weights; None for freshly drawn ones.

    Raises:
        ModelError: the network does not accept such an input.
    """
    ensure()
    from torchvision import models

    classes = len(used_categories()) - 1 if classes is None else classes
    network = models.get_model(name, weights=None, weights_backbone=None, num_classes=classes + 1)
    detector = NETWORKS[name](network, (input_shape[1], input_shape[2]))
    if weights is not None:
        _, state = detector.read_weights(weights.get_state_dict(progress=False, check_hash=True))
        detector.load_state_dict({**_counters(detector), **state})
        if name == "retinanet_resnet50_fpn":
            # Its published weights were made with frozen norms without a small constant.
            for layer in detector.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.eps = 0.0
    return detector


def _counters(module: nn.Module) -> dict[str, Tensor]:
    """Return the counters of batch norms, which frozen ones do not have."""
    return {n: t for n, t in module.state_dict().items() if n.endswith("num_batches_tracked")}


def check_targets(target: Sequence[Mapping[str, Tensor]]) -> None:
    """Refuse boxes without area, whose loss is not finite.

    Raises:
        DataError: there is one.
    """
    for one in target:
        if (one["boxes"][:, 2:] <= one["boxes"][:, :2]).any():
            raise DataError(
                "detection: boxes to learn from must be wider and higher than 0, got one that "
                "is not; leave such boxes out of the training data"
            )


def used_categories() -> list[int]:
    """Return the category numbers of COCO that are in use, after 0 for the background."""
    from torchvision.models.detection import SSD300_VGG16_Weights

    names = SSD300_VGG16_Weights.COCO_V1.meta["categories"]
    return [number for number, name in enumerate(names) if name != "N/A"]


def _present_name(name: str) -> str:
    """Return the present name of a tensor of RetinaNet's heads, which had fewer levels once."""
    found = _OLD_NAME.fullmatch(name)
    return f"{found[1]}.{int(found[2]) // 2}.0.{found[3]}" if found else name
