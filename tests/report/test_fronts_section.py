"""How sure front and choice are, which fronts there are, and methods at equal reduction."""

from __future__ import annotations

import pytest
from synthetic_page import BYTES, ERROR, synthetic_page
from test_page import Reader

from shrinkproof.decision.fronts import Axis, make_front
from shrinkproof.protocols import Better
from shrinkproof.report.fronts import MATCHED_LIMIT
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
        {"at": 2.0, "first": 0.92, "second": 0.911, "difference": 0.009, "low": 0.002,
         "high": 0.016, "reason": ""},
        {"at": 3.0, "first": 0.90, "second": 0.91, "difference": -0.01, "low": None,
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
    assert f"Smallest differences that matter: {BYTES} 1.02 kB." in text
    assert "not the probability of being best" in text
    assert "trainings were not repeated." in text


def test_members_that_cannot_be_told_apart_name_the_images_needed():
    text = text_of(uncertainty=UNCERTAINTY)
    told = f"not distinguishable in {ERROR} with these images; about 8300 would show a difference"
    assert told in text
    assert f"not distinguishable in {BYTES} with these images: equal sizes" in text
    stated = {**UNCERTAINTY, "tolerances": {ERROR: 0.01}}
    assert f"{told} of 1 point in 80 % of draws" in text_of(uncertainty=stated)


def test_the_answer_says_how_often_the_choice_was_chosen():
    page = synthetic_page()
    chosen = {label: 0.7 for label in page.decision.front}
    text = text_of(uncertainty={**UNCERTAINTY, "front": chosen, "chosen": chosen})
    said = text.index("Chosen on 70 % of 1000 resampled sets of the select images.")
    assert text.index("1 Answer") < said < text.index("Against the baseline:")


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
        f"Top-1 accuracy, clean images, over zipped size; both reached 1.50 {TIMES} to 3.25 {TIMES}"
        in text
    )
    assert f"2.00 {TIMES} 92.0 % 91.1 % +0.90 pp +0.20 to +1.60" in text
    assert f"{MINUS}1.00 pp few images" in text


@pytest.mark.parametrize(
    ("metric", "wanted"), [("accuracy.top1", "better"), ("robustness.mean_error", "worse")]
)
def test_the_better_method_is_the_one_with_more_accuracy_or_less_error(metric, wanted):
    html = render(synthetic_page(exhibits={"matched": [{**MATCHED, "metric": metric}]}))
    assert f'<span class="change {wanted}">+0.90' in html.replace("\xa0", " ")


def test_reductions_beyond_the_limit_are_counted():
    rows = [{**MATCHED["rows"][0], "at": 1.5 + at / 100} for at in range(MATCHED_LIMIT + 2)]
    text = text_of(exhibits={"matched": [{**MATCHED, "rows": rows}]})
    assert "2 more reductions, all larger, are not in this table." in text


def test_what_a_method_does_not_reduce_is_said_once():
    none = {**MATCHED, "rows": [], "overlap": None, "axis": "cost.macs"}
    why = "prune does not reduce cost.macs"
    gaps = [
        {**none, "reason": why, "condition": "corrupted"},
        {**none, "second": "int8", "reason": f"{why}; int8 does not reduce cost.macs"},
    ]
    text = text_of(exhibits={"matched": gaps})
    assert text.count("not reduced by") == 1
    assert "MACs: not reduced by prune, int8." in text


def test_methods_without_common_reduction_say_so():
    none = {**MATCHED, "rows": [], "overlap": None, "reason": "no overlap in cost.bytes_zip"}
    text = text_of(exhibits={"matched": [none, {**none, "split": "select"}]})
    assert "Comparisons that cannot be made prune and cluster: no overlap" in text


def rule(**changes):
    return {
        "rule": "accuracy.top1@clean >= 0.9", "value": 0.93, "low": 0.92, "high": 0.94,
        "is_met": True, "is_sure": False, "reason": "", **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"is_sure": True}, "93.0 % (92.0 % to 94.0 %), kept"),
        (
            {"low": 0.89},
            "93.0 % (89.0 % to 94.0 %), kept, but its interval reaches beyond the limit",
        ),
        ({"is_met": False}, "93.0 % (92.0 % to 94.0 %), broken on these images"),
        (
            {"low": None, "high": None, "reason": "10 images"},
            "93.0 %, kept by the number, which has no interval: 10 images",
        ),
        (
            {"reason": "seen in training"},
            "93.0 % (92.0 % to 94.0 %), "
            "kept by a number that must not be trusted: seen in training",
        ),
    ],
)
def test_rules_are_shown_with_their_numbers_on_the_printed_images(changes, wanted):
    text = text_of(rules=[rule(**changes)])
    assert f"accuracy.top1@clean >= 0.9 : {wanted} " in text


def test_rules_about_parts_of_the_images_may_have_spaces_in_their_names():
    part = "accuracy.recall{class=traffic light}@clean >= 0.9"
    assert f"{part} : 93.0 % (92.0 %" in text_of(rules=[rule(rule=part, is_sure=True)])


def test_a_rule_without_number_is_not_called_kept():
    missing = rule(value=None, low=None, high=None, is_met=False, reason="no images")
    assert "no value, not known: no images" in text_of(rules=[missing])


def test_names_and_reasons_never_become_markup():
    evil = '"><img src=x onerror=alert(1)>'
    front = {**fronts()[0], "name": evil, "notes": [evil]}
    html = render(
        synthetic_page(
            uncertainty={**UNCERTAINTY, "notes": (evil,), "dominated": {INT8: (evil,)}},
            fronts=[front, {**front, "left_out": {CLUSTER: evil}, "members": []}],
            exhibits={"matched": [{**MATCHED, "first": evil, "reason": evil}]},
            rules=[rule(reason=evil, low=None, high=None)],
        )
    )
    assert "<img src=x" not in html
    assert html.count("&gt;&lt;img src=x onerror=alert(1)&gt;") > 6
