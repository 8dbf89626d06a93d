"""Rules of a gate: what a number, its change or its ratio to a baseline must satisfy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from shrinkproof.errors import UsageError
from shrinkproof.records import Json
from shrinkproof.selectors import Constraint

Kind = Literal["number", "change", "ratio"]

_COMPARED: Final = re.compile(
    r"\s*(?P<kind>change|ratio)\s*\((?P<selector>.*)\)\s*(?P<rest>[<>].*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; parsed, never evaluated as code.

    Attributes:
        kind: ``number`` for the candidate's own number, ``change`` for candidate minus baseline,
            ``ratio`` for candidate divided by baseline.
        constraint: which number, and what it must satisfy.
    """

    kind: Kind
    constraint: Constraint

    def __str__(self) -> str:
        """Return the spelling of the command line."""
        one = self.constraint
        if self.kind == "number":
            return str(one)
        return f"{self.kind}({one.selector}) {one.op} {one.number:.15g}"

    @property
    def is_at_least(self) -> bool:
        """Whether large values satisfy the rule, and not small ones."""
        return self.constraint.op in (">", ">=")

    @classmethod
    def parse(cls, text: str) -> Rule:
        """Return the rule spelled ``change(accuracy.top1@clean) >= -0.01``.

        Raises:
            UsageError: the text is not a rule.
        """
        found = _COMPARED.fullmatch(text)
        kind: Kind = "number"
        bare = text
        if found is not None:
            kind = "change" if found["kind"] == "change" else "ratio"
            bare = f"{found['selector'].strip()} {found['rest']}"
        try:
            return cls(kind, Constraint.parse(bare))
        except ValueError as error:
            raise UsageError(
                f"rule {text!r}: {error}; write for example 'accuracy.top1@clean >= 0.9', "
                "'change(accuracy.top1@clean) >= -0.01' or 'ratio(cost.bytes) <= 1.05'"
            ) from None


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known about the number of a rule.

    Attributes:
        value: the number, the change or the ratio; None where there is none.
        low: lower end of its interval; None where none is stated.
        high: upper end.
        method: how the interval was made; empty for none.
        candidate: the candidate's own number.
        baseline: the baseline's number; None for rules without baseline.
        broken: why the rule is broken whatever the value; empty where the value decides.
        note: what a reader must know about the number.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    candidate: float | None = None
    baseline: float | None = None
    broken: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A rule and what became of it.

    Attributes:
        rule: the rule.
        finding: the number behind it.
        holds: whether the gate lets it pass.
        is_sure: whether the end of the interval satisfies it, not only the value.
        why: why it is broken; empty where it holds.
        seconds: time that finding the number took.
    """

    rule: Rule
    finding: Finding
    holds: bool
    is_sure: bool
    why: str
    seconds: float = 0.0

    @property
    def words(self) -> str:
        """``surely``, ``as a point estimate`` or ``broken``."""
        if not self.holds:
            return "broken"
        return "surely" if self.is_sure else "as a point estimate"

    def as_json(self) -> Json:
        """Return plain JSON values."""
        one = self.rule.constraint
        return {
            "rule": str(self.rule),
            "kind": self.rule.kind,
            "selector": str(one.selector),
            "op": one.op,
            "limit": one.number,
            **asdict(self.finding),
            "holds": self.holds,
            "is_sure": self.is_sure,
            "why": self.why,
        }


def judge(rule: Rule, finding: Finding, *, sure: bool = False, seconds: float = 0.0) -> Outcome:
    """Return whether a number keeps a rule.

    A number that does not exist, is undefined, contaminated or failed never keeps one.

    Args:
        rule: the rule.
        finding: its number.
        sure: demand that the end of the interval keeps it too.
        seconds: time that finding the number took.
    """
    value = finding.value
    if finding.broken or value is None:
        why = finding.broken or finding.note or "there is no such number"
        return Outcome(rule, finding, holds=False, is_sure=False, why=why, seconds=seconds)
    is_met = rule.constraint.is_met(value)
    end = finding.low if rule.is_at_least else finding.high
    is_sure = is_met and end is not None and rule.constraint.is_met(end)
    why = _why(rule, finding, end, is_met=is_met, is_missed=sure and not is_sure)
    return Outcome(rule, finding, holds=not why, is_sure=is_sure, why=why, seconds=seconds)


def _why(rule: Rule, finding: Finding, end: float | None, *, is_met: bool, is_missed: bool) -> str:
    limit = f"{rule.constraint.op} {rule.constraint.number:.15g}"
    if not is_met:
        return f"must be {limit}, got {finding.value:.6g}{_ends(finding)}"
    if not is_missed:
        return ""
    if end is None:
        note = f": {finding.note}" if finding.note else ""
        return f"must surely be {limit}, but {finding.value:.6g} has no interval{note}"
    return f"must surely be {limit}, got {finding.value:.6g}{_ends(finding)}"


def _ends(finding: Finding) -> str:
    if finding.low is None or finding.high is None or finding.low == finding.high:
        return ""
    return f", interval {finding.low:.6g} to {finding.high:.6g}"


@dataclass(frozen=True, slots=True)
class Gate:
    """The outcome of all rules.

    Attributes:
        study: name of the candidate's study.
        run: its run directory.
        against: run directory of the baseline; empty for none.
        candidate: its label; empty where nothing was chosen.
        baseline: label of what it is compared with; empty for nothing.
        split: split that the numbers come from.
        count: images of it.
        level: confidence of the intervals.
        is_sure: whether the ends of the intervals had to keep the rules.
        outcomes: one for each rule, in the order in which they were given.
        look: the look that was written to the ledger; None without one.
        notes: what a reader must know.
    """

    study: str
    run: str
    against: str
    candidate: str
    baseline: str
    split: str
    count: int
    level: float
    is_sure: bool
    outcomes: Sequence[Outcome]
    look: Json | None
    notes: tuple[str, ...]

    @property
    def is_valid(self) -> bool:
        """Whether this look was one of those planned."""
        return self.look is None or bool(self.look["is_valid"])

    @property
    def broken(self) -> tuple[Outcome, ...]:
        """The rules that do not hold."""
        return tuple(outcome for outcome in self.outcomes if not outcome.holds)

    @property
    def is_open(self) -> bool:
        """Whether the candidate may pass: every rule holds, and the look was planned."""
        return self.is_valid and not self.broken

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return {
            "study": self.study,
            "run": self.run,
            "against": self.against,
            "candidate": self.candidate,
            "baseline": self.baseline,
            "split": self.split,
            "count": self.count,
            "level": self.level,
            "is_sure": self.is_sure,
            "is_open": self.is_open,
            "rules": [outcome.as_json() for outcome in self.outcomes],
            "broken": [str(outcome.rule) for outcome in self.broken],
            "look": self.look,
            "notes": list(self.notes),
        }
