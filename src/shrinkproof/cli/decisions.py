"""The decision on the terminal: the front, the choice and its reasons, at 80 columns.

Which candidates are on the front was found on the split that decides; every number that is printed
comes from the split whose numbers are printed.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.markup import escape

from shrinkproof.cli.tables import console_of, empty_table, heading_of, spelled_number
from shrinkproof.results.fronts import deciding_front

if TYPE_CHECKING:
    from rich.table import Table

    from shrinkproof.decision.choice import Decision
    from shrinkproof.results import Results
    from shrinkproof.results.deciding import RuleCheck


_WORTH_TELLING: Final = 0.05
"""Share of the resampled data sets from which on an option off the front is named."""


def print_decision(results: Results, decision: Decision) -> None:
    """Print front, choice and reasons."""
    console = console_of()
    if results.deciding == results.printing:
        title = f"front, decided and measured on the same images ({results.printing} split)"
    else:
        title = (
            f"front, decided on the {results.deciding} split; the numbers are those of the "
            f"{results.printing} split"
        )
    console.print(f"{title}:\n", markup=False)
    console.print(_front(results, decision))
    front = deciding_front(results)
    if front is not None and front.hypervolume is not None:
        console.print(
            f"\nhypervolume {front.hypervolume:.3f} of the box of all options, on the "
            f"{results.deciding} split"
        )
    for heading, lines in _sections(results, decision):
        console.print(f"\n{heading}", style="bold", markup=False)
        for line in lines:
            for part in textwrap.wrap(line, console.width - 2, break_on_hyphens=False):
                console.print(f"  {part}", markup=False, soft_wrap=True)
    for caveat in results.caveats:
        console.print(f"caveat: {caveat}", markup=False, style="yellow")


def _front(results: Results, decision: Decision) -> Table:
    """Return the members of the front with their numbers on the printed split."""
    headers = (heading_of(str(objective.selector)) for objective in results.objectives)
    sure = results.uncertainty
    shares = (sure.front, sure.chosen) if sure and not sure.reason else ()
    names = ("on the\nfront", "chosen")[: len(shares)]
    table = empty_table("", "candidate", *headers, *names, left=2)
    for label in decision.front:
        numbers = (
            results.numbers.find(label, results.printing, o.selector) for o in results.objectives
        )
        is_chosen = label == decision.chosen
        cells = (
            spelled_number(number, o.selector.metric)
            for number, o in zip(numbers, results.objectives, strict=True)
        )
        table.add_row(
            ">" if is_chosen else "",
            escape(results.short(label)),
            *cells,
            *(f"{100 * share.get(label, 0):.0f} %" for share in shares),
            style="bold green" if is_chosen else None,
        )
    return table


def _sections(results: Results, decision: Decision) -> Iterator[tuple[str, list[str]]]:
    """Yield what is said about the decision, by heading; empty sections are left out."""
    short = results.short
    front = deciding_front(results)
    why = {} if front is None else front.why
    sections = {
        "why": list(decision.why),
        f"the choice keeps its rules on the {results.printing} split?": [
            _of_rule(check) for check in results.rules_on_report
        ],
        "instead": [
            f"{short(other.label)}: {other.why}"
            + (f". Trade: {other.trade}" if other.trade else "")
            for other in decision.alternatives
        ],
        f"out, because a rule is broken on the {results.deciding} split": [
            f"{short(label)}: {'; '.join(rules)}" for label, rules in decision.infeasible.items()
        ],
        f"dominated (differences on the {results.printing} split)": [
            f"{short(label)}: {without_model(results, why[label])}"
            if label in why
            else f"{short(label)}: by {', '.join(map(short, others))}"
            for label, others in decision.dominated.items()
        ],
        "how sure": list(_sureness(results)),
        "not comparable": [
            f"{short(label)}: {reason}" for label, reason in decision.undefined.items()
        ],
    }
    yield from ((heading, lines) for heading, lines in sections.items() if lines)


def without_model(results: Results, text: str) -> str:
    """Return a sentence without the name of the only model before its candidates."""
    models = {candidate.model for candidate in results.candidates}
    return text.removeprefix(f"{models.pop()}/") if len(models) == 1 else text


def _sureness(results: Results) -> Iterator[str]:
    """Yield what is shown, what is not, and how many images would be needed."""
    found, short = results.uncertainty, results.short
    if found is None:
        return
    if found.reason:
        yield f"not known: {found.reason}"
        return
    decision = results.decision
    front = () if decision is None else decision.front
    for label, share in found.front.items():
        if label not in front and max(share, found.chosen[label]) >= _WORTH_TELLING:
            yield (
                f"{short(label)} is off the front, and on it in {100 * share:.0f} % of the "
                f"resampled data sets, chosen in {100 * found.chosen[label]:.0f} %"
            )
    for label, others in found.dominated.items():
        yield f"{short(label)} is shown to be dominated, by {', '.join(map(short, others))}"
    for pair in found.indistinct:
        needed = f"; {pair.images_needed:,} images needed" if pair.images_needed else ""
        yield (
            f"{short(pair.label)} is not distinguishable from the choice in {pair.objective} with "
            f"these images{needed}: {pair.why}"
        )
    yield from found.notes


def _of_rule(check: RuleCheck) -> str:
    """Return whether the chosen candidate keeps a rule, and how surely."""
    has_ends = check.low is not None and check.high is not None
    if check.value is None:
        return f"{check.rule}: NOT KNOWN, {check.reason}"
    state = "no" if not check.is_met else "yes" if check.is_sure else "perhaps"
    found = f"{check.value:.4g}"
    if has_ends:
        found += f" [{check.low:.4g}, {check.high:.4g}]"
    elif not check.is_sure:
        found += f", without an interval ({check.reason})" if check.reason else ""
    return f"{check.rule}: {state}, {found}"
