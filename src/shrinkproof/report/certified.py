"""The certificate: what was promised, who keeps it for sure, and what that does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shrinkproof.report import wording
from shrinkproof.report.view import View

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CertifiedLine:
    """One tested candidate.

    Attributes:
        name: of the candidate.
        verdict: ``certified`` or ``not certified``.
        adjusted: p-value after correction for all candidates.
        size: of the tested file.
        sha256: of the tested file.
        promises: measured risk, its upper bound, and the worst condition, of each promise.
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
        why: what stands behind the status.
        promises: short name and words of each promise.
        lines: tested candidates, the smallest file first.
        facts: images, correction, look, and images needed.
        scope: for what the certificate holds, and for what not.
    """

    is_valid: bool
    headline: str
    why: str
    promises: tuple[tuple[str, str], ...]
    lines: tuple[CertifiedLine, ...]
    facts: tuple[str, ...]
    scope: tuple[str, ...]


def certificate(view: View, found: Json | None) -> Certificate | None:
    """Return the certificate of the page; None where the run has none."""
    if found is None:
        return None
    is_valid = found["status"] == "valid"
    losses = {promise["name"]: promise["loss"] for promise in found["promises"]}
    return Certificate(
        is_valid=is_valid,
        headline=_headline(view, found) if is_valid else "This certificate is invalid",
        why=found["why"],
        promises=tuple((promise["name"], promise["words"]) for promise in found["promises"]),
        lines=tuple(_line(view, row, losses) for row in found["candidates"]),
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


def _line(view: View, row: Json, losses: Mapping[str, str]) -> CertifiedLine:
    return CertifiedLine(
        name=view.short.get(row["label"], row["label"]),
        verdict="certified" if row["certified"] else "not certified",
        adjusted=wording.p_value(row["adjusted_p"]),
        size=wording.amount("cost.bytes", "bytes", row["bytes"]) if row["bytes"] else "",
        sha256=row["sha256"],
        promises=tuple(_promise(one, losses[one["name"]]) for one in row["promises"]),
        why=row["why"],
        is_certified=row["certified"],
        is_chosen=row["label"] == view.chosen,
    )


def _promise(one: Json, loss: str) -> tuple[str, str, str]:
    return (
        _risk(one["risk"], loss),
        f"at most {_risk(one['upper'], loss)}, {wording.p_value(one['p'])}",
        wording.condition_name(one["worst"] or ""),
    )


def _risk(value: float, loss: str) -> str:
    if loss == "brier":
        return wording.number(value, 4)
    unit = "pp" if loss == "excess_error" else "%"
    signed = loss == "excess_error"
    return wording.number(100 * value, 2, signed=signed) + f"{wording.SPACE}{unit}"


def _facts(view: View, found: Json) -> list[str]:
    images, units = found["images"], found["units"]
    grouped = f" in {units} independent groups" if units != images else ""
    look = found["look"]
    method = {"holm": "Holm's method", "chains": "chains of fixed order"}
    facts = [
        f"{images} certify images{grouped}; over the candidates the error is "
        f"controlled by {method.get(found['method'], found['method'])}; look {look['number']} of "
        f"{look['of']} with error {look['error']:.3g}."
    ]
    return facts + _needed(view, found["needed"])


def _needed(view: View, needed: Json | None) -> list[str]:
    if needed is None:
        return []
    name = view.short.get(needed["label"], needed["label"])
    if needed["images"] is None:
        why = needed.get("why", "")
        return [f"No number of images would certify {name}" + (f": {why}." if why else ".")]
    return [f"About {needed['images']} images would be needed to certify {name}."]
