"""The saliency evaluator on planted networks: equal, broken, blind, of other shape."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shrinkproof.evaluators import onlooker
from shrinkproof.evaluators.onlooker import THUMBNAIL, Shown
from shrinkproof.evaluators.saliency import Saliency, Twin
from shrinkproof.evaluators.subject import Scene, Subject
from shrinkproof.metrics.heatmaps import HeatMaps
from shrinkproof.models.loaded import Preprocess
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Failure
from shrinkproof.testing.toys import tiny_images, tiny_model

GRADCAM = Saliency(images=40, replicates=100)
RISE = Saliency(
    method="rise",
    settings={"masks": 40, "cells": 4, "centered": False},
    images=12,
    replicates=100,
    label="rise",
)


def subjects_of(models: dict[str, Any], reference: str = "base", count: int = 48) -> list[Subject]:
    """One subject per network; what is no network raises when it is loaded."""
    import torch

    scene = Scene(tiny_images(count), CLEAN, None, 16)

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
            preprocess=Preprocess(),
            num_classes=4,
            scene=scene,
            folder=Path(name),
            reference=Path(reference),
            load_twin=load,
        )
        for name in models
    ]


def run(saliency: Saliency, subjects: list[Subject], **more) -> dict[str, Any]:
    """Measurements of all images by metric and slice, or the failure, by name of the network."""
    found: dict[str, Any] = {}
    for subject, outcome in saliency.explain(subjects, **more):
        found[subject.folder.name] = (
            outcome if isinstance(outcome, Failure) else {(m.metric, m.slice): m for m in outcome}
        )
    return found


def hcc(numbers: dict[tuple[str, str], Measurement], part: str = "") -> float | None:
    return numbers["saliency.hcc", part].value


def test_an_equal_network_looks_at_the_same_places() -> None:
    found = run(GRADCAM, subjects_of({"base": tiny_model(), "same": tiny_model()}))
    for name in ("base", "same"):
        for metric in ("hcc", "spearman", "cosine", "ssim", "topk"):
            assert found[name][f"saliency.{metric}", ""].value == pytest.approx(1, abs=1e-9)
    assert abs(hcc(found["base"], "control=randomized")) < 0.8
    assert hcc(found["base"], "control=other-image") < 0.9


def test_another_network_looks_elsewhere_and_so_does_the_twin() -> None:
    models = {"base": tiny_model(), "other": tiny_model(seed=1)}
    subjects = subjects_of(models)
    twin = Twin(replace(subjects[1], reference=subjects[1].folder), "other/baseline")
    found = run(GRADCAM, subjects, twin=twin)
    assert hcc(found["other"]) < 0.9
    # The same network as candidate and as twin, for the same classes: the same number.
    assert hcc(found["base"], "control=twin") == pytest.approx(hcc(found["other"]))


def test_a_blind_network_has_no_correlation_but_a_share_of_undefined_ones() -> None:
    blind = tiny_model()
    blind[-1].weight.data.zero_()
    found = run(GRADCAM, subjects_of({"base": tiny_model(), "blind": blind}))["blind"]
    assert hcc(found) is None
    assert "in each pair a map is constant" in found["saliency.hcc", ""].reason
    assert found["saliency.undefined", ""].value == 1
    assert found["saliency.hcc_zero", ""].value == 0


def test_a_broken_candidate_costs_no_other() -> None:
    models = {"base": tiny_model(), "broken": RuntimeError("no weights"), "same": tiny_model()}
    found = run(GRADCAM, subjects_of(models))
    assert isinstance(found["broken"], Failure)
    assert found["broken"].message == "no weights"
    assert hcc(found["same"]) == pytest.approx(1)


def test_logits_that_are_no_numbers_are_no_looks_either() -> None:
    broken = tiny_model()
    broken[-1].bias.data[2] = np.nan
    for method in ("gradcam", "eigencam", "gradient_x_input", "occlusion"):
        saliency = Saliency(method=method, images=12, replicates=100)
        found = run(saliency, subjects_of({"base": tiny_model(), "broken": broken}))
        assert "logits must be finite" in found["broken"].message
        assert hcc(found["base"]) == pytest.approx(1)
        alone = run(saliency, subjects_of({"base": broken}))
        assert "logits must be finite" in alone["base"].message


def test_a_twin_that_does_not_fit_costs_its_control_only() -> None:
    found = run(GRADCAM, subjects_of({"base": tiny_model()}), twin=Failure("ModelError", "other"))
    absent = found["base"]["saliency.hcc", "control=twin"]
    assert (absent.value, absent.count) == (None, 0)
    assert absent.reason.startswith("no twin control: other")
    assert hcc(found["base"]) == pytest.approx(1)


def test_large_images_come_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown.of(Scene(tiny_images(40), CLEAN, None, 16), 40)
    batches = [len(given) for _, given in shown.inputs(Preprocess())]
    assert batches == [16, 16, 8]
    for pixels, size in ((5 * 16 * 16 + 100, 5), (10, 1)):
        monkeypatch.setattr(onlooker, "PIXELS", pixels)
        parts = [(which, given) for which, given in shown.inputs(Preprocess())]
        assert max(len(given) for _, given in parts) == size
        assert np.concatenate([np.arange(40)[which] for which, _ in parts]).tolist() == [*range(40)]


def test_maps_that_know_no_class_say_so() -> None:
    saliency = Saliency(method="eigencam", images=12, replicates=100)
    numbers = run(saliency, subjects_of({"base": tiny_model()}))["base"]
    assert "eigencam does not look at the class" in numbers["saliency.hcc", ""].reason
    assert (
        "does not look"
        not in run(GRADCAM, subjects_of({"base": tiny_model()}))["base"]["saliency.hcc", ""].reason
    )


def test_a_candidate_without_the_layer_fails_and_names_it() -> None:
    from torch import nn

    shorter = nn.Sequential(*list(tiny_model().children())[:1], nn.AdaptiveAvgPool2d(1))
    shorter = nn.Sequential(*shorter, nn.Flatten(), nn.Linear(8, 4)).eval()
    found = run(GRADCAM, subjects_of({"base": tiny_model(), "shorter": shorter}))
    assert isinstance(found["shorter"], Failure)
    assert "layer" in found["shorter"].message
    assert not isinstance(found["base"], Failure)


def test_without_a_baseline_nobody_can_be_compared() -> None:
    models = {"base": RuntimeError("no weights"), "same": tiny_model()}
    found = run(GRADCAM, subjects_of(models))
    assert "the baseline's heat maps must be there" in found["same"].message
    assert "no weights" in found["same"].message
    alone = run(GRADCAM, subjects_of({"same": tiny_model()}))
    assert "it is not among the candidates" in alone["same"].message


def test_known_maps_stand_for_the_baseline() -> None:
    kept: dict[str, HeatMaps] = {}

    def keep(subject: Subject, maps: HeatMaps) -> None:
        kept[subject.folder.name] = maps

    models = {"base": tiny_model(), "other": tiny_model(seed=1)}
    both = run(GRADCAM, subjects_of(models), keep=keep)
    later = run(GRADCAM, subjects_of(models)[1:], known=kept["base"])
    assert later["other"] == both["other"]
    assert kept["base"].images is not None
    assert kept["other"].images is None
    assert set(kept["base"].maps) == {"own", "randomized"}


def test_known_maps_of_other_images_are_refused() -> None:
    kept: list[HeatMaps] = []
    models = {"base": tiny_model(), "other": tiny_model(seed=1)}
    run(GRADCAM, subjects_of(models), keep=lambda _, maps: kept.append(maps))
    fewer = replace(GRADCAM, images=20)
    found = run(fewer, subjects_of(models)[1:], known=kept[0])
    assert "must be about the same 20 images, got 40 others" in found["other"].message


def test_maps_do_not_depend_on_the_batch() -> None:
    def maps(batch: int) -> np.ndarray:
        kept: list[HeatMaps] = []
        subjects = [
            replace(s, scene=replace(s.scene, batch=batch))
            for s in subjects_of({"base": tiny_model()})
        ]
        run(GRADCAM, subjects, keep=lambda _, found: kept.append(found))
        return kept[0].own

    assert np.allclose(maps(7), maps(40), atol=1e-6)
    assert np.array_equal(maps(7), maps(7))


def test_predictions_alone_are_enough_for_rise_and_its_halves_tell_how_reliable_it_is() -> None:
    subjects = [
        replace(s, load_twin=None)
        for s in subjects_of({"base": tiny_model(), "other": tiny_model(seed=1)})
    ]
    found = run(RISE, subjects)
    name = "saliency.hcc[method=rise]"
    assert found["base"][name, ""].value == pytest.approx(1)
    assert found["other"][name, "control=split-half"].value is not None
    absent = found["base"][name, "control=randomized"]
    assert absent.value is None
    assert "must be there as a PyTorch network" in absent.reason


def test_the_mean_of_the_halves_is_the_map_of_all_masks() -> None:
    from shrinkproof import randomness

    kept: list[HeatMaps] = []
    subjects = subjects_of({"base": tiny_model()})
    run(RISE, subjects, keep=lambda _, maps: kept.append(maps))
    shown = Shown.of(subjects[0].scene, 12)

    class Explained:
        module, layer, black = None, None, np.zeros(3, np.float32)
        predict = staticmethod(subjects[0].predict)

    inputs = Preprocess()(shown.pixels)
    whole = RISE.attribution.maps(
        Explained(),
        inputs,
        kept[0].explained,
        stream=lambda *parts: randomness.stream(0, "saliency", "rise", *parts),
    )
    assert np.allclose(kept[0].own, whole, atol=1e-6)


def test_images_are_a_fixed_subset_with_the_classes_in_proportion() -> None:
    scene = Scene(tiny_images(48), CLEAN, None, 16)
    shown = Shown.of(scene, 20)
    assert np.bincount(shown.target).tolist() == [5, 5, 5, 5]
    assert np.array_equal(Shown.of(scene, 20).index, shown.index)
    assert len(Shown.of(scene, 1000).index) == 48


def test_large_images_are_kept_as_small_pictures() -> None:
    images = tiny_images(2, side=100)
    small = Shown.of(Scene(images, CLEAN, None, 2), 2).thumbnails()
    assert small.shape == (2, THUMBNAIL, THUMBNAIL, 3)
    assert small.mean() == pytest.approx(np.asarray(images.images).mean(), abs=1)
