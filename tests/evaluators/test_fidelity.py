from dataclasses import replace

import numpy as np
import pytest

from shrinkproof.artifacts.forward import Forward
from shrinkproof.evaluators.fidelity import AGREEMENT, DIFFERENCE, Fidelity
from shrinkproof.records import CLEAN, Failure
from shrinkproof.testing import tiny_model
from shrinkproof.testing.toys import tiny_subjects


@pytest.fixture
def subject(tmp_path):
    return replace(tiny_subjects(tmp_path)[0], load_twin=lambda folder: tiny_model())


def _numbers(subject, **settings):
    ((_, found),) = Fidelity(**settings).measure([subject], CLEAN)
    assert not isinstance(found, Failure), found
    return {m.metric: m for m in found}


def test_float32_is_itself(subject):
    found = _numbers(replace(subject, predict=Forward(tiny_model())))
    assert (found[AGREEMENT].value, found[DIFFERENCE].value) == (1.0, 0.0)
    assert found[AGREEMENT].count == len(subject.scene.images) == 48


def test_known_changes_are_found(subject):
    exact = Forward(tiny_model())
    largest = []

    def predict(inputs):
        logits = exact(inputs)
        largest.append(np.abs(logits).max())
        changed = logits.copy()
        changed[0] = -np.eye(4, dtype=np.float32)[logits[0].argmax()] * 100
        return changed

    found = _numbers(replace(subject, predict=predict), images=16)
    assert found[AGREEMENT].value == pytest.approx(15 / 16)
    assert found[AGREEMENT].count == 16
    assert found[DIFFERENCE].value >= (100 - max(largest)) / max(largest)


def test_bfloat16_is_close(subject):
    found = _numbers(replace(subject, predict=Forward(tiny_model(), precision="bfloat16")))
    assert 0 < found[DIFFERENCE].value < 0.03


def test_outputs_that_are_not_finite_have_no_difference(subject):
    found = _numbers(replace(subject, predict=lambda inputs: np.full((len(inputs), 4), np.inf)))
    assert found[DIFFERENCE].value is None
    assert "not finite" in found[DIFFERENCE].reason


def test_a_detector_has_no_class_of_an_image(subject):
    found = _numbers(replace(subject, predict=Forward(tiny_model()), detector=object()))
    assert [*found] == [DIFFERENCE]


def test_a_candidate_without_a_network_is_a_failure(subject):
    ((_, found),) = Fidelity().measure([replace(subject, load_twin=None)], CLEAN)
    assert isinstance(found, Failure)
    assert "must have a PyTorch form" in found.message
