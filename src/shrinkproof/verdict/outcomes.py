"""What is found about a claim in a run, and the word for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final, Literal

from shrinkproof.records import Json
from shrinkproof.verdict.claims import Unit

Verdict = Literal[
    "reproduced",
    "not reproduced",
    "inconclusive",
    "not comparable",
    "consistent, single run",
    "contrary, single run",
    "consistent, 2 runs",
    "contrary, 2 runs",
    "holds in the published numbers",
    "fails in the published numbers",
]

ALPHA: Final = 0.025
"""One-sided error of each direction, after Holm's correction over a family."""

ENOUGH: Final = 3
"""Trainings from which on something is said about a method."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One test of a claim in one network, before other tests are looked at.

    Attributes:
        value: ours; None where there is none.
        low: lower end of its interval; None without one.
        high: upper end.
        unit: ``points`` (a difference of fractions), ``share`` (a fraction), ``relative`` (a
            fraction of what it is compared with), ``slope`` (points from ratio 0 to 1), ``count``
            or empty (a plain number).
        published: the published value in the same unit; None for none.
        trainings: behind the value.
        images: behind the value.
        p_for: p-value of the claim being wrong; None where no test applies.
        p_against: p-value of the claim being right; None where no test applies.
        holds: whether the values alone agree with the claim; None where there are none.
        decided: verdict where it needs no test; empty where tests decide.
        obstacle: why ours cannot be compared; empty where it can.
        contradicted: what a contradiction means here, other than the opposite of the claim.
        reasons: what a reader must know.
        details: values of each level, part or training.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    published: float | None = None
    trainings: int = 0
    images: int = 0
    p_for: float | None = None
    p_against: float | None = None
    holds: bool | None = None
    decided: Verdict | Literal[""] = ""
    obstacle: str = ""
    contradicted: str = ""
    reasons: tuple[str, ...] = ()
    details: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on a claim by one test in one network of one run.

    Attributes:
        claim: name of the claim.
        run: name of the run; empty where no run was about it.
        network: name of the network; empty for all of a run.
        test: what was tested, in words.
        is_control: it decides nothing: the paper lacks it.
        value: ours; None where there is none.
        low: lower end of its 95 % interval, unadjusted.
        high: upper end.
        unit: see `Finding`.
        published: the published value; None where only words were published.
        trainings: behind ours.
        images: behind ours.
        p: one-sided p-value of the claim being wrong.
        adjusted_p: the same after Holm's correction over its family.
        p_against: one-sided p-value of the claim being right.
        adjusted_p_against: the same after Holm's correction.
        family: the tests that are corrected together.
        verdict: what this says.
        reasons: why, and what a reader must know.
        details: values of each level, part or training.
    """

    claim: str
    run: str
    network: str
    test: str
    is_control: bool
    value: float | None
    low: float | None
    high: float | None
    unit: str
    published: float | None
    trainings: int
    images: int
    p: float | None
    adjusted_p: float | None
    p_against: float | None
    adjusted_p_against: float | None
    family: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    details: tuple[Json, ...] = ()

    def as_json(self) -> Json:
        """Return plain JSON values."""
        return asdict(self)


def nothing(obstacle: str, reasons: Sequence[str] = ()) -> Finding:
    """Return that ours cannot be compared, and why."""
    return Finding(obstacle=obstacle, reasons=tuple(reasons))


def word_of(
    found: Finding, unit: Unit, adjusted: tuple[float | None, float | None], *, is_published: bool
) -> Verdict:
    """Return the verdict.

    Args:
        found: the test.
        unit: what the claim generalizes over.
        adjusted: p-values of the claim being wrong and being right, after Holm's correction.
        is_published: whether ours are the authors' own numbers.
    """
    if found.obstacle:
        return "not comparable"
    if is_published and found.holds is not None:
        return "holds in the published numbers" if found.holds else "fails in the published numbers"
    if found.decided:
        return found.decided
    wrong, right = adjusted
    if wrong is not None and wrong <= ALPHA:
        return _supported(found.trainings, unit)
    if right is not None and right <= ALPHA:
        return _contradicted(found.trainings, unit)
    return "inconclusive"


def _supported(trainings: int, unit: Unit) -> Verdict:
    if unit == "image" or trainings >= ENOUGH:
        return "reproduced"
    return "consistent, single run" if trainings < 2 else "consistent, 2 runs"


def _contradicted(trainings: int, unit: Unit) -> Verdict:
    if unit == "image" or trainings >= ENOUGH:
        return "not reproduced"
    return "contrary, single run" if trainings < 2 else "contrary, 2 runs"
