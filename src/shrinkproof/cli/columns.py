"""The columns of the table of results, which differ by task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shrinkproof.metrics.detection.names import MPC, RPC
from shrinkproof.metrics.names import bare_name
from shrinkproof.selectors import Selector

if TYPE_CHECKING:
    from shrinkproof.results import Results
    from shrinkproof.table import Number

PERCENT: Final = "percent"
KILOBYTES: Final = "kilobytes"
FACTOR: Final = "factor"
SHARE: Final = "share"


@dataclass(frozen=True, slots=True)
class Column:
    """One number of every candidate.

    Attributes:
        heading: over the column, in two short lines.
        find: label of a candidate -> the number.
        form: ``percent`` with its interval, ``share`` in percent without one, ``kilobytes`` or
            ``factor``.
        null: metric whose p-value of perfect calibration belongs to it; empty for none.
    """

    heading: str
    find: Callable[[str], Number]
    form: str
    null: str = ""


def columns_of(results: Results) -> tuple[Column, ...]:
    """Return the columns: quality, corrupted quality, calibration, sizes, time."""

    def column(
        heading: str, metric: str, place: str = "", form: str = PERCENT, null: str = ""
    ) -> Column:
        split = "" if metric.startswith("cost.") else results.printing
        selector = Selector(metric, place)
        return Column(
            heading, lambda label: results.numbers.find(label, split, selector), form, null
        )

    error = calibration_error(results)
    quality: tuple[Column, ...]
    if results.spec.task == "detection":
        quality = (
            column(f"{short_precision(results)}\n%", results.spec.quality, "clean"),
            column("mPC\n%", MPC, "corrupted"),
            column("rPC\n%", RPC, "corrupted", SHARE),
            column("D-ECE\n%", error, "clean", null=error),
        )
    else:
        quality = (
            column("top-1\n%", results.spec.quality, "clean"),
            column("err. corr.\n%", "robustness.mean_error"),
            column("ECE\n%", error, "clean", null=error),
        )
    return (
        *quality,
        column("file\nkB", "cost.bytes", form=KILOBYTES),
        column("zip\nkB", "cost.bytes_zip", form=KILOBYTES),
        column("time\nx", "cost.latency_ratio", form=FACTOR),
    )


def meanings_of(results: Results) -> tuple[str, ...]:
    """Return what the columns mean, one phrase each."""
    corrupted = sum(not c.is_clean for c in results.spec.conditions_list())
    if results.spec.task == "detection":
        return (
            f"mPC is the mean {short_precision(results)} over {corrupted} corrupted condition(s), "
            "rPC its share of the own clean one",
            "D-ECE is measured on clean images",
        )
    return (
        f"err. corr. is the mean top-1 error over {corrupted} corrupted condition(s)",
        "ECE is measured on clean images",
    )


def calibration_error(results: Results) -> str:
    """Return the calibration error as the study spells it, with its settings."""
    plain = "detection.d_ece" if results.spec.task == "detection" else "calibration.ece"
    return next((name for name in results.metrics if bare_name(name) == plain), plain)


def short_precision(results: Results) -> str:
    """Return the usual short name of the average precision: AP, AP50."""
    return bare_name(results.spec.quality).rpartition(".")[2].upper()
