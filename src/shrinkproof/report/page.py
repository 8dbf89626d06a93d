"""One HTML file: everything a reader needs, nothing from the network, readable without script."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

import jinja2
from markupsafe import Markup

from shrinkproof.report import (
    charts,
    cost,
    figures,
    fronts,
    heat,
    interactive,
    samples,
    scenes,
    scripts,
    tables,
    wording,
)
from shrinkproof.report.answer import answer
from shrinkproof.report.certified import certificate
from shrinkproof.report.control import controls
from shrinkproof.report.evidence import evidence
from shrinkproof.report.rows import Rows
from shrinkproof.report.view import PROBLEMS, View
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    import polars as pl

    from shrinkproof.decision.choice import Decision
    from shrinkproof.records import Candidate, Change, Json

FIGURE_LIMIT: Final = 12
"""Candidates that get heat maps and diagrams of their own, so that the page stays below 2 MB."""
OPEN_MAPS: Final = 2
"""Heat maps that stand open without a choice."""
DIAGRAM_LIMIT: Final = 8
"""Candidates that get reliability diagrams: two charts each, of about 40 ms."""
FOLD_LIMIT: Final = 14
"""Lines of a table before the caveats and the candidates; longer ones start folded."""
DOWNLOAD_LIMIT: Final = 900_000
"""Longest embedded download in characters."""

_HOPELESS: Final = 40
"""Tables longer than so many downloads are not compressed: they never shrink that much."""
_LONG_TEXT: Final = 40
"""Provenance of more lines than this starts folded."""
_FIRST: Final = ("study file", "commands", "versions", "data")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Page:
    """Everything the page shows, as plain values.

    Attributes:
        study: name of the study.
        generated: when, as the reader should see it.
        version: version of shrinkproof.
        records: tidy rows, columns as in ``shrinkproof.records.COLUMNS``. A row with
            metric ``change.<metric>`` is the change of that metric against the baseline, one with
            ``change_from_control.<metric>`` that against the candidate's control.
        candidates: every candidate of the study, controls included.
        decision: the choice, or None where none was asked for.
        decision_objectives: spelled selectors; the first is the vertical axis of the trade-off.
        reliability: (candidate label, ``clean`` or ``corrupted``) -> bins of its diagram.
        exhibits: kind -> what is no number, as the summary found it: ``exemplars``, ``potential``,
            ``ranks``, ``correlations``, ``heatmaps``, ``saliency-correlation``.
        margins: metric -> by how much it may be worse and still count as kept.
        changes: candidate label -> what its steps asked for and reached.
        failures: work that gave no result, one mapping of words each; the keys become columns.
        caveats: sentences that stand beside the answer.
        provenance: title -> text; ``study file``, ``commands``, ``versions`` and ``data`` come
            first, titles that start with ``environment`` stand beside the costs.
        quality: the metric of the heat maps.
        printing: split whose numbers are printed; costs come from rows without a split.
        deciding: split on which the decision was computed.
        form: form in which the study measures, ``artifact`` or ``twin``.
        certificate: the run's newest certificate, or None.
        uncertainty: how sure front and choice are, as plain values; None where it is not known.
        fronts: fronts within and across networks, as plain values.
        rules: hard rules checked for the choice on the printed images, as plain values.
        images: label -> images that were hit hardest, with what both networks said of them.
        pictures: index of an image and spelled condition -> its picture as a data link, for images
            with boxes.
    """

    study: str
    generated: str
    version: str
    records: pl.DataFrame
    candidates: Sequence[Candidate]
    decision: Decision | None = None
    decision_objectives: tuple[str, ...] = ()
    reliability: Mapping[tuple[str, Literal["clean", "corrupted"]], figures.ReliabilityBins] = (
        field(default_factory=dict)
    )
    exhibits: Mapping[str, Sequence[Json]] = field(default_factory=dict)
    margins: Mapping[str, float] = field(default_factory=dict)
    changes: Mapping[str, Sequence[Change]] = field(default_factory=dict)
    failures: Sequence[Mapping[str, str]] = ()
    caveats: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    quality: str = "accuracy.top1"
    printing: str = "report"
    deciding: str = "select"
    form: str = "artifact"
    certificate: Json | None = None
    uncertainty: Json | None = None
    fronts: Sequence[Json] = ()
    rules: Sequence[Json] = ()
    images: Mapping[str, Sequence[samples.HitImage]] = field(default_factory=dict)
    pictures: Mapping[scenes.Shot, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Download:
    """The rows as a link that carries its own data; no link where they are too long."""

    name: str
    link: str
    rows: int


@dataclass(frozen=True, slots=True)
class Text:
    """A titled text of the provenance."""

    title: str
    body: str
    is_long: bool


def render(page: Page) -> str:
    """Return the page as one HTML document.

    Every string is escaped. The document's own content security policy forbids network access and
    every script but its own two; it is complete without them.

    Raises:
        UsageError: the records lack a column.
        ValueError: an objective is not a selector.
    """
    rows = Rows(
        page.records,
        quality=page.quality,
        printing=page.printing,
        form=page.form,
        detailed=[Selector.parse(text).metric for text in page.decision_objectives],
    )
    view = View(rows, page.candidates, page.decision, page.decision_objectives)
    shown, is_cut = view.shown(FIGURE_LIMIT)
    diagrams = view.important([k for k in shown if (k, "clean") in page.reliability], DIAGRAM_LIMIT)
    wanted = tables.candidate_columns(view)
    columns, gaps = view.known(wanted), view.gaps(wanted)
    lines = tables.candidate_lines(view, columns, page.changes)
    axes = interactive.axes(view, columns)
    maps = heat.robustness(view, shown)
    problems, more_problems = tables.problems(view)
    matched, matched_gaps = fronts.matched(view, page.exhibits.get("matched", ()))
    machines, texts = _texts(page.provenance)
    environment = jinja2.Environment(
        autoescape=True,
        loader=jinja2.FunctionLoader(scripts.asset),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template("template.html.j2").render(
        page=page,
        style=Markup(_style(view)),  # our own files, not input
        policy=Markup(scripts.policy(draws=axes is not None)),
        script=Markup(scripts.script()),
        bundle=scripts.bundle()[0] if axes else "",
        data=Markup(scripts.embedded(interactive.data(view, columns, lines, axes))),
        svg=Markup,
        fold=FOLD_LIMIT,
        answer=answer(view, page.caveats, page.margins),
        rules=fronts.rules(view, page.rules),
        certificate=certificate(view, page.certificate),
        tradeoffs=charts.tradeoffs(view),
        chances=fronts.chances(view, page.uncertainty),
        fronts=fronts.fronts(view, page.fronts),
        matched=matched,
        matched_gaps=matched_gaps,
        columns=columns,
        lines=lines,
        gaps=gaps,
        controls=controls(view),
        robustness=maps,
        heat_parts=_open_first(maps, view),
        detects=view.detects,
        quality=wording.metric_name(page.quality) if view.detects else "accuracy",
        evidence=evidence(view, page.exhibits, page.margins, page.images),
        scenes=scenes.scenes(view, page.exhibits, page.pictures),
        calibration=charts.calibration(view, diagrams, page.reliability),
        diagrams=len(diagrams),
        problems_section=PROBLEMS,
        shown=len(shown),
        is_cut=is_cut,
        costs=cost.costs(view),
        machines=machines,
        failure_columns=list(dict.fromkeys(key for failure in page.failures for key in failure)),
        problems=problems,
        more_problems=more_problems,
        texts=texts,
        download=_download(page.records),
    )


def _style(view: View) -> str:
    """Return the style sheet; that of boxes only where there are any."""
    return scripts.asset("style.css") + (scripts.asset("boxes.css") if view.detects else "")


def _open_first(maps: heat.Robustness, view: View) -> tuple[list[heat.HeatMap], list[heat.HeatMap]]:
    """Return the maps that stand open, baseline and choice of one model first, and the others."""
    wanted = [view.baseline(view.chosen or ""), view.chosen]
    names = [view.short[label] for label in dict.fromkeys(wanted) if label]
    first = [one for one in maps.maps if one.name in names]
    first = first if len(first) > 1 else list(maps.maps[:OPEN_MAPS])
    return first, [one for one in maps.maps if one not in first]


def _texts(provenance: Mapping[str, str]) -> tuple[list[Text], list[Text]]:
    """Return the machine descriptions and the rest, known titles first."""
    order = {title: position for position, title in enumerate(_FIRST)}
    titles = sorted(provenance, key=lambda title: order.get(title.lower(), len(order)))
    texts = [
        Text(title, provenance[title], provenance[title].count("\n") > _LONG_TEXT)
        for title in titles
    ]
    machines = [text for text in texts if text.title.lower().startswith("environment")]
    return machines, [text for text in texts if text not in machines]


def _download(records: pl.DataFrame) -> Download:
    """Return the rows as CSV, compressed where the plain text is too long."""
    plain = records.write_csv().encode()
    contents = [("records.csv", "text/csv;charset=utf-8", plain)]
    if len(plain) < _HOPELESS * DOWNLOAD_LIMIT:
        packed = gzip.compress(plain, compresslevel=6, mtime=0)
        contents.append(("records.csv.gz", "application/gzip", packed))
    for name, kind, content in contents:
        link = f"data:{kind};base64,{base64.b64encode(content).decode()}"
        if len(link) <= DOWNLOAD_LIMIT:
            return Download(name, link, len(records))
    return Download("", "", len(records))
