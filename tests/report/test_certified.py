"""The certificate reads as it was made: sure of nothing that it does not name."""

from __future__ import annotations

import copy

import pytest
from synthetic_page import synthetic_page
from test_page import Reader

from shrinkproof.report.page import render

pytestmark = pytest.mark.usefixtures("empty_charts")

PROMISE = {
    "name": "error@every<=3",
    "words": "error at most 20 % under each of 45 corrupted conditions",
    "loss": "error",
    "limit": 0.2,
    "over": "every",
    "conditions": ["fog:1", "fog:3"],
}


def row(label, *, certified, p, risk, upper, why):
    return {
        "label": label,
        "sha256": "0123456789abcdef" * 4,
        "bytes": 163_000,
        "certified": certified,
        "p": p / 2,
        "adjusted_p": p,
        "promises": [
            {
                "name": PROMISE["name"],
                "p": p / 2,
                "risk": risk,
                "upper": upper,
                "worst": "fog:3",
                "units": 3000,
                "method": "binomial",
            }
        ],
        "why": why,
    }


CERTIFICATE = {
    "plan": "abc",
    "status": "valid",
    "why": "1 of 2 tested candidates keep the promise",
    "confidence": 0.95,
    "method": "holm",
    "promises": [PROMISE],
    "candidates": [
        row("resnet20/prune0.5-int8", certified=True, p=0.02, risk=0.181, upper=0.194, why="sure"),
        row("resnet20/int8", certified=False, p=0.3, risk=0.195, upper=0.207, why="not sure"),
    ],
    "certified": ["resnet20/prune0.5-int8"],
    "smallest": "resnet20/prune0.5-int8",
    "images": 3000,
    "units": 1500,
    "needed": {"label": "resnet20/int8", "images": 9100, "split": "select", "why": ""},
    "look": {"number": 1, "of": 2, "error": 0.025, "why": ""},
    "scope": ["Images exchangeable with the certify set.", "No field safety."],
    "made": "2026-11-20T10:00:00+00:00",
}


def text_of(**changes):
    return Reader(
        render(synthetic_page(certificate={**copy.deepcopy(CERTIFICATE), **changes}))
    ).text


def test_a_valid_certificate_names_the_smallest_and_stands_in_the_answer():
    text = text_of()
    assert text.index("1 Answer") < text.index("Certificate") < text.index("2 Trade-off")
    assert "1 of 2 certified with 95 % confidence, the smallest: prune0.5-int8." in text
    assert "Error at most 20 % under each of 45 corrupted conditions" in text
    assert "18.10 %" in text
    assert "at most 19.40 %, p = 0.010" in text
    assert "fog, severity 3" in text
    assert "3000 certify images in 1500 independent groups" in text
    assert "look 1 of 2 with error 0.025" in text
    assert (
        "About 9100 images would certify int8, if its losses are those on the select images."
        in text
    )
    assert "Each bound holds with 97.5 % confidence for its own candidate" in text
    assert "The choice, int8, is not certified." in text
    assert "Scope. Images exchangeable with the certify set. No field safety." in text
    assert "INVALID" not in text


def test_an_invalid_certificate_says_so_first_and_claims_nothing():
    text = text_of(status="invalid", why="look 2 at these images, but 1 look was planned")
    assert "INVALID This certificate is invalid." in text
    assert "Look 2 at these images, but 1 look was planned." in text
    assert "certified with 95 % confidence" not in text
    assert "\N{CHECK MARK} certified" not in text
    assert "The choice, int8" not in text
    assert "The certificate is invalid." in text
    assert "controlled by" not in text
    assert "would certify" not in text


@pytest.mark.parametrize(
    ("upper", "wanted"), [(0.20001, "20.01"), (0.2, "20.00"), (0.19994, "20.00"), (0.07, "7.00")]
)
def test_upper_bounds_are_rounded_up(upper, wanted):
    one = row("resnet20/int8", certified=False, p=0.3, risk=0.05, upper=upper, why="x")
    assert f"at most {wanted} %" in text_of(candidates=[one])


@pytest.mark.parametrize(
    ("label", "wanted"), [("cluster16", "was not tested"), ("int8", "is certified")]
)
def test_what_the_certificate_means_for_the_choice_is_said(label, wanted):
    name = f"resnet20/{label}"
    tested = [row(name, certified=True, p=0.01, risk=0.1, upper=0.3, why="x")]
    text = text_of(candidates=tested, certified=[name], smallest=name)
    assert f"The choice, int8, {wanted}." in text


def test_nobody_certified_is_said():
    candidates = [{**one, "certified": False} for one in CERTIFICATE["candidates"]]
    needed = {"label": "resnet20/int8", "images": None, "split": "select", "why": "too near"}
    text = text_of(certified=[], smallest=None, candidates=candidates, needed=needed)
    assert "Not one of 2 tested candidates is certified with 95 % confidence." in text
    assert "No number of images is known to certify int8: too near." in text


def test_the_risk_of_a_mean_is_not_called_that_of_its_worst_condition():
    text = text_of(promises=[{**PROMISE, "over": "mean"}])
    assert "mean; most at fog, severity 3" in text
    assert "mean; most at" not in text_of()


def test_long_tables_start_folded_so_that_caveats_are_seen():
    rows = [{**CERTIFICATE["candidates"][1], "label": f"net/{place}"} for place in range(20)]
    assert "All 20 tested candidates" in text_of(candidates=rows)
    assert "tested candidates Candidate" not in text_of()


def test_an_untested_candidate_has_gaps_instead_of_numbers():
    untested = {**CERTIFICATE["candidates"][1], "promises": [], "why": "could not be tested: x"}
    text = text_of(candidates=[CERTIFICATE["candidates"][0], untested])
    assert "could not be tested: x" in text


@pytest.mark.parametrize(
    ("loss", "wanted"), [("brier", "0.1810"), ("excess_error", "+18.10 pp"), ("miss", "18.10 %")]
)
def test_risks_are_printed_in_the_unit_of_their_loss(loss, wanted):
    assert wanted in text_of(promises=[{**PROMISE, "loss": loss}])


def test_a_run_without_certificate_has_no_such_box():
    assert "Certificate" not in Reader(render(synthetic_page())).text
