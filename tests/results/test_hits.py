"""The images hit hardest, with what both networks said of them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from shrinkproof.predictions import ClassificationPredictions
from shrinkproof.records import CLEAN, Condition
from shrinkproof.results.hits import images_hit_hardest, mildest
from shrinkproof.summary.exemplars import EXEMPLARS

FOG = Condition("fog", 3)
LOGITS = {
    "base-clean": [[2.0, 0.0], [0.0, 0.0]],
    "base-fog": [[1.0, 0.0], [0.0, 0.0]],
    "own-clean": [[1.0, 0.0], [0.0, 0.0]],
    "own-fog": [[0.0, 3.0], [0.0, 0.0]],
}


def predictions(key):
    if key not in LOGITS:
        return None
    logits = np.array(LOGITS[key], dtype=np.float32)
    return ClassificationPredictions(logits, np.array([0, 1]), np.array([7, 9]))


def results(**changes):
    def scored(candidate, split):
        assert split == "report"
        places = {CLEAN: "clean", FOG: "fog"}
        return {
            condition: SimpleNamespace(cell=SimpleNamespace(key=f"{candidate}-{name}"))
            for condition, name in places.items()
        }

    image = {"index": 7, "class": "0", "predicted": "1", "count": 2, "under": ["fog:4", "fog:3"]}
    exhibit = {
        "candidate": "net/own", "baseline": "net/baseline", "split": "report", "conditions": 5,
        "images": [image],
    }  # fmt: skip
    values = {
        "summary": SimpleNamespace(
            exhibits=[SimpleNamespace(kind=EXEMPLARS, value=exhibit | changes)]
        ),
        "decision": None,
        "candidates": [
            SimpleNamespace(label="net/baseline", key="base"),
            SimpleNamespace(label="net/own", key="own"),
        ],
        "scored": scored,
        "store": SimpleNamespace(read_logits=predictions),
        "settings": SimpleNamespace(class_names=("0", "1")),
        "pictures": SimpleNamespace(
            find=lambda *shot: b"png" if shot == ("report", 7, CLEAN) else None
        ),
    }
    return SimpleNamespace(**values)


@pytest.fixture(autouse=True)
def _names(monkeypatch):
    monkeypatch.setattr("shrinkproof.results.hits.class_names", lambda *_: ("0", "1"))


def test_both_answers_have_the_softmax_as_confidence():
    [image] = images_hit_hardest(results())["net/own"]
    clean, fog = image.said
    assert (clean.condition, fog.condition) == ("clean", "fog:3")
    assert clean.baseline == ("0", pytest.approx(1 / (1 + np.exp(-2))))
    assert clean.candidate == ("0", pytest.approx(1 / (1 + np.exp(-1))))
    assert fog.candidate == ("1", pytest.approx(1 / (1 + np.exp(-3))))
    assert (image.count, image.conditions) == (2, 5)


def test_pictures_stand_where_they_exist():
    [image] = images_hit_hardest(results())["net/own"]
    assert [said.picture for said in image.said] == ["cG5n", ""]


def test_answers_that_are_not_stored_are_left_out():
    lost = {"index": 8, "class": "0", "predicted": "1", "count": 1, "under": ["snow:1"]}
    [image] = images_hit_hardest(results(images=[lost]))["net/own"]
    assert all(said.baseline is None and said.candidate is None for said in image.said)


def test_candidates_without_such_images_are_left_out():
    assert images_hit_hardest(results(images=[])) == {}


def test_the_mildest_corrupted_condition_stands_beside_clean():
    assert mildest(["clean", "fog:5", "snow:2", "frost:2"]) == (CLEAN, Condition("snow", 2))
    assert mildest(["clean"]) == (CLEAN,)
