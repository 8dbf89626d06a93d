"""The certificate: what was promised, who keeps it for sure, and what that does not say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shrinkproof.report import wording
from shrinkproof.report.view import View

Json = Mapping[str, Any]

_STEPS: Final = 10_000
"""Printed bounds are multiples of one over this: 0.01 % or 0.0001."""


@dataclass(frozen=True, slots=True)
class CertifiedLine:
    """One tested candidate.

    Attributes:
        name: of the candidate.
        verdict: ``certified`` or ``not certified``.
        adjusted: p-value after correction for all candidates.
        size: of the tested file.
        sha256: of the tested file.
        promises: measured risk, its upper bound, and where it was measured, of each promise.
        why: why it is, or is not, certified.
        is_certified: whether it keeps every promise for sure.
        is_chosen: whether it is the choice.
    """

    name: str
    verdict: str
    adjusted: str
    size: str
    sha256: str
    promises: tuple[tuple[str, str, str], ...]
    why: str
    is_certified: bool
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate as the template prints it.

    Attributes:
        is_valid: whether anything may be claimed.
        headline: the result in one sentence.
        why: why it is invalid; empty where it is valid.
        choice: what that means for the choice of the study; empty where nothing may be claimed.
        promises: short name and words of each promise.
        lines: tested candidates, the smallest file first.
        facts: images, correction, look, and images needed.
        scope: for what the certificate holds, and for what not.
    """

    is_valid: bool
    headline: str
    why: str
    choice: str
    promises: tuple[tuple[str, str], ...]
    lines: tuple[CertifiedLine, ...]
    facts: tuple[str, ...]
    scope: tuple[str, ...]


def certificate(view: View, found: Json | None) -> Certificate | None:
    """Return the certificate of the page; None where the run has none."""
    if found is None:
        return None
    is_valid = found["status"] == "valid"
    by_name = {promise["name"]: promise for promise in found["promises"]}
    return Certificate(
        is_valid=is_valid,
        headline=_headline(view, found) if is_valid else "This certificate is invalid",
        why="" if is_valid else found["why"],
        choice=_choice(view, found) if is_valid else "",
        promises=tuple((promise["name"], promise["words"]) for promise in found["promises"]),
        lines=tuple(_line(view, row, by_name, is_valid=is_valid) for row in found["candidates"]),
        facts=tuple(_facts(view, found)),
        scope=tuple(found["scope"]),
    )


def _headline(view: View, found: Json) -> str:
    sure = f"{100 * found['confidence']:g}{wording.SPACE}%"
    count, tested = len(found["certified"]), len(found["candidates"])
    if not count:
        return f"Not one of {tested} tested candidates is certified with {sure} confidence"
    smallest = view.short.get(found["smallest"], found["smallest"])
    return f"{count} of {tested} certified with {sure} confidence, the smallest: {smallest}"


def _choice(view: View, found: Json) -> str:
    if view.chosen is None:
        return ""
    name = view.short.get(view.chosen, view.chosen)
    if view.chosen in found["certified"]:
        return f"The choice, {name}, is certified."
    if any(row["label"] == view.chosen for row in found["candidates"]):
        return f"The choice, {name}, is not certified."
    return f"The choice, {name}, was not tested."


def _line(view: View, row: Json, promises: Mapping[str, Json], *, is_valid: bool) -> CertifiedLine:
    is_certified = is_valid and row["certified"]
    return CertifiedLine(
        name=view.short.get(row["label"], row["label"]),
        verdict="certified" if is_certified else "not certified",
        adjusted=wording.p_value(row["adjusted_p"]),
        size=wording.amount("cost.bytes", "bytes", row["bytes"]) if row["bytes"] else "",
        sha256=row["sha256"],
        promises=tuple(_promise(one, promises[one["name"]]) for one in row["promises"]),
        why=row["why"],
        is_certified=is_certified,
        is_chosen=row["label"] == view.chosen,
    )


def _promise(one: Json, promise: Json) -> tuple[str, str, str]:
    loss, worst = promise["loss"], wording.condition_name(one["worst"] or "")
    # The number is the mean over conditions; it is not that of the worst one.
    is_mean = promise["over"] == "mean" and bool(worst)
    return (
        _risk(one["risk"], loss),
        f"at most {_bound(one['upper'], loss)}, {wording.p_value(one['p'])}",
        f"mean; most at {worst}" if is_mean else worst,
    )


def _risk(value: float, loss: str) -> str:
    if loss == "brier":
        return wording.number(value, 4)
    unit = "pp" if loss == "excess_error" else "%"
    signed = loss == "excess_error"
    return wording.number(100 * value, 2, signed=signed) + f"{wording.SPACE}{unit}"


def _bound(value: float, loss: str) -> str:
    """Return an upper bound, rounded up: a smaller number would promise more than was shown."""
    return _risk(math.ceil(round(value * _STEPS, 6)) / _STEPS, loss)


def _facts(view: View, found: Json) -> list[str]:
    images, units, look = found["images"], found["units"], found["look"]
    grouped = f" in {units} independent groups" if units != images else ""
    seen = f"{images} certify images{grouped}"
    if found["status"] != "valid":
        return [f"{seen}. The numbers above are exploration: nothing is shown by them."]
    method = {"holm": "Holm's method", "chains": "chains of fixed order"}
    level = found.get("upper_confidence", 1 - look["error"])
    sure = f"{100 * level:.4g}{wording.SPACE}%"
    facts = [
        f"{seen}; over the candidates the error is controlled by "
        f"{method.get(found['method'], found['method'])}; look {look['number']} of {look['of']} "
        f"with error {look['error']:.3g}. Each bound holds with {sure} confidence for its own "
        "candidate and promise alone; only the verdicts hold for all together."
    ]
    return facts + _needed(view, found["needed"])


def _needed(view: View, needed: Json | None) -> list[str]:
    if needed is None:
        return []
    name = view.short.get(needed["label"], needed["label"])
    if needed["images"] is None:
        why = needed.get("why", "")
        return [f"No number of images is known to certify {name}" + (f": {why}." if why else ".")]
    power = needed.get("power")
    chance = f" with a probability of {100 * power:.0f}{wording.SPACE}%" if power else ""
    split = needed.get("split")
    planned = f", if its losses are those on the {split} images" if split else ""
    return [f"About {needed['images']} images would certify {name}{chance}{planned}."]
