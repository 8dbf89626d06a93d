"""Heat maps of boxes on planted detectors: equal, weaker, blind to a class, broken."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from shrinkproof.attributions.boxes import ExplainedBoxes
from shrinkproof.detecting import Detections
from shrinkproof.evaluators.box_onlooker import (
    ShownScene,
    best_boxes,
    counterparts,
    true_classes,
)
from shrinkproof.evaluators.box_saliency import BoxSaliency
from shrinkproof.evaluators.saliency import Twin
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.heatmaps import NO_OBJECT, UNTOLD, HeatMaps
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Failure

from ..attributions.squares import SHAPE, Squares, objects, scenes

COUNT = 12
CAM = BoxSaliency(images=COUNT, replicates=100)
DRISE = BoxSaliency(
    method="drise",
    settings={"masks": 24, "cells": 8},
    images=COUNT,
    replicates=100,
    label="drise",
)


def without_green() -> Squares:
    """A detector that no longer finds green squares."""
    module = Squares()
    module.head.bias.data[1] = -100
    return module


def disturbed() -> Squares:
    """A detector that finds everything, and to which green is red, too."""
    module = Squares()
    module.stem.weight.data[2] = module.stem.weight.data[1]
    module.head.weight.data[0, 2] = 30
    return module


def subjects_of(
    models: dict[str, Any], *, batch: int = 5, reference: str = "base", images: Any = None
) -> list[Subject]:
    """One subject per network; what is no network raises when it is loaded."""
    scene = Scene(scenes(COUNT) if images is None else images, CLEAN, None, batch)

    def load(folder: Path) -> Any:
        found = models[folder.name]
        if isinstance(found, Exception):
            raise found
        return copy.deepcopy(found)

    def predictor(name: str) -> Any:
        def predict(inputs: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return load(Path(name))(torch.from_numpy(inputs)).numpy()

        return predict

    return [
        Subject(
            cell=Cell(f"{name:0>16}", name, "saliency", "twin", "report"),
            predict=predictor(name),
            preprocess=Preprocess(size=SHAPE),
            num_classes=2,
            detector=Squares(),
            scene=scene,
            folder=Path(name),
            reference=Path(reference),
            load_twin=load,
        )
        for name in models
    ]


def run(saliency: BoxSaliency, subjects: list[Subject], **more) -> dict[str, Any]:
    """Measurements by metric and slice, or the failure, by name of the network."""
    found: dict[str, Any] = {}
    for subject, outcome in saliency.explain(subjects, **more):
        found[subject.folder.name] = (
            outcome if isinstance(outcome, Failure) else {(m.metric, m.slice): m for m in outcome}
        )
    return found


def maps_of(saliency: BoxSaliency, subjects: list[Subject], **more) -> dict[str, HeatMaps]:
    kept: dict[str, HeatMaps] = {}

    def keep(subject: Subject, maps: HeatMaps) -> None:
        kept[subject.folder.name] = maps

    run(saliency, subjects, keep=keep, **more)
    return kept


def hcc(numbers: dict[tuple[str, str], Measurement], part: str = "") -> Measurement:
    return numbers["saliency.hcc", part]


@pytest.mark.parametrize("saliency", [CAM, replace(DRISE, label="")], ids=lambda s: s.method)
def test_an_equal_detector_looks_at_the_same_places(saliency: BoxSaliency) -> None:
    found = run(saliency, subjects_of({"base": Squares(), "same": Squares()}))
    for name in ("base", "same"):
        number = hcc(found[name])
        assert number.value == pytest.approx(1, abs=1e-9)
        # Two boxes in each of the nine images that have any.
        assert number.count == 18
        assert "18 boxes of score 0.5 or more in 9 of 12 images" in number.reason
        assert "no counterpart" not in number.reason
        unmatched = found[name]["saliency.unmatched", ""]
        assert (unmatched.value, unmatched.count) == (0, 18)
    assert hcc(found["base"], "control=other-image").value < 0.8


def test_boxes_without_a_counterpart_are_counted_and_leave_the_pairs_alone() -> None:
    models = {"base": Squares(), "less": without_green()}
    kept = maps_of(CAM, subjects_of(models))
    green = kept["base"].explained == 1
    assert 0 < green.sum() < 18
    less = kept["less"]
    np.testing.assert_array_equal(less.has("own"), ~green)
    assert not less.own[green].any()
    assert not less.boxes[green].any()
    np.testing.assert_allclose(less.boxes[~green], kept["base"].boxes[~green])
    found = run(CAM, subjects_of(models))["less"]
    assert found["saliency.unmatched", ""].value == pytest.approx(green.mean())
    assert found["saliency.undefined", ""].value == 0
    assert hcc(found).value == pytest.approx(1)
    assert hcc(found).count == (~green).sum()
    text = f"{green.sum()} of 18 boxes of the baseline have no counterpart"
    assert text in hcc(found).reason


def test_a_detector_that_finds_nothing_has_no_correlation_and_says_why() -> None:
    blind = Squares()
    blind.head.bias.data.fill_(-100)
    found = run(CAM, subjects_of({"base": Squares(), "blind": blind}))["blind"]
    assert found["saliency.unmatched", ""].value == 1
    assert hcc(found).value is None
    assert "no boxes to compare" in hcc(found).reason
    assert "18 of 18 boxes of the baseline have no counterpart" in hcc(found).reason


def test_a_baseline_that_finds_nothing_leaves_nothing_to_explain() -> None:
    blind = Squares()
    blind.head.bias.data.fill_(-100)
    for saliency, name in ((CAM, ""), (DRISE, "[method=drise]")):
        found = run(saliency, subjects_of({"base": blind, "other": Squares()}))
        for model in ("base", "other"):
            for metric in ("hcc", "unmatched"):
                number = found[model][f"saliency.{metric}{name}", ""]
                assert (number.value, number.count) == (None, 0)
                assert "no boxes" in number.reason


def test_a_detector_with_another_look_is_less_alike() -> None:
    found = run(CAM, subjects_of({"base": Squares(), "other": disturbed()}))["other"]
    assert found["saliency.unmatched", ""].value == 0
    assert hcc(found).value < 0.97


def test_boxes_of_one_image_are_resampled_together() -> None:
    kept = maps_of(CAM, subjects_of({"base": Squares()}))["base"]
    assert kept.groups.tolist() == [str(i) for i in np.repeat([0, 1, 2, 4, 5, 6, 8, 9, 10], 2)]
    grouped = replace(scenes(COUNT), groups=np.array(["a", "b", "c"]).repeat(4))
    kept = maps_of(CAM, subjects_of({"base": Squares()}, images=grouped))["base"]
    assert set(kept.groups) == {"a", "b", "c"}


def test_the_twin_is_compared_on_the_boxes_that_it_finds() -> None:
    subjects = subjects_of({"base": Squares(), "twin": without_green()})
    twin = Twin(replace(subjects[1], reference=subjects[1].folder), "other/baseline")
    found = run(CAM, subjects[:1], twin=twin)["base"]
    control = hcc(found, "control=twin")
    assert control.value == pytest.approx(1)
    assert control.count < 18
    assert "have no counterpart" in control.reason
    share = found["saliency.unmatched", "control=twin"]
    assert share.value == pytest.approx(1 - control.count / 18)
    assert hcc(found).count == 18


def test_a_twin_that_is_shown_other_frames_costs_its_control_only() -> None:
    subjects = subjects_of({"base": Squares(), "twin": Squares()})
    other = replace(subjects[1], reference=subjects[1].folder, preprocess=Preprocess(size=(96, 96)))
    found = run(CAM, subjects[:1], twin=Twin(other, "other/baseline"))["base"]
    assert "must be resized as the baseline's are" in hcc(found, "control=twin").reason
    assert hcc(found).value == pytest.approx(1)


def test_weights_drawn_anew_are_a_control() -> None:
    found = run(CAM, subjects_of({"base": Squares()}))["base"]
    control = hcc(found, "control=randomized")
    assert control.value is None or control.value < 0.9
    assert "weights drawn anew" in control.reason


def test_predictions_alone_are_enough_for_drise() -> None:
    models = {"base": Squares(), "other": without_green()}
    subjects = [replace(s, load_twin=None) for s in subjects_of(models)]
    found = run(DRISE, subjects)
    name = "saliency.hcc[method=drise]"
    assert found["base"][name, ""].value == pytest.approx(1)
    assert found["other"][name, ""].value == pytest.approx(1)
    assert found["base"][name, "control=split-half"].value is not None
    absent = found["base"][name, "control=randomized"]
    assert absent.value is None
    assert "must be there as a PyTorch network" in absent.reason
    gradients = run(CAM, subjects)
    assert "use drise" in gradients["base"].message


@pytest.mark.parametrize("saliency", [CAM, DRISE], ids=lambda s: s.method)
def test_maps_do_not_depend_on_the_batch(saliency: BoxSaliency) -> None:
    models = {"base": Squares(), "other": disturbed()}
    saliency = replace(saliency, images=4)
    kept = [maps_of(saliency, subjects_of(models, batch=size)) for size in (1, 3, 4)]
    for name in models:
        for other in kept[1:]:
            first, second = kept[0][name], other[name]
            np.testing.assert_array_equal(first.explained, second.explained)
            np.testing.assert_allclose(first.own, second.own, atol=1e-5)
    again = maps_of(saliency, subjects_of(models, batch=3))
    assert np.array_equal(again["other"].own, kept[1]["other"].own)


def test_known_maps_stand_for_the_baseline() -> None:
    models = {"base": Squares(), "other": disturbed()}
    kept = maps_of(CAM, subjects_of(models))
    both = run(CAM, subjects_of(models))
    later = run(CAM, subjects_of(models)[1:], known=kept["base"])
    assert later["other"] == both["other"]
    assert kept["base"].images.shape == (18, *SHAPE, 3)
    assert kept["other"].images is None
    few = run(replace(CAM, images=4), subjects_of(models)[1:], known=kept["base"])
    assert "must be about the same 4 images" in few["other"].message


def test_a_broken_candidate_costs_no_other() -> None:
    broken = Squares()
    broken.head.bias.data[1] = np.nan
    models = {"base": Squares(), "broken": broken, "lost": RuntimeError("no weights")}
    found = run(CAM, subjects_of({**models, "same": Squares()}))
    assert "output must be finite" in found["broken"].message
    assert found["lost"].message == "no weights"
    assert hcc(found["same"]).value == pytest.approx(1)


def test_a_network_that_is_no_detector_is_refused() -> None:
    subjects = [replace(s, detector=None) for s in subjects_of({"base": Squares()})]
    assert "must be a detector" in run(CAM, subjects)["base"].message


def test_pictures_are_what_the_network_is_shown() -> None:
    images = scenes(4)
    shown = ShownScene.of(Scene(images, CLEAN, None, 3), 4)
    exact = Preprocess(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), size=SHAPE)
    pictures = shown.pictures(exact, np.array([0, 0, 2]))
    np.testing.assert_array_equal(pictures, images.images[np.array([0, 0, 2])])
    larger = shown.pictures(Preprocess(size=(240, 320)), np.array([1]))
    assert larger.shape == (1, 96, 128, 3)


def detections(*rows: tuple[float, float, int]) -> Detections:
    """Boxes of 10 pixels from ``(x, score, class)``."""
    x = np.array([x for x, _, _ in rows], dtype=np.float32).reshape(-1)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    score = np.array([s for _, s, _ in rows], dtype=np.float32)
    return Detections(boxes, score, np.array([c for _, _, c in rows], dtype=np.int64))


def test_the_best_boxes_of_each_image_are_explained() -> None:
    found = [
        detections((0, 0.6, 1), (20, 0.9, 0), (40, 0.7, 1), (60, 0.49, 0)),
        detections(),
        detections((5, 0.5, 0)),
    ]
    boxes, score = best_boxes(found, 0.5, 2)
    assert boxes.image.tolist() == [0, 0, 2]
    assert boxes.boxes[:, 0].tolist() == [20, 40, 5]
    assert boxes.label.tolist() == [0, 1, 0]
    assert score.tolist() == pytest.approx([0.9, 0.7, 0.5])
    assert boxes.place is None


def test_counterparts_are_one_to_one_of_one_class_by_falling_overlap() -> None:
    def boxes(*rows: tuple[float, int]) -> ExplainedBoxes:
        one = detections(*((x, 1.0, c) for x, c in rows))
        return ExplainedBoxes(np.zeros(len(rows), np.int64), one.boxes, one.label)

    mine = boxes((0, 0), (2, 0), (30, 0), (60, 1))
    # Box 1 is nearer to the only detection, the class of the third is another, the last is too far.
    others = detections((1.5, 0.1, 0), (30, 0.9, 1), (64, 0.9, 1))
    assert counterparts(mine, others, 0.5).tolist() == [-1, 0, -1, -1]
    assert counterparts(mine, others, 0.4).tolist() == [-1, 0, -1, 2]
    assert counterparts(mine, detections(), 0.5).tolist() == [-1] * 4
    equal = detections((0, 0.5, 0), (0, 0.5, 0))
    assert counterparts(boxes((0, 0), (0, 0)), equal, 0.5).tolist() == [0, 1]


def test_the_true_class_of_a_box_is_that_of_its_object() -> None:
    images = replace(
        scenes(1),
        target=objects(
            [(0, 0, 10, 10), (0, 0, 9, 10), (30, 0, 60, 40), (20, 20, 30, 30)],
            [1, 0, 0, 1],
            [4],
            crowd=[False, False, True, False],
        ),
    )
    shown = ShownScene.of(Scene(images, CLEAN, None, 1), 1)
    boxes = np.float32(
        [[0, 0, 10, 10], [0, 0, 10, 10], [40, 5, 50, 15], [40, 5, 50, 15], [20, 20, 30, 30]]
    )
    # An object of the own class comes first; in a crowd of the class nobody can tell.
    explained = ExplainedBoxes(np.zeros(5, np.int64), boxes, np.array([0, 1, 0, 1, 0]))
    found = true_classes(explained, shown, Preprocess(size=SHAPE), 0.5)
    assert found.tolist() == [0, 1, UNTOLD, NO_OBJECT, 1]
    # The same in the pixels of a larger input.
    larger = replace(explained, boxes=2 * boxes)
    doubled = Preprocess(size=(2 * SHAPE[0], 2 * SHAPE[1]))
    assert true_classes(larger, shown, doubled, 0.5).tolist() == found.tolist()


def test_settings_that_change_the_maps_are_told() -> None:
    assert CAM.explained == {"boxes": 3, "of_boxes": 1, "overlap": 0.5, "score": 0.5}
    assert DRISE.form == "artifact"
    assert CAM.form == "twin"
