"""Findings as plain sentences; what may be chance is said to be that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from shrinkproof.diagnosis.breakdown import Breakdown
from shrinkproof.diagnosis.layers import BYPASSED, LayerEffects
from shrinkproof.diagnosis.paired import Loss
from shrinkproof.diagnosis.rules import MarginFinding, RuleFinding
from shrinkproof.selectors import Constraint

_FELT: Final = 0.9
"""A rounding is named where without it the candidate moves at most so much of what it does."""

_COUNTED: Final = 1000
"""Numbers from here on are printed without a fraction."""

_WHOLE: Final = 1.005
"""Shares that add up to more, rounded to percent, hide what was gained elsewhere."""

_NAMED: Final = 3
"""Rows of a table that a sentence names."""


def rules_in_words(
    checked: Sequence[RuleFinding], rules: Sequence[Constraint], printing: str
) -> Iterator[str]:
    """Yield whether each rule is kept, and who else breaks the broken ones."""
    if not checked:
        yield "The study has no rules (select.require); here is what compression changed."
    for found in checked:
        yield _rule(found)
        if found.split in ("", printing) and found.value is not None and not found.is_met:
            rule = next(rule for rule in rules if str(rule) == found.rule)
            yield from _others(found, rule)


def _rule(found: RuleFinding) -> str:
    place = f" on {found.split}" if found.split else ""
    if found.value is None:
        return f"{found.rule} has no number{place}: {found.reason}."
    interval = ""
    if found.low is not None and found.high is not None:
        interval = f" ({_number(found.low)} to {_number(found.high)})"
    verdict = "kept" if found.is_met else "broken"
    doubt = ""
    if interval and not found.is_sure:
        doubt = "; its 95 % interval has the limit inside, so this may be chance"
    return f"{found.rule} is {verdict}{place}: {_number(found.value)}{interval}{doubt}."


def _others(found: RuleFinding, rule: Constraint) -> Iterator[str]:
    is_of_images = bool(found.split)
    if found.baseline is not None:
        value = _number(found.baseline)
        if rule.is_met(found.baseline):
            yield f"The baseline keeps it: {value}."
        elif is_of_images:
            yield f"The baseline breaks it, too: {value}. Compression alone is not the cause."
        else:
            yield f"The baseline has {value}: it was compressed too little."
    if found.control is not None and is_of_images:
        value = _number(found.control)
        who = "The control, trained alike without compression,"
        if rule.is_met(found.control):
            yield f"{who} keeps it: {value}."
        else:
            yield f"{who} breaks it, too: {value}. The training has its part."


def _number(value: float) -> str:
    """Return a number with four digits, or all digits where it counts something."""
    return f"{value:,.0f}" if abs(value) >= _COUNTED else f"{value:.4g}"


def margins_in_words(margins: Sequence[MarginFinding]) -> Iterator[str]:
    """Yield which metrics are not shown to be kept."""
    for found in margins:
        p = "" if found.p is None else f" (p = {found.p:.2g})"
        yield (
            f"{found.metric} under {found.condition} is not shown to be kept within "
            f"{found.margin:g}{p}."
        )


def scope_in_words(scope: Breakdown) -> Iterator[str]:
    """Yield what is behind the errors of a scope; only what is more than chance is a cause."""
    total, place = scope.total, _place(scope)
    wrong = f"{place}, {_percent(total.value)} of the answers are wrong"
    before = f"the baseline's {_percent(total.baseline)}"
    if total.is_shown:
        yield f"{wrong}, {_points(total)} than {before}{_interval(total)}."
    elif not scope.negative and not scope.positive:
        yield f"{wrong}, the same ones as {before}."
    else:
        yield (
            f"{wrong}, {_points(total)} than {before}{_interval(total)}: no difference is shown "
            f"with {total.images} images."
        )
    for rows, noun in (
        (scope.groups, "group of corruptions"),
        (scope.corruptions, "corruption"),
        (scope.classes, "class"),
        (scope.slices, "slice"),
    ):
        yield from _where(rows, noun, total)
    for row in [row for row in scope.confusions if row.is_shown][:_NAMED]:
        said, _, meant = row.name.partition(" -> ")
        yield (
            f"Images of {said} taken for {meant}: {_percent(row.baseline)} before, "
            f"{_percent(row.value)} now."
        )
    if scope.negative or scope.positive:
        often = "" if scope.conditions == 1 else " under at least one condition"
        yield (
            f"{scope.negative} of {total.images} images are lost{often}, {scope.positive} are won."
        )


def _place(scope: Breakdown) -> str:
    if scope.conditions == 1:
        return f"Under {scope.name} on {scope.split}"
    return f"Under {scope.name} ({scope.conditions} conditions) on {scope.split}"


def _where(rows: Sequence[Loss], noun: str, total: Loss) -> Iterator[str]:
    """Yield which parts are shown to lose; those that gain where the total does."""
    if not rows:
        return
    shown = [row for row in rows if row.is_shown and row.loss > 0]
    is_loss = total.is_shown and total.loss > 0
    # Where some rows gain, the shares of the others add up to more than all of it.
    lost = sum(row.share for row in rows if row.share is not None and row.share > 0)
    loss = "the net loss" if lost > _WHOLE else "the loss"
    verb = f"{loss} is in" if is_loss else "errors are more frequent in"
    yield (f"By {noun}, {verb} {_list(shown)}." if shown else f"No single {noun} is shown to lose.")
    gained = [row for row in reversed(rows) if row.is_shown and row.loss < 0]
    if gained:
        yield f"Errors are fewer in {_list(gained)}."


def _list(rows: Sequence[Loss]) -> str:
    named = ", ".join(_named(row) for row in rows[:_NAMED])
    return named + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _named(row: Loss) -> str:
    share = "" if row.share is None else f"{100 * row.share:.0f} % of it, "
    return f"{row.name} ({share}{100 * row.loss:+.1f} points)"


def layers_in_words(layers: LayerEffects | None) -> Iterator[str]:
    """Yield which layer moves the predictions most."""
    if layers is None:
        return
    about = f"On {layers.images} {layers.split} images under {layers.condition}"
    measured = [row for row in layers.rows if row.divergence is not None]
    if measured:
        first = measured[0]
        without = "; without training, " if layers.is_trained else "; "
        yield (
            f"{about}, the predictions moved by {layers.divergence:.2g} nat{without}"
            f"{first.layer} alone moves them most, by {first.divergence:.2g} nat."
        )
    freed = [r for r in layers.rows if r.method == BYPASSED and r.restored is not None]
    if freed:
        best = min(freed, key=lambda row: row.restored or 0.0)
        if best.restored is not None and best.restored <= _FELT * layers.divergence:
            yield (
                f"Without the rounding of the activations of {best.layer} they would move by "
                f"{best.restored:.2g} nat instead of {layers.divergence:.2g}."
            )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(row: Loss) -> str:
    size = f"{100 * abs(row.loss):.1f} points"
    return f"{size} {'more' if row.loss >= 0 else 'fewer'}"


def _interval(row: Loss) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" ({100 * row.low:+.1f} to {100 * row.high:+.1f})"
