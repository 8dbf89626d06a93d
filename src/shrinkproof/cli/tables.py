"""Tables on the terminal, readable at 80 columns; percent exists only here and in the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    from shrinkproof.records import Json
    from shrinkproof.results import Results
    from shrinkproof.study.plan import Plan
    from shrinkproof.table import Number

_NONE = "-"


def _console() -> Console:
    return Console(highlight=False, soft_wrap=False)


def _table(*columns: str, left: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for position, column in enumerate(columns):
        is_text = position < left
        table.add_column(
            column, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text
        )
    return table


def _percent(number: Number) -> str:
    """Return the value with half the width of its interval, in percent."""
    if number.value is None:
        return number.status
    text = f"{100 * number.value:.1f}"
    if number.low is not None and number.high is not None:
        text += f" ±{50 * (number.high - number.low):.1f}"
    return text + ("*" if number.status == "contaminated" else "")


def _plain(number: Number, form: str, scale: float = 1.0) -> str:
    return number.status if number.value is None else format(number.value * scale, form)


def print_results(results: Results) -> None:
    """Print the candidates with their numbers on the report split."""
    console = _console()
    table = _table("candidate", "top-1 %", "err. corr. %", "ECE %", "kB", "zip kB", "time x")
    selectors = [
        Selector("accuracy.top1", "clean"),
        Selector("robustness.mean_error"),
        Selector("calibration.ece", "clean"),
    ]
    several = len({c.model for c in results.candidates}) > 1
    chosen = results.decision.chosen if results.decision else None
    for candidate in results.candidates:
        name = candidate.label if several else candidate.label.partition("/")[2]
        find = results.numbers.find
        cells = [_percent(find(candidate.label, results.printing, s)) for s in selectors]
        cells += [
            _plain(find(candidate.label, "", Selector(metric)), ".1f", 1e-3)
            for metric in ("cost.bytes", "cost.bytes_zip")
        ]
        cells.append(_plain(find(candidate.label, "", Selector("cost.latency_ratio")), ".2f"))
        mark = "> " if candidate.label == chosen else "  "
        table.add_row(mark + escape(name), *cells, style="bold" if mark == "> " else None)
    console.print(table)
    count = results.data["splits"].get(results.printing, {}).get("count", 0)
    corrupted = sum(not c.is_clean for c in results.spec.conditions_list())
    console.print(
        f"{results.printing} split, {count} images, {results.form}s; ± is half the 95 % interval; "
        f"err. corr.: mean top-1 error over {corrupted} corrupted conditions; time x: median "
        f"latency over the baseline's. '>' is the choice, made on the {results.deciding} split.",
        markup=False,
    )
    for caveat in results.caveats:
        console.print(f"caveat: {caveat}", markup=False)


def print_outcome(results: Results) -> None:
    """Print what a finished run has to say, and write its report."""
    console = _console()
    print_results(results)
    for failure in results.failures:
        console.print(f"failed: {failure['label']}: {failure['message']}", markup=False)
    decision = results.decision
    if decision is not None:
        for sentence in decision.why:
            console.print(sentence, markup=False)
    console.print(f"report: {results.report()}", markup=False, soft_wrap=True)


def print_decision(results: Results) -> None:
    """Print front, choice and reasons."""
    decision = results.decision
    assert decision is not None, "the caller has checked that the study chooses"
    console = _console()
    table = _table("", "candidate", *(str(o.selector) for o in results.objectives), left=2)
    for candidate in results.candidates:
        label = candidate.label
        if label not in decision.front:
            continue
        found = [
            results.numbers.find(label, results.deciding, o.selector) for o in results.objectives
        ]
        mark = ">" if label == decision.chosen else ""
        table.add_row(mark, escape(label), *(_plain(number, ".6g") for number in found))
    console.print(f"front on the {results.deciding} split:", markup=False)
    console.print(table)
    for sentence in decision.why:
        console.print(sentence, markup=False)
    for alternative in decision.alternatives:
        console.print(f"instead {alternative.label}: {alternative.why}", markup=False)
    for label, rules in decision.infeasible.items():
        console.print(f"out {label}: {'; '.join(rules)}", markup=False)
    for label, others in decision.dominated.items():
        console.print(f"dominated {label}: by {', '.join(others)}", markup=False)
    for label, reason in decision.undefined.items():
        console.print(f"not comparable {label}: {reason}", markup=False)


def print_plan(plan: Plan) -> None:
    """Print the candidates and the cells of a plan."""
    console = _console()
    table = _table("candidate", "role", "compared with", "cells", left=3)
    labels = {candidate.key: candidate.label for candidate in plan.candidates}
    cells = Counter(cell.candidate for cell in plan.cells)
    for candidate in plan.candidates:
        control = labels.get(candidate.control, _NONE)
        table.add_row(
            escape(candidate.label), candidate.role, escape(control), str(cells[candidate.key])
        )
    console.print(table)
    for name, split in plan.splits.items():
        console.print(f"{name}: {split['count']} images of {split['source']}", markup=False)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)
    for model, splits in plan.contamination.items():
        for name, reason in splits.items():
            console.print(f"contaminated: {model} on {name}: {reason}", markup=False)
    passes = {(c.split, c.condition) for c in plan.cells if c.evaluator == "scores"}
    console.print(
        f"{len(plan.candidates)} candidates, {len(plan.cells)} cells in {len(passes)} passes",
        markup=False,
    )


def print_members(rows: Sequence[Json]) -> None:
    """Print registered members."""
    console = _console()
    table = _table("kind", "name", "what it is", left=3)
    for row in rows:
        text = row.get("summary") or f"broken: {row.get('broken', '')}"
        origin = "" if row["origin"] == "shrinkproof" else f" [{row['origin']}]"
        table.add_row(row["kind"], escape(row["name"]), escape(text + origin))
    console.print(table)


def print_findings(findings: Sequence[Any]) -> None:
    """Print what `doctor` found."""
    console = _console()
    table = _table("", "what", "found", left=3)
    for finding in findings:
        text = finding.detail + (f"\n-> {finding.fix}" if finding.fix else "")
        table.add_row(finding.status, escape(finding.name), escape(text))
    console.print(table)
