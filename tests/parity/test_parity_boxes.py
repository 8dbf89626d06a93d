"""Boxes of COCO annotations against pycocotools on a published set."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from shrinkproof.data.splits import load_images

pytestmark = pytest.mark.parity

DATA = Path(
    os.environ.get("SHRINKPROOF_DEV_DATA") or Path(__file__).resolve().parents[2] / "../shared/data"
)


def test_boxes_equal_those_of_pycocotools(capsys: pytest.CaptureFixture[str]) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = DATA / "detection" / "coco128" / "instances.json"
    if not path.is_file():
        pytest.skip(f"no development data: {path} is absent")
    reference = coco.COCO(str(path))
    capsys.readouterr()
    found = load_images("coco:coco128/instances.json", {"study": path.parents[1]})
    ids = sorted(reference.cats)
    for position, image in enumerate(reference.dataset["images"]):
        entries = reference.loadAnns(reference.getAnnIds(imgIds=[image["id"]]))
        one = found.objects[np.array([position])]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)]
        np.testing.assert_array_equal(one.boxes, np.reshape(corners, (-1, 4)))
        assert [ids[label] for label in one.label.tolist()] == [e["category_id"] for e in entries]
        assert one.area.tolist() == [entry["area"] for entry in entries]
