"""A gate as JUnit XML, which GitLab, Jenkins, Azure and actions for GitHub read."""

from __future__ import annotations

import datetime
import re
import xml.etree.ElementTree as ET
from typing import Final

from shrinkproof.decision.gate import Gate, Outcome

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Letters that XML 1.0 cannot hold, not even escaped."""


def as_junit(gate: Gate, made: datetime.datetime) -> bytes:
    """Return the XML: one suite, one case for each rule, ``failure`` for a broken one.

    A look that was not planned is a broken case of its own, so that every reader shows it.

    Args:
        gate: the outcome.
        made: when, with its time zone; written in UTC.

    Reference: https://github.com/testmoapp/junitxml (the common form of the readers).
    """
    cases = [_case(gate, outcome) for outcome in gate.outcomes]
    if gate.look is not None:
        cases.append(_look(gate))
    totals = {
        "name": _text(f"shrinkproof gate {gate.study}"),
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": "0",
        "time": f"{sum(outcome.seconds for outcome in gate.outcomes):.3f}",
    }
    root = ET.Element("testsuites", totals)
    moment = made.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
    suite = ET.SubElement(root, "testsuite", {**totals, "timestamp": moment})
    properties = ET.SubElement(suite, "properties")
    for name in ("study", "run", "candidate", "against", "baseline", "split", "count", "level"):
        value = _text(str(getattr(gate, name)))
        ET.SubElement(properties, "property", {"name": name, "value": value})
    suite.extend(cases)
    if gate.notes:
        ET.SubElement(suite, "system-out").text = _text("\n".join(gate.notes))
    ET.indent(root)
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _case(gate: Gate, outcome: Outcome) -> ET.Element:
    case = _empty(gate, str(outcome.rule), outcome.seconds)
    if outcome.holds:
        ET.SubElement(case, "system-out").text = _text(_numbers(outcome))
    else:
        _fail(case, outcome.why, _numbers(outcome))
    return case


def _look(gate: Gate) -> ET.Element:
    look = gate.look
    assert look is not None, "the caller has looked"
    case = _empty(gate, f"look {look['number']} of {look['of']} at these images", 0.0)
    if not look["is_valid"]:
        _fail(case, look["why"], look["why"])
    return case


def _empty(gate: Gate, name: str, seconds: float) -> ET.Element:
    where = f"{gate.study}/{gate.candidate or 'nothing chosen'}"
    fields = {"classname": _text(where), "name": _text(name), "time": f"{seconds:.3f}"}
    return ET.Element("testcase", fields)


def _fail(case: ET.Element, message: str, text: str) -> None:
    failure = ET.SubElement(case, "failure", {"message": _text(message), "type": "broken rule"})
    failure.text = _text(text)


def _numbers(outcome: Outcome) -> str:
    """Return everything that is known about the number of a rule, one line each."""
    found = outcome.finding
    lines = [f"rule: {outcome.rule}", f"holds: {outcome.words}"]
    for name in ("value", "candidate", "baseline"):
        number = getattr(found, name)
        if number is not None:
            lines.append(f"{name}: {number:.6g}")
    if found.low is not None and found.high is not None:
        lines.append(f"interval: {found.low:.6g} to {found.high:.6g} ({found.method})")
    lines += [
        f"{name}: {text}" for name, text in (("why", outcome.why), ("note", found.note)) if text
    ]
    return "\n".join(lines)


def _text(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
