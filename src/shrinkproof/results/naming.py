"""Which candidate of a run a user means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shrinkproof.errors import UnknownNameError, UsageError
from shrinkproof.records import Candidate

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

CHOSEN: Final = "chosen"
"""The word for the candidate that the study has chosen."""


def find_candidate(results: Results, name: str) -> Candidate:
    """Return the candidate that a user means.

    Args:
        results: the run.
        name: its label ``resnet8/int8``, its key, its label without the network where only one
            network has it, or ``chosen``.

    Raises:
        UsageError: nothing is chosen, or several networks have a candidate of that name.
        UnknownNameError: there is none; similar names are suggested.
    """
    if name == CHOSEN:
        name = _chosen(results)
    exact = [c for c in results.candidates if name in (c.label, c.key)]
    found = exact or [c for c in results.candidates if short_name(c) == name]
    if len(found) > 1:
        labels = " or ".join(c.label for c in found)
        raise UsageError(
            f"CANDIDATE: {name!r} must name one candidate, got {len(found)}; write {labels}"
        )
    if not found:
        names = (text for c in results.candidates for text in (c.label, short_name(c)))
        raise UnknownNameError("candidate", name, {CHOSEN, *names})
    return found[0]


def short_name(candidate: Candidate) -> str:
    """Return the label of a candidate without its network."""
    return candidate.label.removeprefix(f"{candidate.model}/")


def _chosen(results: Results) -> str:
    decision = results.decision
    if decision is None:
        raise UsageError(
            f"CANDIDATE: {CHOSEN!r} must have been chosen by rules, got a study without a "
            "'select' section; name the candidate, or add one"
        )
    if decision.chosen is None:
        raise UsageError(
            f"CANDIDATE: {CHOSEN!r} must keep the rules of the study, got none that does; name the "
            "candidate, or see what is in the way with: shrinkproof pareto "
            f"{results.store.path}"
        )
    return decision.chosen
