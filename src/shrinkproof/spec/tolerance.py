"""By how much a number may be worse and still count as no worse, as ``select.tolerance`` says."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, Discriminator, Field, Tag

from shrinkproof.errors import PluginError
from shrinkproof.metrics.spelling import described
from shrinkproof.selectors import Selector
from shrinkproof.spec.document import Path
from shrinkproof.spec.problems import Problems, unknown

if TYPE_CHECKING:
    from shrinkproof.spec.schema import SelectSpec

OF_SIZES: Final = 0.01
"""Sizes and operations that differ by less than this share are equal."""

OF_TIMES: Final = 0.05
"""Times and memory repeat themselves to about this share, see docs/decisions/0016."""

COSTS: Final = "cost."
TIMED: Final = ("cost.latency", "cost.memory")
"""Costs that are measured again and again, and differ every time; all others are counted."""

_PERCENT: Final = re.compile(r"^\s*(?P<number>[0-9.eE+-]+)\s*%\s*$")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The smallest difference that matters.

    Attributes:
        number: in the metric's unit, or a share of its value.
        is_relative: whether it is a share.
        source: ``select.tolerance``, ``measure.margins``, or ``default``.
    """

    number: float
    is_relative: bool
    source: str

    def of(self, value: float) -> float:
        """Return it in the unit of a metric whose smallest value is given."""
        return self.number * abs(value) if self.is_relative else self.number


def parse_tolerance(value: float | str, source: str = "select.tolerance") -> Tolerance:
    """Return the tolerance spelled ``0.01`` or ``1 %``.

    Raises:
        ValueError: the text is no percentage, or the number is negative or not finite.
    """
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    try:
        number = float(value if found is None else found["number"])
    except ValueError:
        raise ValueError(f"must be a number or a percentage like '1 %', got {value!r}") from None
    if isinstance(value, str) and found is None:
        raise ValueError(f"must be a number or a percentage like '1 %', got {value!r}")
    if not 0 <= number < math.inf:
        raise ValueError(f"must be finite and not negative, got {value!r}")
    return Tolerance(number / 100 if found else number, found is not None, source)


def _percentage(value: str) -> str:
    parse_tolerance(value)
    return value


def _spelled_as(value: object) -> str:
    """Tell texts from numbers, so that a finding is about the one that was written."""
    return "text" if isinstance(value, str) else "number"


ToleranceField = Annotated[
    Annotated[float, Field(ge=0, allow_inf_nan=False), Tag("number")]
    | Annotated[str, AfterValidator(_percentage), Tag("text")],
    Discriminator(_spelled_as),
]
"""A number in the metric's unit, or a percentage of its value."""


def tolerances_of(
    selectors: Iterable[Selector], select: SelectSpec | None, margins: Mapping[str, float]
) -> dict[str, Tolerance]:
    """Return the tolerance of every objective, by its spelling.

    What ``select.tolerance`` says, else 1 % for sizes and operations and 5 % for times and memory,
    else the margin of the metric in ``measure.margins``, else 0.

    Args:
        selectors: the objectives.
        select: the block of the study file, if it has one.
        margins: metric -> by how much it may be worse and still count as kept.
    """
    found = {}
    for selector in selectors:
        text = str(selector)
        written = None if select is None else select.tolerance.get(text)
        if written is not None:
            found[text] = parse_tolerance(written)
        elif selector.metric.startswith(COSTS):
            share = OF_TIMES if selector.metric.startswith(TIMED) else OF_SIZES
            found[text] = Tolerance(share, is_relative=True, source="default")
        elif selector.metric in margins:
            found[text] = Tolerance(
                margins[selector.metric], is_relative=False, source="measure.margins"
            )
        else:
            found[text] = Tolerance(0.0, is_relative=False, source="default")
    return found


def check_tolerances(problems: Problems, content: Any, objectives: Collection[str]) -> None:
    """Note everything that is wrong with ``select.tolerance``.

    Args:
        problems: where the findings go.
        content: what stands there; values of another type were noted before.
        objectives: the spelled objectives of the study.
    """
    if not isinstance(content, Mapping):
        return
    for name, value in content.items():
        path: Path = ("select", "tolerance", name)
        rule = _name_rule(str(name), objectives)
        if rule:
            problems.add(path, rule, is_key=True)
            continue
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            continue
        try:
            tolerance = parse_tolerance(value)
        except ValueError:
            continue  # the type of the field says so
        if tolerance.is_relative and not str(name).startswith(COSTS):
            problems.add(
                path,
                f"a percentage needs a cost, {name} has its own scale; write the difference that "
                f"matters as a number, for example {tolerance.number:g}",
            )


def _name_rule(name: str, objectives: Collection[str]) -> str:
    try:
        metric = described(Selector.parse(name).metric)
    except (ValueError, PluginError) as error:
        return str(error)
    if name in objectives:
        return ""
    if metric is None:
        return unknown(f"unknown metric {name!r}", name, objectives)
    return unknown(f"{name} is no objective of this study", name, objectives)
