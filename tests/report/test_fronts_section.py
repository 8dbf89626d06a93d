"""How sure front and choice are, which fronts there are, and methods at equal reduction."""

from __future__ import annotations

import pytest
from synthetic_page import BYTES, ERROR, synthetic_page
from test_page import Reader

from shrinkproof.decision.fronts import Axis, make_front
from shrinkproof.protocols import Better
from shrinkproof.report.page import render

pytestmark = pytest.mark.usefixtures("empty_charts")

TIMES, MINUS = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}"
INT8, CLUSTER = "resnet20/int8", "resnet20/cluster16"

UNCERTAINTY = {
    "split": "select",
    "replicates": 1000,
    "level": 0.95,
    "tolerances": {ERROR: 0.0, BYTES: 1024.0},
    "front": {INT8: 0.004, CLUSTER: 0.62},
    "chosen": {INT8: 0.0, CLUSTER: 0.995},
    "dominated": {INT8: (CLUSTER,)},
    "indistinct": (
        {"label": CLUSTER, "objective": ERROR, "images_needed": 8300, "why": ""},
        {"label": CLUSTER, "objective": BYTES, "images_needed": None, "why": "equal sizes"},
    ),
    "notes": ("trainings were not repeated",),
    "reason": "",
}
MATCHED = {
    "model": "resnet20",
    "split": "report",
    "axis": "cost.bytes_zip",
    "metric": "accuracy.top1",
    "condition": "clean",
    "first": "prune",
    "second": "cluster",
    "overlap": [1.5, 3.25],
    "reason": "",
    "rows": [
        {"at": 2.0, "first": 0.08, "second": 0.071, "difference": 0.009, "low": 0.002,
         "high": 0.016, "reason": ""},
        {"at": 3.0, "first": 0.09, "second": 0.1, "difference": -0.01, "low": None,
         "high": None, "reason": "few images"},
    ],
}  # fmt: skip


def text_of(**changes):
    return Reader(render(synthetic_page(**changes))).text.replace("\xa0", " ")


def test_shares_are_never_rounded_to_certainty():
    text = text_of(uncertainty=UNCERTAINTY)
    assert "int8 < 1 % 0 % cluster16" in text
    assert "cluster16 62 % > 99 %" in text
    assert "Share of 1000 resampled sets of the select images" in text
    assert f"Differences up to these count as none: {BYTES} 1024." in text
    assert "trainings were not repeated." in text


def test_members_that_cannot_be_told_apart_name_the_images_needed():
    text = text_of(uncertainty=UNCERTAINTY)
    assert f"not distinguishable in {ERROR}: about 8300 images needed" in text
    assert f"not distinguishable in {BYTES}: equal sizes" in text


def test_the_reason_stands_where_nothing_is_known():
    text = text_of(uncertainty={**UNCERTAINTY, "reason": "there are no predictions"})
    assert "How sure front and choice are is not known: there are no predictions." in text


def fronts():
    axes = [Axis(ERROR, Better.LOWER), Axis(BYTES, Better.LOWER)]
    values = {
        INT8: {ERROR: 0.2, BYTES: 300.0},
        CLUSTER: {ERROR: 0.1, BYTES: 100.0},
        "resnet20/baseline": {ERROR: 0.05, BYTES: 900.0},
    }
    one = make_front(values, axes, name="resnet20, on select", model="resnet20")
    pooled = make_front(
        values, axes, name="across 2 networks", basis="relative", notes=["ratios hide baselines"]
    )
    return [one.as_json(), pooled.as_json()]


def test_one_front_says_why_others_are_dominated():
    text = text_of(fronts=fronts()[:1])
    assert "Why the others are dominated" in text
    assert "Fronts within and across networks" not in text


def test_several_fronts_say_which_is_which():
    text = text_of(fronts=fronts())
    assert "Fronts within and across networks" in text
    assert "across 2 networks" in text
    assert "Ratios hide baselines." in text
    assert "baseline on the front on the front" in text
    assert "int8 rank 1 rank 1" in text


def test_methods_are_compared_at_equal_reduction_with_intervals():
    text = text_of(exhibits={"matched": [MATCHED]})
    assert "prune and cluster" in text
    assert (
        f"Top-1 error, clean images, over zipped size; both reached 1.50 {TIMES} to 3.25 {TIMES}"
        in text
    )
    assert f"2.00 {TIMES} 8.0 % 7.1 % +0.90 pp +0.20 to +1.60" in text
    assert f"{MINUS}1.00 pp few images" in text


def test_methods_without_common_reduction_say_so():
    none = {**MATCHED, "rows": [], "overlap": None, "reason": "no overlap in cost.bytes_zip"}
    text = text_of(exhibits={"matched": [none, {**none, "split": "select"}]})
    assert "1 comparisons that cannot be made prune and cluster: no overlap" in text


@pytest.mark.parametrize(
    ("is_met", "is_sure", "wanted"),
    [
        (True, True, "kept"),
        (True, False, "kept, but its interval reaches beyond the limit"),
        (False, False, "broken on these images"),
    ],
)
def test_rules_are_shown_with_their_numbers_on_the_printed_images(is_met, is_sure, wanted):
    rule = {
        "rule": "accuracy.top1@clean >= 0.9", "value": 0.93, "low": 0.92, "high": 0.94,
        "is_met": is_met, "is_sure": is_sure, "reason": "",
    }  # fmt: skip
    text = text_of(rules=[rule])
    assert f"accuracy.top1@clean >= 0.9 : 93.0 % (92.0 % to 94.0 %), {wanted}" in text


def test_a_rule_without_number_is_not_called_kept():
    rule = {
        "rule": "accuracy.top1@clean >= 0.9", "value": None, "low": None, "high": None,
        "is_met": False, "is_sure": False, "reason": "no images",
    }  # fmt: skip
    assert "no value, not known: no images" in text_of(rules=[rule])
