"""Rules of a gate, their verdicts, and the XML that continuous integration reads."""

from __future__ import annotations

import datetime
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shrinkproof.decision.gate import Finding, Gate, Rule, judge
from shrinkproof.decision.junit import as_junit
from shrinkproof.errors import UsageError

MADE = datetime.datetime(2030, 1, 2, 5, 4, 5, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))


@pytest.mark.parametrize(
    ("text", "kind", "spelled"),
    [
        ("accuracy.top1@clean >= 0.90", "number", "accuracy.top1@clean >= 0.9"),
        ("cost.bytes<=1e6", "number", "cost.bytes <= 1000000"),
        (
            " change( accuracy.top1@clean )>=-0.01 ",
            "change",
            "change(accuracy.top1@clean) >= -0.01",
        ),
        ("ratio(cost.bytes) <= 1.05", "ratio", "ratio(cost.bytes) <= 1.05"),
        (
            "change(accuracy.top1{weather=night (wet)}@fog:3) > -0.1",
            "change",
            "change(accuracy.top1{weather=night (wet)}@fog:3) > -0.1",
        ),
        ("change.accuracy.top1@clean >= 0", "number", "change.accuracy.top1@clean >= 0"),
    ],
)
def test_rules_are_read(text: str, kind: str, spelled: str) -> None:
    rule = Rule.parse(text)
    assert (rule.kind, str(rule)) == (kind, spelled)
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy.top1@clean",
        "accuracy.top1@clean == 0.9",
        "change(accuracy.top1@clean) >= nan",
        "difference(accuracy.top1@clean) >= 0",
        "change(accuracy.top1@clean >= 0",
        "change() >= 0",
        "ratio(ratio(cost.bytes)) <= 1",
        "__import__('os').system('true') >= 0",
        "accuracy.top1@clean >= 0.9 or 1 >= 0",
    ],
)
def test_what_is_no_rule_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match=r"rule .*must .*write for example"):
        Rule.parse(text)


@settings(deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["<", "<=", ">", ">="]))
def test_a_rule_survives_being_written(number: float, op: str) -> None:
    rule = Rule.parse(f"ratio(cost.bytes) {op} {number!r}")
    assert rule.constraint.op == op
    assert rule.constraint.number == number


AT_LEAST = Rule.parse("change(accuracy.top1@clean) >= -0.01")
AT_MOST = Rule.parse("ratio(cost.bytes) <= 1.05")


@pytest.mark.parametrize(
    ("rule", "finding", "words", "with_sure"),
    [
        (AT_LEAST, Finding(0.0, -0.005, 0.01), "surely", True),
        (AT_LEAST, Finding(0.0, -0.01, 0.01), "surely", True),
        (AT_LEAST, Finding(0.0, -0.02, 0.01), "as a point estimate", False),
        (AT_LEAST, Finding(0.0), "as a point estimate", False),
        (AT_LEAST, Finding(-0.02, -0.03, 0.01), "broken", False),
        (AT_MOST, Finding(1.0, 0.9, 1.04), "surely", True),
        (AT_MOST, Finding(1.0, 0.9, 1.06), "as a point estimate", False),
        (AT_MOST, Finding(1.1, 0.9, 1.2), "broken", False),
        (AT_MOST, Finding(None, note="it failed"), "broken", False),
        (AT_MOST, Finding(0.5, 0.5, 0.5, broken="contaminated"), "broken", False),
    ],
)
def test_a_rule_holds_surely_by_its_interval_only(
    rule: Rule, finding: Finding, words: str, *, with_sure: bool
) -> None:
    outcome = judge(rule, finding)
    assert outcome.words == words
    assert outcome.holds == (words != "broken") == (not outcome.why)
    assert judge(rule, finding, sure=True).holds is with_sure


def test_why_a_rule_is_broken_has_the_numbers() -> None:
    assert judge(AT_LEAST, Finding(-0.02, -0.03, 0.01)).why == (
        "must be >= -0.01, got -0.02, interval -0.03 to 0.01"
    )
    assert judge(AT_LEAST, Finding(0.0, -0.02, 0.01), sure=True).why == (
        "must surely be >= -0.01, got 0, interval -0.02 to 0.01"
    )
    assert judge(AT_LEAST, Finding(0.0, note="3 images"), sure=True).why == (
        "must surely be >= -0.01, but 0 has no interval: 3 images"
    )
    assert judge(AT_LEAST, Finding(None, note="it failed")).why == "it failed"


def gate_of(*outcomes, look=None) -> Gate:
    return Gate(
        study="st<udy & \"more\" '\x1b'",
        run="runs/new",
        against="runs/old",
        candidate="net/int8",
        baseline="net/base",
        split="report",
        count=60,
        level=0.95,
        is_sure=False,
        outcomes=outcomes,
        look=look,
        notes=("a <note>",),
    )


HOLDS = judge(AT_MOST, Finding(1.0, 0.9, 1.04, "x", 2.0, 2.0), seconds=0.25)
BROKEN = judge(AT_LEAST, Finding(None, broken="no <number> & no \x00 reason"), seconds=0.5)


def test_a_gate_is_open_only_if_all_rules_hold_and_the_look_was_planned() -> None:
    assert gate_of(HOLDS).is_open
    assert not gate_of(HOLDS, BROKEN).is_open
    assert gate_of(HOLDS, BROKEN).broken == (BROKEN,)
    look = {"number": 2, "of": 2, "is_valid": True, "why": ""}
    assert gate_of(HOLDS, look=look).is_open
    assert not gate_of(HOLDS, look={**look, "number": 3, "is_valid": False}).is_open


def test_junit_counts_cases_and_failures_and_escapes_everything() -> None:
    root = ET.fromstring(as_junit(gate_of(HOLDS, BROKEN), MADE))
    suite = root.find("testsuite")
    assert suite is not None
    for element in (root, suite):
        counts = [element.get(name) for name in ("tests", "failures", "errors", "skipped", "time")]
        assert counts == ["2", "1", "0", "0", "0.750"]
    assert suite.get("timestamp") == "2030-01-02T03:04:05"
    good, bad = suite.findall("testcase")
    assert good.find("failure") is None
    assert good.get("classname") == "st<udy & \"more\" '\N{REPLACEMENT CHARACTER}'/net/int8"
    assert (good.get("name"), good.get("time")) == (str(AT_MOST), "0.250")
    failure = bad.find("failure")
    assert failure is not None
    assert failure.get("message") == "no <number> & no \N{REPLACEMENT CHARACTER} reason"
    assert "rule: change(accuracy.top1@clean) >= -0.01" in (failure.text or "")


def test_a_look_is_a_case_of_its_own() -> None:
    look = {"number": 3, "of": 2, "is_valid": False, "why": "look 3, but 2 were planned"}
    root = ET.fromstring(as_junit(gate_of(HOLDS, look=look), MADE))
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert "look 3 of 2 at these images" in [case.get("name") for case in root.iter("testcase")]


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_text_gives_xml_that_can_be_read(study: str, why: str) -> None:
    gate = replace(gate_of(replace(BROKEN, why=why)), study=study, notes=(why,))
    assert ET.fromstring(as_junit(gate, MADE)).get("tests") == "1"
