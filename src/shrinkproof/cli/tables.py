"""Tables on the terminal, readable at 80 columns; percent exists only here and in the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from shrinkproof.cli.columns import (
    FACTOR,
    KILOBYTES,
    PERCENT,
    SHARE,
    Column,
    columns_of,
    meanings_of,
)
from shrinkproof.metrics.names import NULL_P
from shrinkproof.metrics.spelling import described
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    from shrinkproof.records import Candidate, Json
    from shrinkproof.results import Results
    from shrinkproof.table import Number

_NONE = "-"

_LISTED: Final = 50
"""Candidates with missing cells that `status` lists on the terminal."""

_LEVEL = 0.05
"""A p-value from here on shows nothing."""


def console_of() -> Console:
    """Return what prints on the terminal; colors only where it is one."""
    return Console(highlight=False, soft_wrap=False)


def empty_table(*columns: str, left: int = 1) -> Table:
    """Return an empty table with two blanks between columns; the first ``left`` hold words."""
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True
    )
    for position, column in enumerate(columns):
        is_text = position < left
        table.add_column(
            column,
            justify="left" if is_text else "right",
            overflow="fold",
            no_wrap=not is_text,
            vertical="bottom" if is_text else "top",
        )
    return table


def heading_of(selector: str) -> str:
    """Return a selector as the heading of a column, in several short lines."""
    return escape(selector.replace(".", ".\n").replace("{", "\n{").replace("@", "\n@"))


def _percent(number: Number) -> str:
    """Return the value with half the width of its interval, in percent."""
    if number.value is None:
        return _absent(number)
    text = f"{100 * number.value:.1f}"
    if number.low is not None and number.high is not None:
        text += f" ±{50 * (number.high - number.low):.1f}"
    return text + ("*" if number.status == "contaminated" else "")


def _plain(number: Number, form: str) -> str:
    return _absent(number) if number.value is None else format(number.value, form)


def _kilobytes(number: Number) -> str:
    if number.value is None:
        return _absent(number)
    return format(number.value / 1000, ".1f" if number.value < 1e6 else ".0f")


def spelled_number(number: Number, metric: str) -> str:
    """Return a number in the unit of its metric: percent, kB, milliseconds or plain."""
    known = described(metric)
    unit = known.unit if known else ""
    if unit == "fraction":
        text = _percent(number)
        return f"{text} %" if number.value is not None else text
    if unit == "bytes":
        text = _kilobytes(number)
        return f"{text} kB" if number.value is not None else text
    if unit == "seconds" and number.value is not None:
        return f"{1000 * number.value:.3g} ms"
    return _plain(number, ".4g")


def _absent(number: Number) -> str:
    """Return the status of what has no value; a short sign for what nobody has measured."""
    return _NONE if number.status == "missing" else number.status


def print_results(results: Results) -> None:
    """Print the candidates with their numbers on the report split."""
    console = console_of()
    columns = columns_of(results)
    table = empty_table("", "candidate", *(column.heading for column in columns), left=2)
    rows = {c.label: _numbers(results, c, columns) for c in results.candidates}
    several = len({c.model for c in results.candidates}) > 1
    chosen = results.decision.chosen if results.decision else None
    model = ""
    for candidate in results.candidates:
        if several and candidate.model != model:
            model = candidate.model
            table.add_row("", f"[italic]{escape(model)}[/]")
        is_chosen = candidate.label == chosen
        table.add_row(
            ">" if is_chosen else "",
            escape(candidate.label.partition("/")[2]),
            *rows[candidate.label],
            style="bold green" if is_chosen else None,
        )
    console.print(table)
    signs = "".join(text for row in rows.values() for text in row)
    console.print(f"\n{_legend(results, signs)}", markup=False)
    for caveat in results.caveats:
        console.print(f"caveat: {caveat}", markup=False, style="yellow")
    _print_failures(console, results)


def _numbers(results: Results, candidate: Candidate, columns: Sequence[Column]) -> tuple[str, ...]:
    """Return a candidate's cells of the table of results."""
    if any(failure["key"] == candidate.key for failure in results.failures):
        return ("failed",) * len(columns)
    label = candidate.label
    return tuple(
        _FORMS[column.form](column.find(label)) + _chance(results, label, column.null)
        for column in columns
    )


_FORMS: Final[dict[str, Callable[[Number], str]]] = {
    PERCENT: _percent,
    SHARE: lambda number: _absent(number) if number.value is None else f"{100 * number.value:.0f}",
    KILOBYTES: _kilobytes,
    FACTOR: lambda number: _plain(number, ".2f"),
}


def _chance(results: Results, label: str, metric: str) -> str:
    """Return a sign where a perfectly calibrated model would show an error as large."""
    if not metric:
        return ""
    found = results.numbers.find(label, results.printing, Selector(NULL_P + metric, "clean"))
    return "~" if found.value is not None and found.value >= _LEVEL else ""


def _print_failures(console: Console, results: Results) -> None:
    """Print what failed; a path or a command in a message stays in one piece."""
    for failure in results.failures:
        text = f"failed: {failure['label']}: {failure['message']}"
        console.print(text, markup=False, soft_wrap=True, style="red")


def _legend(results: Results, signs: str) -> str:
    """Return what the columns and signs of the table of results mean."""
    count = results.data["splits"].get(results.printing, {}).get("count", 0)
    known = {
        "±": "± is half the 95 % interval",
        "~": "~ means no more than a calibrated model would show",
        "*": "* means contaminated, see the caveats",
        _NONE: f"{_NONE} means not measured",
    }
    parts = [
        *meanings_of(results),
        "time is the median latency over the baseline's",
        *(text for sign, text in known.items() if sign in signs),
    ]
    if results.decision and results.decision.chosen:
        parts.append(f"> is the choice, made on the {results.deciding} split")
    return f"{results.printing} split, {count} images, {results.form}s. {'; '.join(parts)}."


def print_scale(results: Results) -> None:
    """Print what is smaller or larger at the scale of a run that has one."""
    note = results.spec.scale_note
    if note:
        console_of().print(f"caveat: {note}", markup=False, style="yellow")


def print_status(results: Results) -> None:
    """Print how far a run is, and what failed or is missing of which candidate."""
    console = console_of()
    progress = results.progress
    console.print(
        f"candidates {progress['prepared']}/{progress['candidates']}   "
        f"cells {progress['done']}/{progress['cells']}   "
        f"failed {progress['failed']}   missing {progress['missing']}",
        markup=False,
    )
    print_scale(results)
    _print_failures(console, results)
    for line in results.store.in_progress(results.by_key):
        console.print(f"training: {line}", markup=False)
    missing = tuple(results.missing.items())
    for label, count in missing[:_LISTED]:
        console.print(f"missing: {label}: {count} cell(s)", markup=False)
    if missing[_LISTED:]:
        cells = sum(count for _, count in missing[_LISTED:])
        console.print(
            f"missing: {len(missing[_LISTED:])} more candidates: {cells} cell(s); --csv lists all",
            markup=False,
        )
    if missing:
        console.print("Run the same command again: it does what is missing.", markup=False)


def print_outcome(results: Results) -> None:
    """Print what a finished run has to say, and write its report."""
    console = console_of()
    print_results(results)
    decision = results.decision
    if decision is not None:
        console.print()
        for sentence in decision.why:
            console.print(sentence, markup=False)
    certificate = results.certificate
    if certificate is not None:
        console.print(_certified(results, certificate), markup=False)
    console.print(f"report: {results.report()}", markup=False, soft_wrap=True)
    console.print(f"It shows {_contents(results)}.", markup=False)


def _certified(results: Results, certificate: Json) -> str:
    """Return who is certified in one sentence."""
    if certificate["status"] != "valid":
        return f"certificate INVALID: {certificate['why']}"
    tested, smallest = len(certificate["candidates"]), certificate["smallest"]
    text = (
        f"certificate: {len(certificate['certified'])} of {tested} tested candidates keep all "
        f"promises with {100 * certificate['confidence']:g} % confidence"
    )
    return f"{text}; the smallest is {results.short(smallest)}" if smallest else text


def _contents(results: Results) -> str:
    """Return what the report has besides the table."""
    evaluators = {cell.evaluator for cell in results.cells}
    conditions = results.spec.conditions_list()
    kinds = {item.kind for item in results.summary.exhibits}
    parts = {
        "trade-off": True,
        "errors by corruption and severity": any(not c.is_clean for c in conditions),
        "calibration beside chance": any(m.startswith("calibration.") for m in results.metrics),
        "flips and damage per class": "exemplars" in kinds,
        "tests against margins": bool(results.spec.measure.margins),
        "heat maps": "saliency" in evaluators,
        "costs": bool(evaluators & {"size", "latency"}),
    }
    *first, last = (name for name, is_there in parts.items() if is_there)
    return f"{', '.join(first)} and {last}" if first else last


def print_members(rows: Sequence[Json]) -> None:
    """Print registered members."""
    console = console_of()
    table = empty_table("kind", "name", "what it is", left=3)
    for row in rows:
        text = row.get("summary") or f"broken: {row.get('broken', '')}"
        origin = "" if row["origin"] == "shrinkproof" else f" [{row['origin']}]"
        table.add_row(row["kind"], escape(row["name"]), escape(text + origin))
    console.print(table)


def print_findings(findings: Sequence[Any]) -> None:
    """Print what `doctor` found."""
    console = console_of()
    table = empty_table("", "what", "found", left=3)
    for finding in findings:
        text = finding.detail + (f"\n-> {finding.fix}" if finding.fix else "")
        table.add_row(finding.status, escape(finding.name), escape(text))
    console.print(table)
