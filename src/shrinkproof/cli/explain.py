"""The command that says what is behind the numbers of one candidate: explain."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from shrinkproof.cli import DONE
from shrinkproof.cli.options import AsJson, Root, RunFolder, roots
from shrinkproof.cli.output import print_json

if TYPE_CHECKING:
    from shrinkproof.diagnosis.breakdown import Breakdown
    from shrinkproof.diagnosis.explanation import Explanation
    from shrinkproof.diagnosis.layers import LayerEffect, LayerEffects
    from shrinkproof.diagnosis.paired import Loss

_WIDTH: Final = 80
_NAME: Final = 19
"""Longest name in a table of losses."""

_LAYER: Final = 23
"""Longest name in the table of layers."""

_FELT: Final = 0.9
"""A rounding of activations is listed where the candidate without it moves at most so much less."""

_PICTURES: Final = 2
"""Pictures that are named for an image; --json has all of them."""

_ROWS: Final = 6
"""Rows of a table; --json has all of them."""


def explain(
    folder: RunFolder,
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE", help="Label of the candidate, or its recipe where that is unique."
        ),
    ],
    rule: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE",
            help="A rule as in select.require, e.g. 'accuracy.top1@fog:3 >= 0.8'; may be repeated; "
            "default: the study's.",
        ),
    ] = None,
    images: Annotated[
        int,
        typer.Option(
            min=0, metavar="N", help="Images that layers are compared on; 0 leaves them out."
        ),
    ] = 256,
    json: AsJson = False,
    root: Root = None,
) -> int:
    """Say which rule a candidate breaks, and which layer, class, condition is behind it."""
    from shrinkproof.diagnosis import explain as explain_
    from shrinkproof.results import Results

    found = explain_(
        Results.load(folder), candidate, rules=rule or (), images=images, roots=roots(root)
    )
    if json:
        print_json(**found.as_json())
        return DONE
    for line in _lines(found):
        typer.echo(line)
    return DONE


def _lines(found: Explanation) -> Iterator[str]:
    """Yield the sentences first, then the tables."""
    beside = f", control {found.control}" if found.control else ""
    yield from _wrapped(f"{found.candidate}, compared with {found.baseline}{beside}")
    yield ""
    for sentence in found.words:
        yield from _wrapped(sentence, "- ")
    for scope in found.scopes:
        yield from _scope(scope)
    if found.costs:
        yield from _costs(found.costs)
    if found.layers is not None:
        yield from _layers(found.layers)
    if found.maps:
        yield from _maps(found.maps)
    if found.notes or found.files:
        yield ""
    for note in found.notes:
        yield from _wrapped(f"note: {note}")
    for name, path in found.files.items():
        yield f"{name}: {path}"


def _scope(scope: Breakdown) -> Iterator[str]:
    conditions = f", {scope.conditions} conditions" if scope.conditions > 1 else ""
    yield from _title(f"{scope.name} on {scope.split}{conditions}, {scope.total.images} images")
    tables = {
        "all": (scope.total,),
        "group": scope.groups,
        "corruption": scope.corruptions,
        "condition": scope.single if scope.conditions > 1 else (),
        "class": scope.classes,
        "taken for": scope.confusions,
        "slice": scope.slices,
    }
    head = f"{'wrong answers':{_NAME + 12}}  {'baseline':>8}  {'now':>7}"
    yield f"{head}  {'points':>22} {'share':>5}"
    left: list[str] = []
    for noun, rows in tables.items():
        shown = [row for row in rows if row.is_shown or noun == "all"]
        named = [row for row in shown if row.loss > 0 or noun == "all"][:_ROWS]
        named += [row for row in reversed(shown) if row.loss < 0 and noun != "all"][
            : _ROWS - len(named)
        ]
        for row in named:
            yield _row(noun, row)
        hidden = len(rows) - len(shown)
        if hidden:
            left.append(f"{noun} {hidden} of {len(rows)}")
    if left:
        yield from _wrapped(f"No difference is shown for: {', '.join(left)}.")
    for note in scope.notes:
        yield from _wrapped(f"note: {note}")
    yield from _images(scope)


def _row(noun: str, row: Loss) -> str:
    ends = "" if row.low is None or row.high is None else f"{_points(row.low)}, {_points(row.high)}"
    change = f"{_points(row.loss)} ({ends})" if ends else _points(row.loss)
    sign = "" if row.is_shown else " ?"
    share = "" if row.share is None else f"{100 * row.share:.0f} %"
    name = "" if noun == "all" else _short(row.name)
    return (
        f"{noun:<10}  {name:{_NAME}}  {_percent(row.baseline):>8}  {_percent(row.value):>7}"
        f"  {change + sign:>22} {share:>5}"
    ).rstrip()


def _images(scope: Breakdown) -> Iterator[str]:
    if not scope.images:
        return
    yield ""
    yield f"images that only the baseline gets right: {scope.negative}; lost most often:"
    for hit in scope.images[:_ROWS]:
        where = hit.file or f"image {hit.index}"
        named = ", ".join(hit.pictures[:_PICTURES])
        picture = f"; picture: {named}" if named else ""
        about = "".join(f", {name}={value}" for name, value in hit.slices.items())
        often = "" if scope.conditions == 1 else f", {hit.count} of {scope.conditions} conditions"
        yield from _wrapped(
            f"{where}: {hit.target} taken for {hit.predicted}{often}{about}{picture}", "  "
        )


def _layers(layers: LayerEffects) -> Iterator[str]:
    yield from _title(f"layers, {layers.images} {layers.split} images under {layers.condition}")
    yield f"{'':{_LAYER}}  {'':16}  {'alone':>8}  {'same':>6}  {'right':>10}  {'without':>7}"
    yield f"{'layer':{_LAYER}}  {'now':16}  {'nat':>8}  {'%':>6}  {'-lost +won':>10}  {'nat':>7}"
    yield _layer("all", "", layers)
    weights = [row for row in layers.rows if row.what == "weights"]
    yield from _measured([row for row in weights if row.method])
    for row in weights:
        if not row.method:
            yield from _wrapped(f"{row.layer}: not measured alone: {row.note}", "  ")
    rounded = [row for row in layers.rows if row.what == "activations"]
    felt = [row for row in rounded if _is_felt(row, layers)]
    if felt:
        yield "rounding of the activations of:"
        yield from _measured(felt)
    if len(rounded) > len(felt):
        count = len(rounded) - len(felt)
        yield f"({count} roundings of activations move less than a tenth of it: --json)"
    yield from _wrapped(_LEGEND)
    for note in layers.notes:
        yield from _wrapped(f"note: {note}")


def _is_felt(row: LayerEffect, layers: LayerEffects) -> bool:
    """Return whether a rounding is behind a tenth of what the whole candidate moves."""
    return row.restored is not None and row.restored <= _FELT * layers.divergence


def _measured(rows: Sequence[LayerEffect]) -> Iterator[str]:
    for row in rows[:_ROWS]:
        first, *others = row.layer.split(" + ")
        name = f"{_short(first, _LAYER - 3)} +{len(others)}" if others else _short(first, _LAYER)
        yield _layer(name, row.achieved, row, row.restored)
    if len(rows) > _ROWS:
        yield f"({len(rows) - _ROWS} more with smaller effects: --json)"


def _layer(
    name: str, achieved: str, found: LayerEffect | LayerEffects, restored: float | None = None
) -> str:
    alone = "" if found.divergence is None else f"{found.divergence:.2g}"
    same = "" if found.agreement is None else f"{100 * found.agreement:.1f}"
    changed = "" if found.lost is None else f"-{found.lost} +{found.won}"
    without = "" if restored is None else f"{restored:.2g}"
    return (
        f"{name:{_LAYER}}  {achieved[:16]:16}  {alone:>8}  {same:>6}  {changed:>10}  {without:>7}"
    ).rstrip()


_LEGEND: Final = (
    "alone: how far the baseline's predictions move (Kullback-Leibler divergence) when this layer "
    "alone is compressed; same: images with the same answer; lost/won: right answers; without: how "
    "far the candidate remains from the baseline when this layer alone is not compressed."
)


def _costs(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from _title("layers with the most bytes, packed")
    for row in rows[:_ROWS]:
        yield (
            f"{_short(row['layer'], _LAYER):{_LAYER}}  {row['bytes_packed']:>12,} bytes"
            f"  {100 * row['share']:>5.1f} %  of {row['bytes_dense']:,} dense"
        )


def _maps(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    first = rows[0]
    yield from _title(
        f"heat maps ({first['method']}) least like the baseline's, {first['condition']} on "
        f"{first['split']}; the page shows them"
    )
    for row in rows[:_ROWS]:
        yield from _wrapped(
            f"image {row['index']}: {row['class']}, explained as {row['explained']}, correlation "
            f"(HCC) {row['hcc']:.2f}",
            "  ",
        )


def _title(text: str) -> Iterator[str]:
    yield ""
    yield from _wrapped(text)
    yield "-" * min(_WIDTH, len(text))


def _wrapped(text: str, first: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * max(2, len(first)),
        break_on_hyphens=False,
        break_long_words=False,
    )


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _points(value: float) -> str:
    return f"{100 * value:+.1f}"


def _short(name: str, most: int = _NAME) -> str:
    """Return a name, without its middle where it is too long."""
    if len(name) <= most:
        return name
    half = (most - 3) // 2
    return f"{name[:half]}...{name[half + 3 - most :]}"
