"""From the claims of a paper and finished runs to verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from shrinkproof.errors import UsageError
from shrinkproof.statistics import holm
from shrinkproof.verdict.changes import of_between, of_effect, of_form_gap, of_joint
from shrinkproof.verdict.claims import (
    Between,
    Claim,
    Correlation,
    Count,
    Effect,
    FormGap,
    Front,
    Joint,
    Paper,
    Table,
    Test,
    Threshold,
)
from shrinkproof.verdict.departures import departures
from shrinkproof.verdict.lists import data_of, of_count, of_front, of_table
from shrinkproof.verdict.network import Network
from shrinkproof.verdict.numbers import Reader
from shrinkproof.verdict.originals import of_correlation, of_threshold
from shrinkproof.verdict.outcomes import ALPHA, Finding, Outcome, nothing, word_of
from shrinkproof.verdict.wording import words_of

if TYPE_CHECKING:
    from shrinkproof.results import Results

NO_RUN = "no run"


@dataclass(frozen=True, slots=True)
class _Case:
    """One test of a claim in one network, or in all networks of a run."""

    claim: Claim
    test: Test
    is_control: bool
    run: str
    network: str
    finding: Finding
    is_published: bool = False

    @property
    def family(self) -> str:
        return f"{self.claim.family}, controls" if self.is_control else self.claim.family


def judge(paper: Paper, runs: Sequence[Results]) -> tuple[Outcome, ...]:
    """Return the verdicts on all claims of a paper, in its order.

    Tests of a family, over all networks and runs, are corrected together (Holm), each direction by
    itself: what speaks for the claims at 2.5 %, and what speaks against them at 2.5 %.

    Args:
        paper: its claims.
        runs: finished runs; each is asked the claims of its task.

    Raises:
        UsageError: no run, a run that was given twice, or none of a task that the claims are about.
    """
    tasks = dict.fromkeys(claim.task for claim in paper.claims)
    found = [results.spec.task for results in runs]
    if not set(found) & set(tasks):
        raise UsageError(
            f"verdict: the claims of {paper.name} are about {' and '.join(tasks)}, got "
            f"{' and '.join(dict.fromkeys(found)) or 'no run'}; give a run of such networks"
        )
    paths = [results.store.path.resolve() for results in runs]
    twice = next((path for i, path in enumerate(paths) if path in paths[:i]), None)
    if twice is not None:
        raise UsageError(f"verdict: every run must be given once, got {twice} twice; leave one out")
    asked = [(name, _networks(run)) for name, run in zip(_names(runs), runs, strict=True)]
    cases = [case for claim in paper.claims for case in _cases(paper, claim, asked)]
    return tuple(_outcomes(cases))


def _names(runs: Sequence[Results]) -> list[str]:
    """Return a name of each run: that of its study, or of its directory where these repeat."""
    names = [results.spec.full_name for results in runs]
    if len(set(names)) == len(names):
        return names
    return [str(results.store.path) for results in runs]


def _networks(results: Results) -> list[Network]:
    """Return the networks of a run that its plan has candidates of."""
    reader = Reader(results)
    planned = {candidate.model for candidate in results.candidates}
    return [Network(reader, model) for model in results.spec.models if model in planned]


def _cases(
    paper: Paper, claim: Claim, asked: Sequence[tuple[str, Sequence[Network]]]
) -> Iterator[_Case]:
    mine = [(name, found) for name, found in asked if found[0].results.spec.task == claim.task]
    if not mine:
        finding = nothing(f"no run of {claim.task} was given")
        yield _Case(claim, claim.test, is_control=False, run="", network="", finding=finding)
    for name, networks in mine:
        for test, is_control in ((claim.test, False), *((t, True) for t in claim.controls)):
            for network, finding in _findings(paper, claim, test, networks):
                yield _Case(
                    claim, test, is_control, name, network, finding, networks[0].is_published
                )


def _findings(
    paper: Paper, claim: Claim, test: Test, networks: Sequence[Network]
) -> Iterator[tuple[str, Finding]]:
    """Yield what is found, for each network or for all of a run."""
    if isinstance(test, Between | Front | Count):
        groups: dict[str, list[Network]] = {}
        for network in networks:
            groups.setdefault(data_of(network), []).append(network)
        for data, members in groups.items():
            yield (
                f"all on {data}" if len(groups) > 1 else "",
                _departing(paper, claim, test, members, _of_all(test, members, data)),
            )
        return
    for network in networks:
        finding = _of_one(test, network, is_number=claim.is_number)
        yield network.model, _departing(paper, claim, test, [network], finding)


def _of_all(test: Between | Front | Count, networks: Sequence[Network], data: str) -> Finding:
    if isinstance(test, Between):
        return of_between(test, networks)
    if isinstance(test, Front):
        return of_front(test, networks, data)
    return of_count(test, networks, data)


def _of_one(test: Test, network: Network, *, is_number: bool) -> Finding:
    if isinstance(test, Effect):
        return of_effect(test, network, is_number=is_number)
    if isinstance(test, Joint):
        return of_joint(test, network)
    if isinstance(test, Threshold):
        return of_threshold(test, network)
    if isinstance(test, Correlation):
        return of_correlation(test, network)
    if isinstance(test, FormGap):
        return of_form_gap(test, network)
    assert isinstance(test, Table), "these are all tests of one network"
    return of_table(test, network)


def _departing(
    paper: Paper, claim: Claim, test: Test, networks: Sequence[Network], finding: Finding
) -> Finding:
    """Return a finding with how its networks depart from the protocol."""
    found = [departures(paper, claim, test, n, finding.trainings) for n in networks]
    obstacle = next((item.obstacle for item in found if item.obstacle), "")
    reasons = dict.fromkeys(reason for item in found for reason in item.reasons)
    return replace(
        finding,
        obstacle=finding.obstacle or obstacle,
        reasons=(*finding.reasons, *reasons),
    )


def _outcomes(cases: Sequence[_Case]) -> Iterator[Outcome]:
    """Yield the verdicts, with p-values corrected over each family."""
    adjusted = [_adjusted(cases, side) for side in ("p_for", "p_against")]
    for position, case in enumerate(cases):
        wrong, right = adjusted[0][position], adjusted[1][position]
        found = case.finding
        verdict = word_of(found, case.claim.unit, (wrong, right), is_published=case.is_published)
        obstacle = (found.obstacle,) if found.obstacle else ()
        about = _about_margin(found, wrong, right)
        yield Outcome(
            claim=case.claim.name,
            run=case.run,
            network=case.network,
            test=words_of(case.test),
            is_control=case.is_control,
            value=found.value,
            low=found.low,
            high=found.high,
            unit=found.unit,
            published=found.published,
            trainings=found.trainings,
            images=found.images,
            p=found.p_for,
            adjusted_p=wrong,
            p_against=found.p_against,
            adjusted_p_against=right,
            family=case.family,
            verdict=verdict,
            reasons=tuple(dict.fromkeys((*obstacle, *about, *found.reasons))),
            details=found.details,
        )


def _about_margin(found: Finding, wrong: float | None, right: float | None) -> list[str]:
    """Return what the margin makes of it: small improvements, and contradictions by their lack."""
    if right is None or right > ALPHA:
        return []
    if wrong is not None and wrong <= ALPHA:
        return ["in the claimed direction, and shown to be smaller than the margin"]
    return [found.contradicted] if found.contradicted else []


def _adjusted(cases: Sequence[_Case], side: str) -> list[float | None]:
    """Return p-values after Holm's correction over each family of comparable tests."""
    found: list[float | None] = [None] * len(cases)
    families: dict[str, list[int]] = {}
    for position, case in enumerate(cases):
        if getattr(case.finding, side) is not None and not case.finding.obstacle:
            families.setdefault(case.family, []).append(position)
    for members in families.values():
        values = holm([getattr(cases[position].finding, side) for position in members])
        for position, value in zip(members, values.tolist(), strict=True):
            found[position] = value
    return found
