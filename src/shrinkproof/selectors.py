"""The small grammar of ``select:``: which number is meant, and what it must satisfy."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_OPERATORS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONSTRAINT: Final = re.compile(
    r"^\s*(?P<selector>[^\s{}<>]+(\{[^{}]*\}[^\s{}<>]*)?)\s*(?P<op>>=|<=|>|<)\s*(?P<number>\S+)\s*$"
)
_SELECTOR: Final = re.compile(
    r"^(?P<metric>[a-z][a-z0-9_]*(\.[a-z0-9_]+)+(\[[^\]\s@]*\])?)"
    r"(\{(?P<part>[^{}=]+=[^{}]+)\})?"
    r"(@(?P<condition>[a-z][a-z0-9_-]*)(:(?P<severity>[1-5]))?)?$"
)


@dataclass(frozen=True, slots=True, order=True)
class Selector:
    """One number of a candidate: ``metric``, ``metric@condition`` or ``metric{part}@condition``.

    The condition is ``clean``, ``corrupted`` (the mean over all corrupted conditions of the
    study), ``pooled`` (their images as one sample), a corruption (the mean over its severities in
    the study), or a corruption at a severity. A metric may carry settings,
    ``calibration.ece[bins=10]@clean``. Metrics without a condition (cost, mean corrupted error) are
    written alone. A part of the images is one class, ``accuracy.recall{class=cat}@clean``, or one
    value of a column of the data, ``accuracy.top1{weather=night}@fog:3``.
    """

    metric: str
    condition: str = ""
    severity: int = 0
    part: str = ""

    def __str__(self) -> str:
        """Return the spelling of the study file."""
        part = f"{{{self.part}}}" if self.part else ""
        at = f"@{self.condition}" if self.condition else ""
        return f"{self.metric}{part}{at}" + (f":{self.severity}" if self.severity else "")

    @classmethod
    def parse(cls, text: str) -> Selector:
        """Return the selector spelled ``accuracy.top1@fog:3``.

        Raises:
            ValueError: the text is not a selector.
        """
        found = _SELECTOR.fullmatch(text)
        if not found:
            raise ValueError(
                f"must be 'metric', 'metric@condition' or 'metric@corruption:severity', a part of "
                f"the images as 'metric{{column=value}}@condition', got {text!r}"
            )
        return cls(
            found["metric"],
            found["condition"] or "",
            int(found["severity"] or 0),
            found["part"] or "",
        )


@dataclass(frozen=True, slots=True)
class Constraint:
    """A hard rule, ``selector op number``; parsed, never evaluated as code."""

    selector: Selector
    op: str
    number: float

    def __str__(self) -> str:
        """Return the spelling of the study file."""
        return f"{self.selector} {self.op} {self.number:.15g}"

    def is_met(self, value: float) -> bool:
        """Return whether a value satisfies the rule."""
        return _OPERATORS[self.op](value, self.number)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Return the constraint spelled ``accuracy.top1@clean >= 0.9``.

        Raises:
            ValueError: the text is not a constraint.
        """
        found = _CONSTRAINT.fullmatch(text)
        if not found:
            raise ValueError(f"must be 'selector op number' with op one of >= <= > <, got {text!r}")
        try:
            number = float(found["number"])
        except ValueError:
            raise ValueError(f"must end in a number, got {found['number']!r}") from None
        if not math.isfinite(number):
            raise ValueError(f"must end in a finite number, got {found['number']!r}")
        return cls(Selector.parse(found["selector"]), found["op"], number)
