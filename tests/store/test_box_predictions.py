from dataclasses import replace

import numpy as np

from shrinkproof.store import Store

from ..boxes_builder import detections_of, objects_of


def predictions():
    objects = objects_of([[((0, 0, 9, 9), 1)], []], crowd=[(0, 0)])
    found = detections_of([[((0, 0, 8, 9), 1, 0.75)], [((1, 2, 3, 4), 0, 0.5)]], objects)
    return replace(found, groups=np.array(["x", "y"]), slices={"night": np.array(["no", "yes"])})


def test_boxes_come_back_as_they_were(tmp_path):
    store = Store.create(tmp_path)
    assert not store.has_predictions("k")
    written = predictions()
    store.write_predictions("k", written)
    assert store.has_predictions("k")
    again = store.read_boxes("k")
    for name in ("boxes", "score", "label", "offsets", "index", "groups"):
        assert np.array_equal(getattr(again, name), getattr(written, name)), name
    assert again.objects.tobytes() == written.objects.tobytes()
    assert again.num_classes == 3
    assert again.slices["night"].tolist() == ["no", "yes"]
    assert store.read_logits("k") is None


def test_a_damaged_file_counts_as_missing(tmp_path):
    store = Store.create(tmp_path)
    store.write_predictions("k", predictions())
    file = tmp_path / "predictions" / "k" / "boxes.npz"
    file.write_bytes(file.read_bytes()[:200])
    assert store.read_predictions("k") is None
