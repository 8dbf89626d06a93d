import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.metrics import METRICS
from shrinkproof.metrics.binned import DebiasedCalibrationError, MaximumCalibrationError
from shrinkproof.metrics.calibration import ExpectedCalibrationError
from shrinkproof.metrics.classwise import AdaptiveCalibrationError
from shrinkproof.metrics.spelling import metric_of, name_of, spelled
from shrinkproof.selectors import Selector


@pytest.mark.parametrize("name", METRICS.builtin)
def test_a_plain_name_is_the_metric_with_its_defaults(name):
    assert metric_of(name) == METRICS.create(name)
    assert spelled(metric_of(name)) == name
    assert name_of(name) == name


@pytest.mark.parametrize(
    ("text", "metric", "spelling"),
    [
        ("calibration.ece[bins=10]", ExpectedCalibrationError(bins=10), None),
        ("calibration.ece[bins=15]", ExpectedCalibrationError(), "calibration.ece"),
        (
            "calibration.ece[ bins = 10 ]",
            ExpectedCalibrationError(bins=10),
            "calibration.ece[bins=10]",
        ),
        ("calibration.ace[threshold=0.01]", AdaptiveCalibrationError(threshold=0.01), None),
        ("calibration.ace[threshold=0]", AdaptiveCalibrationError(), "calibration.ace"),
        (
            'calibration.ece_debiased[binning="equal-width",bins=5]',
            DebiasedCalibrationError(bins=5, binning="equal-width"),
            "calibration.ece_debiased[bins=5,binning=equal-width]",
        ),
        (
            "calibration.ece_max[minimum_count=20, bins=10]",
            MaximumCalibrationError(bins=10, minimum_count=20),
            "calibration.ece_max[bins=10,minimum_count=20]",
        ),
    ],
)
def test_settings_stand_in_brackets(text, metric, spelling):
    assert metric_of(text) == metric
    assert spelled(metric) == (spelling or text)
    assert name_of(text) == metric.name


@given(
    bins=st.integers(1, 1000),
    binning=st.sampled_from(["equal-width", "equal-mass"]),
    threshold=st.floats(0, 1),
)
def test_spelling_and_reading_are_inverse(bins, binning, threshold):
    for metric in (
        DebiasedCalibrationError(bins=bins, binning=binning),
        AdaptiveCalibrationError(ranges=bins, threshold=threshold),
    ):
        assert metric_of(spelled(metric)) == metric
        assert Selector.parse(f"{spelled(metric)}@clean").metric == spelled(metric)


def test_metrics_that_are_no_components_have_their_name_alone():
    class Plain:
        name = "my.metric"

    assert spelled(Plain()) == "my.metric"


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("calibration.ec", UnknownNameError, "did you mean 'calibration.ece'"),
        ("calibration.ec[bins=1]", UnknownNameError, "unknown metric 'calibration.ec'"),
        (
            "calibration.ece[bin=10]",
            UnknownNameError,
            "unknown setting of calibration.ece 'bin'; did you mean 'bins'",
        ),
        ("accuracy.top1[bins=10]", UnknownNameError, "known: none"),
        ("calibration.ece[bins=0]", UsageError, "bins: must be greater than or equal to 1, got 0"),
        ("calibration.ece[bins=1.5]", UsageError, "bins: must be a valid integer, got 1.5"),
        ("calibration.ece[bins=true]", UsageError, "bins: must be a valid integer, got true"),
        ('calibration.ece[bins="10"]', UsageError, 'bins: must be a valid integer, got "10"'),
        (
            "calibration.ece_l2[binning=equal]",
            UsageError,
            "binning: must be 'equal-width' or 'equal-mass', got \"equal\"",
        ),
        ("calibration.ace[threshold=NaN]", UsageError, "threshold: must be a valid number"),
        ("calibration.ece[bins=-]", UsageError, "a value must be a number, true"),
        ("calibration.ece[]", UsageError, "settings must be field=value"),
        ("calibration.ece[bins]", UsageError, "settings must be field=value"),
        ("calibration.ece[bins=1,]", UsageError, "settings must be field=value"),
        ("calibration.ece[bins=1,bins=2]", UsageError, "got bins twice"),
        ("calibration.ece[bins=1", UsageError, "must be 'name' or 'name"),
        ("", UsageError, "must be 'name' or 'name"),
        ("two words", UsageError, "must be 'name' or 'name"),
    ],
)
def test_what_cannot_be_read_is_refused(text, error, message):
    with pytest.raises(error, match=message.replace("[", r"\[")):
        metric_of(text)


def test_every_field_of_every_metric_can_be_spelled():
    for name in METRICS.builtin:
        metric = METRICS.create(name)
        for field in dataclasses.fields(metric):
            value = getattr(metric, field.name)
            assert metric_of(f"{name}[{field.name}={value}]") == metric
