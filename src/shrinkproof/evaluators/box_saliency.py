"""Whether a compressed detector finds a box for the same reasons as its baseline."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import numpy as np
import pydantic
from numpy.typing import NDArray

from shrinkproof import randomness
from shrinkproof.attributions import BOX_ATTRIBUTIONS
from shrinkproof.attributions.box_layers import choose_box_layer
from shrinkproof.attributions.boxes import BoxAttribution, ExplainedBoxes, detections
from shrinkproof.detecting import Detections, Detector, ScoresBoxes
from shrinkproof.engines.inline import attempt
from shrinkproof.errors import DataError, ModelError
from shrinkproof.evaluators.box_onlooker import (
    BoxOnlooker,
    ShownScene,
    best_boxes,
    boxes_at,
    counterparts,
    true_classes,
)
from shrinkproof.evaluators.onlooker import Onlooker, network_of, randomized
from shrinkproof.evaluators.saliency import (
    AUTO,
    Looking,
    Saliency,
    Twin,
    add_control,
    halved,
    is_baseline,
)
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.heatmaps import OWN, RANDOMIZED, TWIN, HeatMaps
from shrinkproof.models.loaded import Preprocess
from shrinkproof.records import Failure, Json
from shrinkproof.registry import Fraction, OpenFraction, Registry, component

if TYPE_CHECKING:
    from torch import nn

# Shape suffixes: n images, m boxes of the baseline, k boxes that have a counterpart.


@component
class BoxSaliency(Saliency):
    """Heat maps of the boxes of every candidate beside those of its baseline, on the same images.

    Under each condition the best boxes of the baseline are explained. Beside each of them stands
    the candidate's box of the same class that overlaps most, and its map explains the candidate's
    own box. Boxes without a counterpart have no map: their share is a number of its own, and all
    others are about the pairs. The controls are those of `Saliency`; the network with weights drawn
    anew is asked about the baseline's boxes, at the places where those come from.

    Attributes:
        boxes: how many boxes of an image, at most; those with the highest scores.
        score: boxes of the baseline below this score are left out.
        overlap: intersection over union of a box and its counterpart, at least; also that of a box
            and the object that makes it right.
    """

    version: ClassVar[int] = 1
    methods: ClassVar[Registry] = BOX_ATTRIBUTIONS

    boxes: Annotated[int, pydantic.Field(ge=1)] = 3
    score: Fraction = 0.5
    overlap: OpenFraction = 0.5

    @property
    def explained(self) -> Json:
        """What else than method, layer, number of images and seed the maps depend on."""
        return {
            "boxes": self.boxes,
            "of_boxes": self.version,
            "overlap": self.overlap,
            "score": self.score,
        }

    def looking(self, scene: Scene) -> Looking:
        """Return what makes the maps of a scene."""
        return _Work(self, ShownScene.of(scene, self.images))


@dataclass(frozen=True, slots=True, eq=False)
class _Matched:
    """The boxes of a network that are those of the baseline.

    Attributes:
        rows: (k,) int64, which of the baseline's boxes.
        boxes: the network's own, k of them.
        score: (k,) float32, their scores.
    """

    rows: NDArray[np.int64]
    boxes: ExplainedBoxes
    score: NDArray[np.float32]


@dataclass(eq=False)
class _Work:
    """Makes maps of one set of images.

    Attributes:
        saliency: the settings.
        shown: the images.
    """

    saliency: BoxSaliency
    shown: ShownScene
    _networks: dict[Path, nn.Module] = field(default_factory=dict)

    @cached_property
    def method(self) -> BoxAttribution:
        method: BoxAttribution = self.saliency.attribution
        return method

    def of_baseline(self, subject: Subject, *, twin: Twin | Failure | None) -> HeatMaps:
        """Return the maps of a baseline's boxes with those of its controls.

        Raises:
            DataError: the network's output is not finite.
            ModelError: it is no detector.
        """
        onlooker = self._onlooker(subject, self.saliency.layer)
        found = self._detections(onlooker, subject, self.shown.everything())
        boxes, score = best_boxes(found, self.saliency.score, self.saliency.boxes)
        maps = self._maps(onlooker, subject, boxes)
        resolution = self._resolution(onlooker, subject)
        label = true_classes(boxes, self.shown, subject.preprocess, self.saliency.overlap)
        baseline = HeatMaps(
            method=self.saliency.method,
            layer=onlooker.onlooker.seen,
            resolution=resolution,
            maps=maps,
            index=self.shown.index[boxes.image],
            explained=boxes.label,
            target=label,
            caveat=_told(onlooker.onlooker.caveat, self._rule(boxes, onlooker.detector)),
            groups=self.shown.groups[boxes.image],
            images=self.shown.pictures(subject.preprocess, boxes.image),
            boxes=_parts(boxes.boxes, self._size(subject)),
            score=score,
        )
        present: dict[str, NDArray[np.bool_]] = {}
        missing: dict[str, str] = {}
        add_control(RANDOMIZED, self._randomized(subject, onlooker, boxes), maps, missing)
        if twin is not None:
            add_control(TWIN, self._twin(twin, subject, baseline, present), maps, missing)
        name = twin.label if isinstance(twin, Twin) else ""
        return replace(baseline, maps=maps, missing=missing, twin=name, present=present)

    def of_candidate(self, subject: Subject, *, baseline: HeatMaps) -> HeatMaps:
        """Return the maps of a candidate's boxes that are those of its baseline.

        Raises:
            DataError: the baseline's maps are about other images.
        """
        onlooker = self._onlooker(subject, baseline.layer)
        matched = self._matched(onlooker, subject, baseline)
        made = self._maps(onlooker, subject, matched.boxes)
        resolution = self._resolution(onlooker, subject)
        count = len(baseline)
        own = _spread(_parts(matched.boxes.boxes, self._size(subject)), matched.rows, count)
        return HeatMaps(
            method=baseline.method,
            layer=onlooker.onlooker.seen,
            resolution=resolution,
            maps={name: self._beside(maps, matched, baseline) for name, maps in made.items()},
            index=baseline.index,
            explained=baseline.explained,
            target=baseline.target,
            caveat=baseline.caveat,
            groups=baseline.groups,
            boxes=own,
            score=_spread(matched.score, matched.rows, count),
            present={OWN: _where(matched, count)},
        )

    def _onlooker(self, subject: Subject, layer: str) -> BoxOnlooker:
        """Return a candidate as methods see it."""
        detector = _detector(subject)
        _, example = next(self.shown.inputs(subject.preprocess, np.zeros(1, dtype=np.int64)))
        black = replace(subject.preprocess, size=None)(np.zeros((1, 1, 1, 3), dtype=np.uint8))
        if self.saliency.form == "artifact":
            seen = Onlooker(None, subject.predict, black.reshape(-1), example, layer)
        else:
            module, beside = network_of(subject, instead="drise"), self._network_beside(subject)
            if layer in (AUTO, "") and isinstance(detector, ScoresBoxes):
                layer = choose_box_layer(module, example, detector).name
            seen = Onlooker.of(module, black.reshape(-1), example, layer, beside)
        return BoxOnlooker(seen, detector)

    def _network_beside(self, subject: Subject) -> nn.Module | None:
        """Return the network of a candidate's baseline; None for a baseline."""
        if is_baseline(subject):
            return None
        if subject.reference not in self._networks:
            self._networks[subject.reference] = network_of(
                subject, subject.reference, instead="drise"
            )
        return self._networks[subject.reference]

    def _detections(
        self, onlooker: BoxOnlooker, subject: Subject, wanted: NDArray[np.int64]
    ) -> list[Detections]:
        """Return what a candidate finds in some images, in their order."""
        found: dict[int, Detections] = {}
        for positions, given in self.shown.inputs(subject.preprocess, wanted):
            made = detections(self.saliency.method, onlooker, given)
            found |= zip(positions.tolist(), made, strict=True)
        return [found[position] for position in wanted.tolist()]

    def _matched(self, onlooker: BoxOnlooker, subject: Subject, baseline: HeatMaps) -> _Matched:
        """Return the boxes of a network that are those of the baseline."""
        boxes = self._explained(baseline, self._size(subject))
        images = np.unique(boxes.image)
        found = self._detections(onlooker, subject, images)
        rows, chosen = [], []
        for image, one in zip(images, found, strict=True):
            which, of_image = boxes.of(image[None])
            partner = counterparts(of_image, one, self.saliency.overlap)
            rows.append(which[partner >= 0])
            chosen.append(partner[partner >= 0])
        kept = np.concatenate([np.empty(0, dtype=np.int64), *rows])
        own, score = boxes_at(found, chosen, boxes.image[kept])
        return _Matched(kept, own, score)

    def _explained(self, baseline: HeatMaps, size: tuple[int, int]) -> ExplainedBoxes:
        """Return the boxes that a baseline's maps explain, in pixels of the input."""
        assert baseline.boxes is not None, "a baseline's maps are about its boxes"
        position = {index: place for place, index in enumerate(self.shown.index.tolist())}
        unknown = [index for index in baseline.index.tolist() if index not in position]
        if unknown:
            raise DataError(
                f"{self.saliency.method}: the baseline's stored heat maps must be about the same "
                f"{len(self.shown)} images, got boxes of {len(set(unknown))} others; delete the "
                "folder 'saliency' of the run directory and run the study again"
            )
        return ExplainedBoxes(
            image=np.array([position[index] for index in baseline.index.tolist()], dtype=np.int64),
            boxes=baseline.boxes * _sides(size),
            label=baseline.explained,
        )

    def _maps(
        self, onlooker: BoxOnlooker, subject: Subject, boxes: ExplainedBoxes
    ) -> dict[str, NDArray[np.float32]]:
        """Return the maps of boxes, with those of both halves of the masks if there are any."""
        return halved(self.method, lambda method: self._made(method, onlooker, subject, boxes))

    def _made(
        self,
        method: BoxAttribution,
        onlooker: BoxOnlooker,
        subject: Subject,
        boxes: ExplainedBoxes,
    ) -> NDArray[np.float32]:
        stream = partial(randomness.stream, self.saliency.seed, "saliency", self.saliency.method)
        made: NDArray[np.float32] = np.zeros((0, 1, 1), dtype=np.float32)
        for positions, given in self.shown.inputs(subject.preprocess, np.unique(boxes.image)):
            rows, some = boxes.of(positions)
            maps = method.maps(onlooker, given, some, stream=stream)
            made = made if len(made) else np.empty((len(boxes), *maps.shape[1:]), dtype=np.float32)
            made[rows] = maps
        return made

    def _beside(
        self, maps: NDArray[np.float32], matched: _Matched, baseline: HeatMaps
    ) -> NDArray[np.float32]:
        """Return one map for each box of the baseline; zeros where there is no counterpart."""
        if not len(maps):
            return np.zeros_like(baseline.own)
        return _spread(maps, matched.rows, len(baseline))

    def _randomized(
        self, subject: Subject, onlooker: BoxOnlooker, boxes: ExplainedBoxes
    ) -> NDArray[np.float32] | Failure:
        def make(subject: Subject) -> NDArray[np.float32]:
            seen = onlooker.onlooker
            network = network_of(subject, instead="a reference that gives a PyTorch network")
            drawn = randomized(network, seen.example, self.saliency.seed)
            other = Onlooker.of(drawn, seen.black, seen.example, seen.seen or AUTO)
            return self._maps(replace(onlooker, onlooker=other), subject, boxes)[OWN]

        return attempt(make, subject)

    def _twin(
        self,
        twin: Twin | Failure,
        base: Subject,
        baseline: HeatMaps,
        present: dict[str, NDArray[np.bool_]],
    ) -> NDArray[np.float32] | Failure:
        """Return the maps of another network's boxes, and note which there are in ``present``."""
        if isinstance(twin, Failure):
            return twin

        def make(subject: Subject) -> NDArray[np.float32]:
            _check_frames(subject.preprocess, base.preprocess)
            onlooker = self._onlooker(subject, twin.layer)
            matched = self._matched(onlooker, subject, baseline)
            maps = self._maps(onlooker, subject, matched.boxes)[OWN]
            present[TWIN] = _where(matched, len(baseline))
            return self._beside(maps, matched, baseline)

        found = attempt(make, twin.subject)
        if isinstance(found, Failure) or found.shape != baseline.own.shape:
            present.pop(TWIN, None)
        return found

    def _resolution(self, onlooker: BoxOnlooker, subject: Subject) -> tuple[int, int]:
        _, example = next(self.shown.inputs(subject.preprocess, np.zeros(1, dtype=np.int64)))
        rows, columns = self.method.resolution(onlooker, example[:1])
        return rows, columns

    def _size(self, subject: Subject) -> tuple[int, int]:
        """Return height and width of a network's input."""
        _, example = next(self.shown.inputs(subject.preprocess, np.zeros(1, dtype=np.int64)))
        return example.shape[2], example.shape[3]

    def _rule(self, boxes: ExplainedBoxes, detector: Detector) -> str:
        """Return which boxes are explained, and what their counterparts are."""
        setting = self.saliency
        return (
            f"{len(boxes)} boxes of score {setting.score:g} or more in "
            f"{len(np.unique(boxes.image))} of {len(self.shown)} images, at most {setting.boxes} "
            "per image; the counterpart of each is the box of its class that overlaps most, IoU "
            f"{setting.overlap:g} or more, one to one, of any score that the detector's rule lets "
            f"pass: {detector.rule}"
        )


def _detector(subject: Subject) -> Detector:
    if subject.detector is None:
        raise ModelError(
            f"candidate {subject.cell.candidate}: must be a detector to have heat maps of boxes, "
            "got a network without decode; use task: classification"
        )
    return subject.detector


def _check_frames(one: Preprocess, other: Preprocess) -> None:
    """Check that two networks are shown the same part of an image at the same place."""
    frames = [(preprocess.size, preprocess.keep_ratio) for preprocess in (one, other)]
    if frames[0] != frames[1]:
        raise DataError(
            "twin: its images must be resized as the baseline's are, got (size, keep_ratio) = "
            f"{frames[0]} and {frames[1]}"
        )


def _parts(boxes_m4: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return boxes in pixels as parts of width and height, 0 to 1."""
    return np.asarray(boxes_m4 / _sides(size), dtype=np.float32)


def _sides(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the length of the axis of each number of a box, (4,)."""
    height, width = size
    return np.array([width, height, width, height], dtype=np.float32)


def _where(matched: _Matched, count: int) -> NDArray[np.bool_]:
    """Return which of the baseline's boxes have a counterpart, (m,)."""
    return np.isin(np.arange(count), matched.rows)


def _spread(
    values: NDArray[np.float32], rows: NDArray[np.int64], count: int
) -> NDArray[np.float32]:
    """Return one value for each of ``count`` boxes; zeros where none is given."""
    spread = np.zeros((count, *values.shape[1:]), dtype=np.float32)
    spread[rows] = values
    return spread


def _told(*texts: str) -> str:
    return "; ".join(text for text in texts if text)
