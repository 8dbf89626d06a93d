"""How large a candidate is: parameters, operations, bytes of the real file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

from shrinkproof.engines.inline import attempt
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.protocols import Measurement
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import component

_BASIS = {
    "cost.parameters": "derived",
    "cost.nonzero": "derived",
    "cost.macs": "derived",
    "cost.bytes": "measured",
    "cost.bytes_zip": "measured",
}


@component
class Size:
    """Parameters, non-zero parameters and operations; bytes of the real file.

    Parameters and multiply-accumulates are counted on the baked twin; bytes are those of the
    exported file as it would ship, plain and deflated.
    """

    name: ClassVar[str] = "size"
    version: ClassVar[int] = 1
    exclusive: ClassVar[bool] = False

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - sizes do not depend on the weather
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield the sizes that preparing the candidates has established."""
        for subject in subjects:
            yield subject, attempt(_sizes, subject)


def _sizes(subject: Subject) -> list[Measurement]:
    return [
        Measurement(
            metric=metric,
            value=float(subject.facts[metric]),
            unit=METRIC_NAMES[metric].unit,
            better=METRIC_NAMES[metric].better.value,
            basis=basis,
        )
        for metric, basis in _BASIS.items()
    ]
