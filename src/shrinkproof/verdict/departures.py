"""How a run departs from the published protocol, and what of it forbids a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from shrinkproof.records import SEVERITIES, STANDARD_15, Condition, Json
from shrinkproof.selectors import Selector
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
from shrinkproof.verdict.forms import is_corrupted
from shrinkproof.verdict.methods import Treatment
from shrinkproof.verdict.network import Network, epochs_of
from shrinkproof.verdict.outcomes import ENOUGH

_PROCEDURAL: Final = "procedural"
_ALL_CONDITIONS: Final = frozenset(Condition(c, s) for c in STANDARD_15 for s in SEVERITIES)


@dataclass(frozen=True, slots=True)
class Departures:
    """How a run departs from what the authors did.

    Attributes:
        obstacle: what forbids a comparison; empty where nothing does.
        reasons: what a reader must know.
    """

    obstacle: str = ""
    reasons: tuple[str, ...] = ()


def departures(
    paper: Paper, claim: Claim, test: Test, network: Network, trainings: int
) -> Departures:
    """Return how a run departs from the protocol of a paper, for one test in one network.

    Other data, and images that the network may have learned from, forbid any comparison. Another
    network or another recovery forbid one of numbers alone: a claim about a method should hold in
    other networks, too, and the reasons say which.

    Args:
        paper: whose protocol.
        claim: the claim.
        test: its primary test, or one of its controls.
        network: in which network.
        trainings: behind what was found.
    """
    if network.is_published:
        return Departures(reasons=("numbers measured elsewhere, as published: no images, no test",))
    data = _data(paper, claim, network) or _contamination(network)
    if data:
        return Departures(obstacle=data, reasons=tuple(_notes(network)))
    blocking = list(_blocking(paper, test, network))
    reasons = [*blocking, *_others(paper, claim, test, network, trainings)]
    reasons += _notes(network)
    if claim.is_number and blocking:
        return Departures(f"a number of another protocol: {blocking[0]}", tuple(reasons))
    return Departures(reasons=tuple(reasons))


def _data(paper: Paper, claim: Claim, network: Network) -> str:
    """Return why the images are other ones; empty where they are those of the paper."""
    if claim.task == "detection":
        return ""
    source = _split(network).get("source", "unknown images")
    wanted = paper.protocol.data
    if any(source == name or source.startswith(f"{name}?") for name in wanted):
        return ""
    return f"data: {source} instead of {' or '.join(wanted)}"


def _split(network: Network) -> Json:
    found: Json = network.results.data["splits"].get(network.results.printing, {})
    return found


def _blocking(paper: Paper, test: Test, network: Network) -> Iterator[str]:
    """Yield what makes numbers incomparable."""
    protocol = paper.protocol
    if network.reference not in protocol.networks:
        yield f"network: {network.reference} is not among the published ones"
    if isinstance(test, Threshold):
        return  # nothing was recovered
    trained = sorted({epochs_of(t.repeats[0]) for t in _treatments(test, network)})
    if protocol.epochs is None:
        yield "the published recovery is not known"
    elif trained and trained != [protocol.epochs]:
        shown = " to ".join(dict.fromkeys(f"{n:g}" for n in (trained[0], trained[-1])))
        word = "epoch" if trained == [1] else "epochs"
        yield f"recovery: {shown} {word} instead of {protocol.epochs}"


def _contamination(network: Network) -> str:
    """Return why the network may have learned from the images; empty where it has not."""
    splits = network.results.data.get("contamination", {}).get(network.model, {})
    seen = splits.get(network.results.printing)
    return f"contaminated: {seen}" if seen else ""


def _others(
    paper: Paper, claim: Claim, test: Test, network: Network, trainings: int
) -> Iterator[str]:
    """Yield what else is not as published, or weakens what is said."""
    results = network.results
    count, images = paper.protocol.images, network.reader.images
    if claim.task == "detection":
        yield f"data: {_split(network).get('source', '?')}; those of the paper are not known"
    elif count is not None and images != count:
        yield f"{images} of {count} test images"
    conditions = {c for c in results.settings.conditions if not c.is_clean}
    if is_corrupted([Selector.parse(text) for text in selectors_of(test)]):
        if conditions != _ALL_CONDITIONS and claim.task != "detection":
            yield f"corruption: {len(conditions)} conditions instead of {len(_ALL_CONDITIONS)}"
        told = results.data.get("origins", {}).get(results.printing, {})
        if any(_PROCEDURAL in text for text in told.values()):
            yield "frost is procedural, not the photos of the published sets"
    if results.form == "twin" and any(
        candidate.is_imitated for t in _treatments(test, network) for candidate in t.repeats
    ):
        yield "8-bit numbers are of simulated twins, not of the exported files"
    if claim.unit == "training" and not isinstance(test, Threshold):
        yield from _about_trainings(_treatments(test, network), trainings)


def _about_trainings(treatments: Sequence[Treatment], trainings: int) -> Iterator[str]:
    """Yield what few trainings, and trainings of one original, cannot say."""
    if treatments and not any(treatment.is_trained for treatment in treatments):
        yield "nothing is trained after compression: it is about one trained network"
        return
    if trainings > 1:
        yield "repeats are of the recovery, all of one trained network"
    if 0 < trainings < ENOUGH:
        what = "one training" if trainings == 1 else f"{trainings} trainings"
        yield f"{what}: too few to say something of other trainings"


def _notes(network: Network) -> Iterator[str]:
    """Yield what is said of the whole run."""
    results = network.results
    if results.spec.scale_note:
        yield results.spec.scale_note
    if results.printing != "report":
        yield "measured on images that also decide: temperatures and choices were made on them"
    if network.left_out:
        yield f"left out, predicted elsewhere: {', '.join(network.left_out)}"
    if results.missing:
        yield f"not finished: {sum(results.missing.values())} of {len(results.cells)} cells missing"
    if results.failures:
        yield f"failed: {', '.join(dict.fromkeys(str(f['label']) for f in results.failures))}"


def _treatments(test: Test, network: Network) -> list[Treatment]:
    """Return the recipes that a test is about."""
    return [t for method, levels in _methods(test) for t in network.chosen(method, levels)]


def _methods(test: Test) -> list[tuple[str, tuple[float, float]]]:
    if isinstance(test, Effect):
        return [(test.method, test.levels)]
    if isinstance(test, Joint):
        return [(part.method, part.levels) for part in test.parts]
    if isinstance(test, Between):
        return [(test.effect.method, test.effect.levels)]
    if isinstance(test, FormGap):
        return [(test.method, (0.0, 1.0))]
    return [] if isinstance(test, Threshold) else [("any", (0.0, 1.0))]


def selectors_of(test: Test) -> Sequence[str]:
    """Return the numbers that a test looks at."""
    if isinstance(test, Joint):
        return [part.selector for part in test.parts]
    if isinstance(test, Between):
        return [test.effect.selector]
    if isinstance(test, Correlation):
        return [test.x, test.y]
    if isinstance(test, Front):
        return list(test.objectives)
    if isinstance(test, Table):
        return list(test.selectors.values())
    if isinstance(test, Threshold):
        return [text for text in (test.selector, test.relative_to) if text]
    assert isinstance(test, Effect | FormGap | Count), "these are all tests"
    return [test.selector]
