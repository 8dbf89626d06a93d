"""Conformance of evaluators."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from shrinkproof.evaluators import EVALUATORS
from shrinkproof.protocols import Better, Measurement
from shrinkproof.records import CLEAN, Failure
from shrinkproof.testing.component import check_component, example_settings
from shrinkproof.testing.metric import UNITS
from shrinkproof.testing.toys import tiny_subjects


def check_evaluator(cls: type[Any], **settings: Any) -> None:
    """Check a way of measuring on three tiny candidates, one of them broken.

    Every candidate comes back once, with measurements that are finite numbers or say why not; the
    broken one comes back as a `Failure` and costs the others nothing.

    Args:
        cls: the class.
        settings: values of its fields; required ones that are left out are guessed.

    Raises:
        AssertionError: a rule is broken; the sentence names the class and the rule.
    """
    settings = example_settings(cls, **settings)
    evaluator = check_component(cls, settings, EVALUATORS, ())
    name = cls.__name__
    assert isinstance(cls.exclusive, bool), f"{name}: exclusive must be true or false"
    with tempfile.TemporaryDirectory() as folder:
        subjects = tiny_subjects(Path(folder))
        try:
            results = list(evaluator.measure(subjects, CLEAN))
        except Exception as error:
            raise AssertionError(
                f"{name}: one bad candidate must come back as a Failure, not end the measurement "
                f"of the others with {type(error).__name__}: {error}"
            ) from error
    keys = [subject.key for subject, _ in results]
    expected = [subject.key for subject in subjects]
    assert sorted(keys) == sorted(expected), (
        f"{name}: must yield every candidate once, {expected}, got {keys}"
    )
    for subject, outcome in results:
        if subject.key == subjects[1].key:
            assert isinstance(outcome, Failure), (
                f"{name}: a candidate that cannot be measured must come back as a Failure, "
                f"got {outcome!r}"
            )
            continue
        assert not isinstance(outcome, Failure), (
            f"{name}: a sound candidate must be measured beside a broken one, got {outcome}"
        )
        assert outcome, f"{name}: must measure something"
        for measurement in outcome:
            _check_measurement(name, measurement)


def _check_measurement(name: str, measurement: Any) -> None:
    assert isinstance(measurement, Measurement), (
        f"{name}: must yield Measurements, got {measurement!r}"
    )
    value, what = measurement.value, f"{name}: {measurement.metric}"
    assert value is None or math.isfinite(value), f"{what}: must be finite or None, got {value!r}"
    assert value is not None or measurement.reason, f"{what}: None needs a reason"
    assert measurement.unit in UNITS, f"{what}: unit must be one of {UNITS}, got {measurement.unit}"
    directions = [better.value for better in Better]
    assert measurement.better in directions, f"{what}: better must be one of {directions}"
    basis = ("measured", "derived", "simulated")
    assert measurement.basis in basis, f"{what}: basis must be one of {basis}"
    if measurement.low is not None and measurement.high is not None:
        assert measurement.low <= measurement.high, f"{what}: its interval is upside down"
        assert measurement.interval, f"{what}: an interval must say how it was made"
