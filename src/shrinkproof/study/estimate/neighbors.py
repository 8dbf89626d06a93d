"""What was not probed, from what was: candidates of a family, severities of a corruption."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

import numpy as np

from shrinkproof.records import CLEAN, Condition
from shrinkproof.study.estimate.rates import Looked, Made, Rates
from shrinkproof.study.estimate.work import Explanation, Work


def made_of(work: Work, rates: Rates) -> dict[str, Made]:
    """Return what every candidate takes, by key.

    One that was not probed takes what its place between probed ones of its family says, which
    differ from it in numbers only; without any, the mean of its model, or of everything.
    """
    families: dict[str, list[str]] = {}
    for candidate in work.candidates:
        families.setdefault(work.families[candidate.key], []).append(candidate.key)
    found: dict[str, Made] = {}
    for keys in families.values():
        points = [(float(n), rates.made[key]) for n, key in enumerate(keys) if key in rates.made]
        for place, key in enumerate(keys if points else ()):
            found[key] = between(points, float(place))
    return {c.key: found.get(c.key) or _typical(work, rates, c.model) for c in work.candidates}


def between(points: Sequence[tuple[float, Made]], place: float) -> Made:
    """Return what a candidate takes that stands between probed ones.

    Args:
        points: places of probed candidates, rising, and what they take; at least one.
        place: that of the candidate; beyond the ends it takes what the end does.
    """
    places = [at for at, _ in points]

    def value(of: Callable[[Made], float]) -> float:
        return float(np.interp(place, places, [of(made) for _, made in points]))

    forms = sorted(set.intersection(*(set(made.predict) for _, made in points)))
    columns = {form: [made.predict[form] for _, made in points] for form in forms}
    return Made(
        fixed=value(lambda made: made.fixed),
        epoch=value(lambda made: made.epoch),
        predict={form: float(np.interp(place, places, columns[form])) for form in forms},
        load=value(lambda made: made.load),
        bytes=value(lambda made: made.bytes),
        network=value(lambda made: made.network),
        resident=value(lambda made: made.resident),
    )


def _typical(work: Work, rates: Rates, model: str) -> Made:
    """Return the mean of what was probed of a model, or of all models."""
    mine = [rates.made[c.key] for c in work.candidates if c.model == model and c.key in rates.made]
    some = mine or list(rates.made.values())
    if not some:
        return Made(0.0)
    trained = [made.epoch for made in some if made.epoch]
    forms = sorted({form for made in some for form in made.predict})
    return Made(
        fixed=fmean(made.fixed for made in some),
        epoch=fmean(trained) if trained else 0.0,
        predict={f: fmean(m.predict[f] for m in some if f in m.predict) for f in forms},
        load=fmean(made.load for made in some),
        bytes=fmean(made.bytes for made in some),
        network=fmean(made.network for made in some),
        resident=fmean(made.resident for made in some),
    )


def shown_of(shown: Mapping[str, float], condition: Condition) -> float:
    """Return the seconds per image of a condition.

    One that was not probed takes what its place between other severities of its corruption says;
    without any, the mean of the other corruptions.

    Args:
        shown: condition -> seconds per image.
        condition: which one.
    """
    if str(condition) in shown:
        return shown[str(condition)]
    probed = {Condition.parse(text): seconds for text, seconds in shown.items()}
    known = {c.severity: s for c, s in probed.items() if c.corruption == condition.corruption}
    if known:
        severities = sorted(known)
        seconds = [known[severity] for severity in severities]
        return float(np.interp(condition.severity, severities, seconds))
    others = [seconds for c, seconds in probed.items() if c != CLEAN]
    return fmean(others) if others else 0.0


def looked_of(rates: Rates, each: Explanation) -> Looked:
    """Return what the heat maps of a model take; those of another model where it was not probed."""
    known = [looked for looked in rates.looked if looked.method == each.method]
    mine = [looked for looked in known if looked.model == each.model] or known
    return mine[0] if mine else Looked(each.model, each.method, 0.0, 0.0, 0.0, 0.0, 0.0)
