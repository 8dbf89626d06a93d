"""A detector handed over: boxes of the run found again, and what the files say about them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

from shrinkproof.errors import ExportError
from shrinkproof.export import export_candidate
from shrinkproof.export.agreement import SAME_BOXES, STORED
from shrinkproof.export.boxes import Gap, chooses_inside, compared_boxes, threshold_of
from shrinkproof.export.target import folder_of
from shrinkproof.predictions import DetectionPredictions, Objects
from shrinkproof.results import Results
from shrinkproof.results.naming import find_candidate

from ..detection_run import detection_run


def boxes_of(*found, count=2):
    """Predictions of images without objects from (image, x1, y1, x2, y2, score, label)."""
    rows = np.array(found, dtype=np.float64).reshape(-1, 7)
    rows = rows[np.lexsort((-rows[:, 5], rows[:, 0]))]
    none = np.zeros(0)
    return DetectionPredictions(
        boxes=rows[:, 1:5].astype(np.float32),
        score=rows[:, 5].astype(np.float32),
        label=rows[:, 6].astype(np.int64),
        offsets=np.searchsorted(rows[:, 0], np.arange(count + 1)).astype(np.int64),
        objects=Objects(
            boxes=np.zeros((0, 4)),
            label=none.astype(np.int64),
            offsets=np.zeros(count + 1, dtype=np.int64),
            crowd=none.astype(bool),
            area=none,
            sizes=np.full((count, 2), 100),
        ),
        index=np.arange(count),
        num_classes=2,
    )


def agreed(one, two, threshold=0.5, condition="clean", gap=None):
    return compared_boxes(("a", one), ("b", two), condition, threshold=threshold, gap=gap)


HERE = (0, 0, 0, 10, 10, 0.9, 1)


def test_the_same_boxes_agree_bit_for_bit():
    found = agreed(boxes_of(HERE, (1, 5, 5, 9, 9, 0.2, 0)), boxes_of(HERE, (1, 5, 5, 9, 9, 0.2, 0)))
    assert (found.same, found.boxes, found.images) == (2, 2, 2)
    assert found.is_exact
    assert found.is_met
    assert found.rule == f"{SAME_BOXES:.2f} of the boxes in both"


@pytest.mark.parametrize(
    ("other", "same", "difference"),
    [
        ((0, 0, 0, 10, 10, 0.4, 1), 1, 0.5),  # another score, below the threshold: still there
        ((0, 0, 0, 10, 9, 0.9, 1), 2, 0.1),  # an IoU of 0.9
        ((0, 0, 0, 10, 4, 0.9, 1), 0, 0.9),  # an IoU of 0.4 is another box
        ((0, 0, 0, 10, 10, 0.9, 0), 0, 0.9),  # another class
        ((1, 0, 0, 10, 10, 0.9, 1), 0, 0.9),  # another image
    ],
)
def test_a_box_is_had_by_both_where_class_and_place_are_the_same(other, same, difference):
    found = agreed(boxes_of(HERE), boxes_of(other))
    assert found.same == same
    assert found.boxes == (2 if other[5] > 0.5 else 1)
    assert found.difference == pytest.approx(difference, abs=1e-6)
    assert not found.is_exact
    assert found.is_met == (same == found.boxes)


def test_one_form_without_boxes_disagrees_and_two_of_them_agree():
    found = agreed(boxes_of(HERE), boxes_of())
    assert (found.same, found.boxes) == (0, 1)
    with pytest.raises(ExportError, match=r"\(0.95 of the boxes in both\), got 0 of 1 boxes in bo"):
        found.check()
    agreed(boxes_of(), boxes_of()).check()
    agreed(boxes_of(HERE), boxes_of(), condition="fog:3").check()  # only stated


def test_outputs_decide_where_the_same_numbers_are_computed():
    found = agreed(boxes_of(HERE), boxes_of(HERE), gap=Gap(difference=0.2, limit=0.1))
    assert found.rule == "outputs within 0.1"
    with pytest.raises(ExportError, match=r"outputs within 0.1\), got 2 of 2 boxes in both"):
        found.check()


# a run


@pytest.fixture(scope="module", params=["int8", "prune0.5"])
def exported(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / request.param
    return export_candidate(detection_run(), request.param, folder, images=20)


@pytest.mark.slow
def test_the_files_find_the_boxes_of_the_run(exported):
    assert exported.missing == {}
    first = exported.agreement[0]
    assert (first.first, first.second, first.images) == ("model.onnx", STORED, 20)
    assert first.is_exact
    assert first.boxes > 0
    assert {item.first for item in exported.agreement} == {
        *("model.onnx", "weights.safetensors", "model.pt2"),
    }
    is_imitated = exported.candidate.is_imitated
    for item in exported.agreement[1:]:
        decides = item.limit is None
        assert decides == (item.second == STORED or (is_imitated and "model.onnx" in item.second))
    manifest = json.loads((exported.path / "manifest.json").read_text())
    assert manifest["agreement"][0]["boxes"] == first.boxes


@pytest.mark.slow
def test_the_preprocessing_says_how_boxes_come_back(exported):
    found = json.loads((exported.path / "preprocess.json").read_text())
    assert found["resize"]["size"] == [48, 48]
    assert found["resize"]["keep_ratio"] is False
    results = Results.load(detection_run())
    assert found["decode"] == {
        "use": "import:squares:build",
        "class": "squares.Squares",
        "rule": "score >= 0.05, best class of each cell, neighbors suppressed, at most 36 "
        "detections",
        "threshold": threshold_of(results, exported.candidate),
    }
    assert 0 < found["decode"]["threshold"] < 1


@pytest.mark.slow
def test_the_card_names_protocol_operating_point_and_every_number_beside_its_baseline(exported):
    card = (exported.path / "MODEL_CARD.md").read_text()
    _, matter, text = card.split("---\n", 2)
    assert yaml.safe_load(matter)["pipeline_tag"] == "object-detection"
    flowed = " ".join(text.split())
    for part in (
        *(
            "Finding objects of 2 classes",
            "resized to 48 x 48 pixels",
            "The classes are red, green",
        ),
        *("`decode` of `squares.Squares`", "score >= 0.05, best class of each cell"),
        *("chosen on the select split (highest F1,", "| AP ", "| mPC ", "| rPC "),
        *("| Calibration error (D-ECE) ", "| Localization-aware error (LaECE) "),
        *("| Missed objects ", "| Lost boxes ", "| Boxes of another class ", "| Boxes in both "),
        *("COCO matching by falling score; no score threshold; at most 100 detections per class",),
        *("### Corruptions, worst first", "### Worst class", "The largest of 2 numbers is larger"),
        "P is detection.ap; mean over gaussian_noise, fog at severity 3",
        "python example.py IMAGE.npy MODULE:NAME",
    ):
        assert part in flowed, part
    assert "logit" not in flowed
    assert all(len(line) <= 100 for line in text.splitlines() if not line.startswith("|"))


@pytest.mark.slow
def test_the_example_finds_the_boxes_of_the_run(exported, tmp_path):
    results = Results.load(detection_run())
    shard = next(
        shard
        for condition, shard in results.scored(exported.candidate.key, "report").items()
        if condition.is_clean
    )
    stored = results.store.read_boxes(shard.cell.key)
    study = detection_run().parent / "study"
    position = int(np.argmax([stored.score[stored.image == i].max(initial=0) for i in range(42)]))
    from PIL import Image

    pixels = np.asarray(Image.open(study / "images" / f"{stored.index[position]:03}.png"))
    np.save(tmp_path / "image.npy", pixels)
    done = subprocess.run(
        [sys.executable, "example.py", str(tmp_path / "image.npy"), "squares:build"],
        cwd=exported.path,
        env={**os.environ, "PYTHONPATH": str(study)},
        capture_output=True,
        text=True,
        check=True,
    )
    score, label, *corners = done.stdout.splitlines()[0].split()
    row = int(stored.offsets[position])
    assert float(score) == pytest.approx(float(stored.score[row]), abs=1e-4)
    assert label == ("red", "green")[stored.label[row]]
    np.testing.assert_allclose([float(c) for c in corners], stored.boxes[row], atol=0.11)


@pytest.mark.slow
def test_a_candidate_without_an_exported_file_is_refused_with_its_reason(monkeypatch, tmp_path):
    results = Results.load(detection_run())
    candidate = find_candidate(results, "int8")
    folder = tmp_path / "candidates" / candidate.key
    folder.mkdir(parents=True)
    why = {"undefined": {"cost.bytes": "there is no exported file: it cannot be traced"}}
    (folder / "complete.json").write_text(json.dumps(why))
    (folder / "recipe.json").write_text("{}")
    monkeypatch.setattr(type(results.store), "candidate", lambda _, key: folder)
    monkeypatch.setattr(type(results.store), "read_json", lambda _, name: why)
    with pytest.raises(ExportError, match="got none: there is no exported file: it cannot be trac"):
        folder_of(results, candidate)
    onnx = detection_run() / "candidates" / candidate.key / "model.onnx"
    assert not chooses_inside(onnx)
