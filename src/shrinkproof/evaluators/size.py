"""How large a candidate is: parameters, operations, bytes of the real files, and ratios of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from shrinkproof.engines.inline import attempt
from shrinkproof.errors import StoreError
from shrinkproof.evaluators.subject import Subject
from shrinkproof.metrics.names import METRIC_NAMES
from shrinkproof.protocols import Measurement
from shrinkproof.records import Condition, Failure
from shrinkproof.registry import component

_BASIS: Final = {
    "cost.parameters": "derived",
    "cost.nonzero": "derived",
    "cost.macs": "derived",
    "cost.bytes": "measured",
    "cost.bytes_zip": "measured",
    "cost.bytes_dense": "measured",
    "cost.bytes_packed": "measured",
}

_COMPRESSION: Final = {
    "cost.compression_ratio": "cost.bytes",
    "cost.compression_ratio_zip": "cost.bytes_zip",
    "cost.compression_ratio_packed": "cost.bytes_packed",
}
"""Baseline divided by candidate, both in the same form."""

_REMAINING: Final = {
    "cost.parameters_ratio": "cost.parameters",
    "cost.macs_ratio": "cost.macs",
}
"""Candidate divided by baseline."""

_UNMADE: Final = "the baseline was not made"


@component
class Size:
    """Parameters, non-zero parameters and operations; bytes of the real files; ratios.

    Parameters and multiply-accumulates are counted on the baked twin. Bytes are those of the
    exported file as it would ship, plain and deflated, and of the weights, dense and packed. A
    compression ratio is the baseline's bytes divided by the candidate's, in the same form.
    """

    name: ClassVar[str] = "size"
    version: ClassVar[int] = 2
    exclusive: ClassVar[bool] = False

    def measure(
        self,
        subjects: Sequence[Subject],
        condition: Condition,  # noqa: ARG002 - sizes do not depend on the weather
    ) -> Iterator[tuple[Subject, Sequence[Measurement] | Failure]]:
        """Yield the sizes that preparing the candidates has established."""
        for subject in subjects:
            yield subject, attempt(_sizes, subject)


def waits_for_baseline(numbers: Iterable[Measurement]) -> bool:
    """Return whether a candidate lacks its ratios because its baseline had not been made."""
    return any(m.reason == _UNMADE for m in numbers)


def _sizes(subject: Subject) -> list[Measurement]:
    own = {metric: _fact(subject.facts, metric, subject.folder) for metric in _BASIS}
    why = {metric: str(reason) for metric, reason in subject.facts.get("undefined", {}).items()}
    found = [
        _measurement(metric, own[metric], basis, why.get(metric, ""))
        for metric, basis in _BASIS.items()
    ]
    reference = _read(subject.reference / "complete.json")
    if reference is None:
        ratios = (*_COMPRESSION, *_REMAINING)
        return found + [_measurement(metric, None, "derived", _UNMADE) for metric in ratios]
    base = {metric: _fact(reference, metric, subject.reference) for metric in _BASIS}
    lacking = {
        metric: f"the baseline has none: {reason}"
        for metric, reason in reference.get("undefined", {}).items()
    } | why
    for metric, size in {**_COMPRESSION, **_REMAINING}.items():
        mine, other = own[size], base[size]
        if mine is None or other is None:
            found.append(_measurement(metric, None, "derived", lacking.get(size, "")))
        elif metric in _COMPRESSION:
            found.append(_ratio(metric, other, mine, "candidate"))
        else:
            found.append(_ratio(metric, mine, other, "baseline"))
    return found


def _read(path: Path) -> Mapping[str, Any] | None:
    """Return the sizes of the baseline, or None where it was not made.

    Raises:
        StoreError: the file is damaged.
    """
    try:
        facts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path}: must hold the sizes of the baseline, got {type(error).__name__}; delete its "
            "folder and run the study again"
        ) from error
    return facts


def _fact(facts: Mapping[str, Any], metric: str, folder: Path) -> float | None:
    """Return a size of a candidate; None where it has none, such as that of a missing file.

    Raises:
        StoreError: nobody knows it.
    """
    if metric not in facts:
        raise StoreError(
            f"{folder}: the sizes of a candidate must include {metric}, got {', '.join(facts)}; "
            "it was made by an earlier release: delete its folder and run the study again"
        )
    return None if facts[metric] is None else float(facts[metric])


def _ratio(metric: str, above: float, below: float, who: str) -> Measurement:
    if below == 0:
        return _measurement(metric, None, "derived", f"the {who} has none to divide by")
    return _measurement(metric, above / below, "derived")


def _measurement(metric: str, value: float | None, basis: str, reason: str = "") -> Measurement:
    return Measurement(
        metric=metric,
        value=value,
        unit=METRIC_NAMES[metric].unit,
        better=METRIC_NAMES[metric].better.value,
        basis=basis,
        reason=reason,
    )
