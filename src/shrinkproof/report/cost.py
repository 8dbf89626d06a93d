"""What a file costs: its sizes, its time, and whether it answers as the PyTorch model does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from shrinkproof.report import wording
from shrinkproof.report.rows import ABSENT, Cell, Row, cell_of
from shrinkproof.report.view import RATIO, Column, View

COSTS: Final = (
    "cost.bytes",
    "cost.bytes_zip",
    "cost.parameters",
    "cost.nonzero",
    "cost.macs",
    "cost.latency_median",
    "cost.latency_p95",
    "cost.latency_ratio",
    "cost.memory_peak",
)
_AGREEMENT: Final = "fidelity.agreement"


@dataclass(frozen=True, slots=True)
class CostLine:
    """One candidate in the cost table."""

    name: str
    cells: tuple[Cell, ...]
    agreement: Cell
    machine: str
    runs: str


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost table.

    Attributes:
        columns: costs that some candidate has.
        lines: all candidates.
        agreement: where file and PyTorch were compared; empty where they were not.
        settings: how latency was timed, in the words of the evaluator.
        gaps: sentences about the costs that no candidate has.
    """

    columns: tuple[Column, ...]
    lines: tuple[CostLine, ...]
    agreement: str
    settings: tuple[str, ...]
    gaps: tuple[str, ...]

    @property
    def has_ratio(self) -> bool:
        """Whether any candidate was timed in turns with the baseline."""
        return any(column.metric == RATIO for column in self.columns)


def costs(view: View) -> Costs:
    """Return sizes, latency and fidelity of every candidate."""
    reported = [Column(metric, ("", 0)) for metric in COSTS if view.rows.places(metric)]
    columns = view.known(reported)
    compared = {label: _agreement(view, label) for label in view.labels}
    return Costs(
        columns=columns,
        lines=tuple(_line(view, label, columns, compared[label]) for label in view.labels),
        agreement="; ".join(dict.fromkeys(_where(row) for row in compared.values() if row)),
        settings=_settings(view),
        gaps=tuple(view.gaps(reported)),
    )


def _line(view: View, label: str, columns: tuple[Column, ...], compared: Row | None) -> CostLine:
    timed = [view.rows.find(label, c.metric) for c in columns if c.metric.startswith("cost.lat")]
    counts = dict.fromkeys(str(row["count"]) for row in timed if row and row["count"])
    return CostLine(
        name=view.short[label],
        cells=tuple(view.value(label, column) for column in columns),
        agreement=ABSENT if compared is None else cell_of(compared),
        machine=", ".join(key[:8] for key in view.rows.environments.get(label, ())),
        runs=", ".join(counts),
    )


def _agreement(view: View, label: str) -> Row | None:
    """Return the lowest agreement of file and PyTorch; a row without value comes first."""
    rows = view.rows.every(label, _AGREEMENT)
    return min(rows, key=lambda row: -1 if row["value"] is None else row["value"], default=None)


def _where(row: Row) -> str:
    place = wording.place_name(row["condition"], row["severity"])
    return ", ".join(part for part in (place, row["split"] and f"{row['split']} split") if part)


def _settings(view: View) -> tuple[str, ...]:
    rows = [view.rows.find(label, m) for label in view.labels for m in COSTS if "latency" in m]
    return tuple(
        dict.fromkeys(row["reason"] for row in rows if row and row["value"] and row["reason"])
    )
