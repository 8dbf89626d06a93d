from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from shrinkproof import torchvision_ops
from shrinkproof.torchvision_ops import Status, ensure, nms, quantized_nms


def brute_force(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Suppress by the definition, in float32 with a float64 threshold."""
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        for j in kept:
            wide = max(np.float32(0), min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0]))
            high = max(np.float32(0), min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1]))
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[j], boxes[i])]
            union = areas[0] + areas[1] - wide * high
            if union and float(wide * high / union) > threshold:
                break
        else:
            kept.append(i)
    return kept


@st.composite
def scenes(draw):
    count = draw(st.integers(0, 12))
    # A coarse grid makes equal scores and overlaps that lie exactly on the threshold likely.
    corner = st.integers(0, 5)
    rows = [
        [draw(corner), draw(corner), draw(st.integers(0, 4)), draw(st.integers(0, 4))]
        for _ in range(count)
    ]
    boxes = np.array(rows, dtype=np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([draw(st.integers(0, 3)) for _ in range(count)], dtype=np.float32) / 3
    return boxes, scores


@settings(max_examples=150, deadline=None)
@given(scenes(), st.sampled_from([0.0, 0.1, 0.2, 1 / 3, 0.5, 0.7, 1.0]))
def test_nms_equals_the_definition(scene, threshold):
    boxes, scores = scene
    kept = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
    assert kept.dtype == torch.int64
    assert kept.tolist() == brute_force(boxes, scores, threshold)


def test_nms_by_hand():
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1], [5, 5, 6, 6], [0, 0, 2, 2]])
    scores = torch.tensor([0.5, 0.9, 0.1, 0.5])
    # The overlap of the first two is exactly one half: removed only above the threshold.
    assert nms(boxes, scores, 0.5).tolist() == [1, 0, 2]
    assert nms(boxes, scores, 0.49).tolist() == [1, 2]


def test_nms_of_boxes_without_area():
    boxes = torch.tensor([[1.0, 1, 1, 1], [1, 1, 1, 1]])
    assert nms(boxes, torch.tensor([0.1, 0.2]), 0.0).tolist() == [1, 0]


def test_quantized_nms():
    boxes = torch.tensor([[0, 0, 20, 20], [0, 0, 20, 19], [50, 50, 60, 60]], dtype=torch.uint8)
    scores = torch.tensor([1, 9, 4], dtype=torch.uint8)
    assert quantized_nms(boxes, scores, 0.5).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        (torch.zeros(4), torch.zeros(1), "2d tensor"),
        (torch.zeros(2, 5), torch.zeros(2), "4 elements"),
        (torch.zeros(2, 4), torch.zeros(2, 1), "1d tensor"),
        (torch.zeros(2, 4), torch.zeros(3), "same number"),
        (torch.zeros(2, 4), torch.zeros(2).double(), "same type"),
    ],
)
def test_nms_refuses_wrong_shapes(boxes, scores, message):
    with pytest.raises(RuntimeError, match=message):
        nms(boxes, scores, 0.5)


def run(code: str, *, path: Path | None = None) -> str:
    """Run a program with warnings as errors in a process of its own."""
    start = "" if path is None else f"import sys; sys.path.insert(0, {str(path)!r})\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def status_of_this_machine() -> Status:
    status = ensure()
    if status.mode == "absent":
        pytest.skip(f"torchvision cannot be used here: {status.detail}")
    return status


CHECK = """
import torch, torchvision
from torchvision.ops import batched_nms, nms
assert ensure() is status and status.mode != "absent"
boxes = torch.tensor([[0, 0, 2, 2], [0, 0, 2, 1.9], [5, 5, 6, 6]])
scores = torch.tensor([0.1, 0.2, 0.3])
assert nms(boxes, scores, 0.5).tolist() == [2, 1]
assert batched_nms(boxes, scores, torch.tensor([0, 1, 0]), 0.5).tolist() == [2, 1, 0]
assert batched_nms(boxes, scores, torch.tensor([0, 0, 0]), 0.5).tolist() == [2, 1]
with torch.autocast("cpu"):
    assert nms(boxes, scores, 0.5).tolist() == [2, 1]
many = torch.rand(1500, 4); many[:, 2:] += many[:, :2]
labels = torch.arange(1500) % 3
kept = batched_nms(many, torch.rand(1500), labels, 0.5)
assert 0 < len(kept) < 1500
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "first",
    [
        "",
        "import torch",
        "try:\n    import torchvision\nexcept RuntimeError:\n    pass",
    ],
    ids=["ensure first", "torch first", "torchvision first"],
)
def test_import_orders(first):
    status_of_this_machine()
    program = "from shrinkproof.torchvision_ops import ensure\nstatus = ensure()"
    run(f"{first}\n{program}\n{CHECK}")


def test_networks_build_and_a_detector_runs():
    status_of_this_machine()
    from torchvision.models import resnet18
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    assert resnet18(weights=None).fc.out_features == 1000
    detector = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None).eval()
    with torch.no_grad():
        (found,) = detector([torch.rand(3, 320, 320)])
    assert found["boxes"].shape == (len(found["scores"]), 4)


# torchvision 0.28's own fake kernel uses torch's old name.
@pytest.mark.filterwarnings("ignore:.*create_unbacked_symint.*:FutureWarning")
def test_fake_kernel_gives_the_shape_without_data():
    status_of_this_machine()
    import torchvision  # noqa: F401
    from torch.fx.experimental.proxy_tensor import make_fx

    traced = make_fx(
        lambda b, s: torch.ops.torchvision.nms(b, s, 0.5).new_zeros(2), tracing_mode="symbolic"
    )(torch.rand(3, 4), torch.rand(3))
    assert any("nms" in str(node.target) for node in traced.graph.nodes)


def test_missing_operators_keep_torchvisions_own_message():
    if status_of_this_machine().mode != "python":
        pytest.skip("the compiled operators work here")
    from torchvision.ops import ps_roi_align

    with pytest.raises(RuntimeError, match="custom C"):
        ps_roi_align(torch.rand(1, 4, 4, 4), torch.zeros(1, 5), 2)


def fake_torchvision(folder: Path, body: str = "") -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(body)
    (package / "_C.so").write_bytes(b"")
    return folder


@pytest.mark.slow
def test_nothing_is_defined_where_the_compiled_operators_load(tmp_path):
    folder = fake_torchvision(tmp_path, "raise AssertionError('must not be imported')")
    run(
        """
import sys, torch
library = torch.library.Library("torchvision", "DEF")
loaded = []
def load(path):
    loaded.append(path)
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.impl("nms", lambda dets, scores, iou_threshold: torch.tensor([42]), "CPU")
torch.ops.load_library = load
from shrinkproof import torchvision_ops
status = torchvision_ops.ensure()
assert status.mode == "compiled", status
assert torchvision_ops.ensure() is status
assert len(loaded) == 1 and loaded[0].endswith("_C.so")
assert "library" not in torchvision_ops._STATE
assert "torchvision" not in sys.modules
assert not hasattr(torch.ops.torchvision, "qnms")
assert torch.ops.torchvision.nms(torch.zeros(1, 4), torch.zeros(1), 0.5).tolist() == [42]
""",
        path=folder,
    )


@pytest.mark.slow
def test_operators_that_are_already_there_are_left_alone(tmp_path):
    folder = fake_torchvision(tmp_path)
    run(
        """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
def refuse(path): raise AssertionError("must not be loaded")
torch.ops.load_library = refuse
from shrinkproof import torchvision_ops
assert torchvision_ops.ensure().mode == "compiled"
assert "library" not in torchvision_ops._STATE
""",
        path=folder,
    )


def test_torchvision_that_cannot_be_imported_is_absent(tmp_path):
    folder = fake_torchvision(tmp_path, "raise RuntimeError('needs another torch')")
    run(
        """
import sys
from shrinkproof.torchvision_ops import ensure
status = ensure()
assert status.mode == "absent", status
assert "RuntimeError: needs another torch" in status.detail
assert not [name for name in sys.modules if name.startswith("torchvision")]
""",
        path=folder,
    )


def test_no_torchvision(monkeypatch):
    monkeypatch.setattr(torchvision_ops, "_STATE", {})
    monkeypatch.setattr(torchvision_ops.importlib.util, "find_spec", lambda name: None)
    assert ensure() == Status("absent", "torchvision is not installed")


def test_torchvision_without_an_extension(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision_ops, "_is_defined", lambda name: False)
    assert torchvision_ops._load_compiled(str(tmp_path)) == "torchvision has no compiled operators"
