"""Detectors as files: the twin's boxes, integer kernels, and the same again in a new process."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from shrinkproof.artifacts.candidate import write_candidate
from shrinkproof.artifacts.export import export_onnx
from shrinkproof.artifacts.session import Session
from shrinkproof.compressors import COMPRESSORS
from shrinkproof.compressors.recipe import Recipe
from shrinkproof.models.torchvision_detectors import build
from shrinkproof.records import Candidate

from ..one_stage_builder import DETECTORS, awake, context_of, images

RECIPES = {
    "float": [],
    "channels": [("prune.channels", {"ratio": 0.3, "round_to": 2})],
    "int8": [("quantize.static", {"reduce_range": False})],
    "int8 without heads": [("quantize.static", {"reduce_range": False, "exclude": ["head.*"]})],
    "channels levels int8": [
        ("prune.channels", {"ratio": 0.3, "round_to": 2}),
        ("fold", {}),
        ("cluster", {"levels": 16}),
        ("quantize.static", {"reduce_range": False}),
    ],
}

SCRIPT = """
import sys
import numpy as np, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.one_stage_builder import DETECTORS, images
from shrinkproof.artifacts.candidate import load_candidate
from shrinkproof.artifacts.session import Session
torch.set_num_threads(1)
folder = Path(sys.argv[2])
base = DETECTORS[sys.argv[3]]()
module = load_candidate(folder, base)
inputs = images().inputs[:4]
with torch.no_grad():
    outputs = module(inputs).numpy()
exported = Session(folder / "model.onnx")(inputs.numpy())
np.savez(folder / "again.npz", twin=outputs, exported=exported)
"""


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def compressed(module, recipe):
    steps = tuple(COMPRESSORS.create(step, fields) for step, fields in RECIPES[recipe])
    return Recipe(steps=steps).apply(module, context_of(module))


def outputs(module, path):
    """Return what twin and file give for the same images."""
    inputs = images().inputs
    with torch.no_grad():
        return module(inputs).numpy(), Session(path)(inputs.numpy())


def assert_same_boxes(detector, twin, file, *, apart, share=1.0):
    """Compare the surest detections of both; ``share`` of them must have a partner."""
    found = 0
    total = 0
    for one, other in zip(detector.decode(twin), detector.decode(file), strict=True):
        sure = slice(0, 20)
        near = one.label[sure, None] == other.label
        near &= np.abs(one.boxes[sure, None] - other.boxes).max(axis=2) < apart
        near &= np.abs(one.score[sure, None] - other.score) < 0.05
        found += int(near.any(axis=1).sum())
        total += len(near)
    assert total > 100
    assert found >= share * total


@pytest.mark.slow
def test_file_in_floating_point_gives_the_boxes_of_the_twin(tmp_path):
    detector = DETECTORS["retina groups"]()
    module, changes = compressed(detector, "channels")
    path = tmp_path / "model.onnx"
    export_onnx(module, images().inputs[:1], path, changes=changes)
    twin, file = outputs(module, path)
    np.testing.assert_allclose(file, twin, atol=1e-4)
    assert_same_boxes(detector, twin, file, apart=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "recipe", "integers"),
    # Three layers of the trunk, and four of the pyramid; the outputs stay in floating point.
    [("fcos", "int8 without heads", 7), ("ssd", "channels levels int8", 3)],
)
def test_file_in_integers_has_integer_kernels_and_the_boxes_of_the_twin(
    name, recipe, integers, tmp_path
):
    detector = DETECTORS[name]()
    module, changes = compressed(detector, recipe)
    path = tmp_path / "model.onnx"
    report = export_onnx(module, images().inputs[:1], path, changes=changes)
    nodes = Counter(Session(path).nodes())
    assert nodes["QLinearConv"] == integers
    assert not [note for note in report.notes if "not packed" not in note]
    twin, file = outputs(module, path)
    assert_same_boxes(detector, twin, file, apart=1.0, share=0.97)


@pytest.mark.slow
def test_candidate_in_a_new_process(tmp_path):
    detector = DETECTORS["retina"]()
    module, changes = compressed(detector, "channels levels int8")
    write_candidate(
        tmp_path,
        module=module,
        changes=changes,
        candidate=Candidate(key="0123456789abcdef", model="retina", recipe="small"),
        example=images().inputs[:1],
    )
    # Seven layers of trunk and pyramid, and four of each head, which read two maps.
    assert Counter(Session(tmp_path / "model.onnx").nodes())["QLinearConv"] == 7 + 4 * 2 * 2
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", SCRIPT, root, tmp_path, "retina"], check=True)
    again = np.load(tmp_path / "again.npz")
    twin, exported = outputs(module, tmp_path / "model.onnx")
    np.testing.assert_allclose(again["twin"], twin[:4], atol=1e-5)
    np.testing.assert_allclose(again["exported"], exported[:4], atol=1e-5)
    assert_same_boxes(detector, twin, exported, apart=1.0, share=0.97)


@pytest.mark.slow
@pytest.mark.long
def test_published_network_in_integers(tmp_path):
    module = awake(build("ssdlite320_mobilenet_v3_large", 3, (3, 64, 64)))
    small, changes = compressed(module, "int8")
    path = tmp_path / "model.onnx"
    report = export_onnx(small, images().inputs[:1], path, changes=changes)
    nodes = Counter(Session(path).nodes())
    # All but the twelve layers that make the outputs.
    assert nodes["QLinearConv"] == len(report.integers) - 12
    twin, file = outputs(small, path)
    assert_same_boxes(module, twin, file, apart=1.0, share=0.9)
