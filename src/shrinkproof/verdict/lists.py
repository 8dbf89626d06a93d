"""Findings about published lists: tables of numbers, fronts, and how many lie beyond a value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from shrinkproof.decision.pareto import nondominated
from shrinkproof.protocols import Better, Undefined
from shrinkproof.records import Candidate, Form, Json
from shrinkproof.selectors import Selector
from shrinkproof.verdict.claims import Count, Front, Table
from shrinkproof.verdict.contrasts import Change, Contrast, over_trainings
from shrinkproof.verdict.network import Network, bias_in
from shrinkproof.verdict.outcomes import ALPHA, Finding, Verdict, nothing

ORIGINAL: Final = "original"
"""Method of the uncompressed network in published lists."""

_DIGITS: Final = 12


@dataclass(frozen=True, slots=True)
class _Item:
    """A network after a method, or before any.

    Attributes:
        name: ``network/method``, the method as published lists have it, else the recipe.
        network: the network.
        form: in which it is measured.
        repeats: its trainings.
    """

    name: str
    network: Network
    form: Form
    repeats: Sequence[Candidate]


def data_of(network: Network) -> str:
    """Return the data of a network as published lists name them, ``cifar10``."""
    if network.is_published:
        return network.model.partition("-")[0]
    split = network.results.data["splits"].get(network.results.printing, {})
    return str(split.get("source", "")).partition(":")[0]


def _compressed(network: Network) -> list[_Item]:
    """Return all compressed forms of a network, files and their twins."""
    found = []
    for treatment in network.treatments:
        names = [m for m in treatment.methods if m in _LISTED]
        name = names[0] if names else treatment.recipe
        found.append(_Item(f"{network.short}/{name}", network, treatment.form, treatment.repeats))
    return found


_LISTED: Final = frozenset(
    base + end
    for base in ("prune", "cluster", "prune+cluster", "qat", "pqat", "cqat", "pcqat")
    for end in ("", "+int8")
) | {"int8"}


def _contrast(item: _Item, selector: Selector) -> Contrast | Undefined:
    """Return a number of an item as the mean over its trainings."""
    numbers = [item.network.number(c, item.form, selector) for c in item.repeats]
    known = [number for number in numbers if not isinstance(number, Undefined)]
    if not known:
        missing = next(number for number in numbers if isinstance(number, Undefined))
        return Undefined(missing.reason)
    return over_trainings(
        [Change(n, above=bias_in(selector, n)) for n in known], item.network.reader.images
    )


def of_count(count: Count, networks: Sequence[Network], data: str) -> Finding:
    """Return how many compressed networks lie on one side of a value."""
    selector = Selector.parse(count.selector)
    items = [item for network in networks for item in _compressed(network)]
    found = [(item.name, _contrast(item, selector)) for item in items]
    known = [(name, c) for name, c in found if isinstance(c, Contrast)]
    if not known:
        reasons = [c.reason for _, c in found if isinstance(c, Undefined)]
        return nothing(f"nothing measured: {reasons[0] if reasons else 'nothing is compressed'}")
    sign = 1.0 if count.direction == "lower" else -1.0
    limit = count.value
    counted = sum(sign * c.value <= sign * limit for _, c in known)
    surely, possibly = 0, 0
    for _, contrast in known:
        # All intervals hold at once (Bonferroni); without one a network may lie on either side.
        low, high = contrast.interval(1 - 2 * ALPHA / len(known)) or (-math.inf, math.inf)
        ends = sorted((sign * low, sign * high))
        surely += ends[1] <= sign * limit
        possibly += ends[0] <= sign * limit
    published = count.published.get(data)
    same = published == (counted, len(known))
    decided: Verdict = "inconclusive"
    reasons = [f"{counted} of {len(known)}"]
    if published is not None:
        reasons.append(f"published are {published[0]} of {published[1]}")
        if surely == possibly and same:
            decided = "reproduced"
        elif published[1] == len(known) and not surely <= published[0] <= possibly:
            decided = "not reproduced"
    missing = len(found) - len(known)
    if missing:
        reasons.append(f"{missing} compressed networks lack the number")
    return Finding(
        value=float(counted),
        low=float(surely),
        high=float(possibly),
        unit="count",
        published=None if published is None else float(published[0]),
        trainings=min(contrast.trainings for _, contrast in known),
        images=networks[0].reader.images,
        holds=same,
        decided=decided,
        obstacle="" if published is not None else f"nothing was published about {data}",
        reasons=tuple(reasons),
        details=tuple({"network": name, "value": c.value} for name, c in known),
    )


def of_front(front: Front, networks: Sequence[Network], data: str) -> Finding:
    """Return which members of a published front are on ours, all networks together."""
    originals = [_Item(f"{n.short}/{ORIGINAL}", n, n.reader.form, (n.original,)) for n in networks]
    items = [*originals, *(item for network in networks for item in _compressed(network))]
    selectors = [Selector.parse(text) for text in front.objectives]
    names, points, missing = [], [], []
    for item in items:
        row = [_contrast(item, selector) for selector in selectors]
        values = [c.value for c in row if isinstance(c, Contrast)]
        if len(values) < len(row):
            missing.append(item.name)
        else:
            names.append(item.name)
            points.append([round(value, _DIGITS) for value in values])
    if not points:
        return nothing(f"nothing measured: no network has all of {', '.join(front.objectives)}")
    better = [Better.HIGHER if d == "higher" else Better.LOWER for d in front.objectives.values()]
    is_on_N = nondominated(np.array(points), better)
    ours = [name for name, is_on in zip(names, is_on_N, strict=True) if is_on]
    published = front.members.get(data)
    reasons = [f"ours: {', '.join(ours)}"]
    if missing:
        reasons.append(f"left out, without all objectives: {', '.join(missing)}")
    if published is None:
        return nothing(f"nothing was published about {data}", reasons)
    return Finding(
        value=float(len(set(ours) & set(published))),
        unit="count",
        published=float(len(published)),
        trainings=1,
        images=networks[0].reader.images,
        holds=set(ours) == set(published),
        decided="inconclusive",
        reasons=(
            *reasons,
            f"published: {', '.join(published)}",
            "no test of a whole front: shrinkproof pareto says how sure each member is",
        ),
        details=tuple({"network": name, "is_published": name in published} for name in ours),
    )


def of_table(table: Table, network: Network) -> Finding:
    """Return published numbers beside ours, and whether any differs."""
    data = data_of(network)
    items: dict[str, Sequence[Candidate]] = {f"{network.short}/{ORIGINAL}": (network.original,)}
    forms: dict[str, Form] = {f"{network.short}/{ORIGINAL}": network.reader.form}
    for item in _compressed(network):
        items[item.name], forms[item.name] = item.repeats, item.form
    rows: list[Json] = []
    for (of_data, short, method), values in table.rows.items():
        name = f"{short}/{method}"
        if of_data != data or name not in items:
            continue
        item = _Item(name, network, forms[name], items[name])
        for column, published in values.items():
            found = _contrast(item, Selector.parse(table.selectors[column]))
            rows.append(_row(name, column, published, found, _digits(table, column)))
    measured = [row for row in rows if row["ours"] is not None]
    if not measured:
        return nothing("nothing measured: no published row is about this network and its recipes")
    equal = sum(row["is_equal"] for row in measured)
    tests = [row["p"] for row in measured if row["p"] is not None]
    return Finding(
        value=float(equal),
        unit="count",
        published=float(len(measured)),
        trainings=min(row["trainings"] for row in measured),
        images=network.reader.images,
        holds=equal == len(measured),
        p_against=min(1.0, len(tests) * min(tests)) if tests else None,
        reasons=(
            f"{equal} of {len(measured)} numbers are equal as far as they were printed",
            *([f"{len(rows) - len(measured)} are not measured"] * (len(rows) > len(measured))),
        ),
        details=tuple(rows),
    )


def _digits(table: Table, column: str) -> int:
    """Return with how many digits the values of a column were printed: those of the longest."""
    values = [row[column] for row in table.rows.values() if column in row]
    return max(len(f"{value:.12f}".rstrip("0").partition(".")[2]) for value in values)


def _row(
    name: str, column: str, published: float, found: Contrast | Undefined, digits: int
) -> Json:
    """Return a published number beside ours, with the two-sided p-value of their difference."""
    row: Json = {"network": name, "column": column, "published": published}
    if isinstance(found, Undefined):
        return {**row, "ours": None, "p": None, "is_equal": False, "reason": found.reason}
    beyond = found.p_above(published), found.p_below(published)
    tests = [p for p in beyond if p is not None]
    return {
        **row,
        "ours": found.value,
        "trainings": found.trainings,
        "p": min(1.0, 2 * min(tests)) if tests else None,
        "is_equal": abs(found.value - published) <= 0.51 * 10.0**-digits,
    }
