"""From cells and derived numbers to records: one row per number, with its caveats."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from shrinkproof.evaluators.fidelity import FLOAT32
from shrinkproof.metrics.agreement import METRICS as AGREEMENT
from shrinkproof.metrics.agreement import UNMATCHED, spelled_for
from shrinkproof.metrics.names import SCALED, SCALED_BY_BASELINE
from shrinkproof.metrics.robustness import GROUPS
from shrinkproof.metrics.spelling import described
from shrinkproof.protocols import Measurement
from shrinkproof.records import CLEAN, Cell, Condition, Record
from shrinkproof.summary import CORRUPTED, POOLED

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results

_SIZES: Final = (
    *("cost.parameters", "cost.nonzero", "cost.macs"),
    *("cost.bytes", "cost.bytes_zip", "cost.bytes_dense", "cost.bytes_packed"),
    *("cost.compression_ratio", "cost.compression_ratio_zip", "cost.compression_ratio_packed"),
    *("cost.parameters_ratio", "cost.macs_ratio"),
)
_LATENCIES: Final = (
    *("cost.latency_median", "cost.latency_p95", "cost.latency_ratio"),
    "cost.memory_peak",
)


def measured_records(results: Results) -> Iterator[Record]:
    """Yield what was measured, in the order of the plan; what failed has a reason."""
    failures = {failure["key"]: failure["message"] for failure in results.failures}
    for cell in results.cells:
        shard = results.shards.get(cell.key)
        if shard is not None:
            for measurement in shard.measurements:
                yield _record(results, cell, measurement, shard.environment)
            continue
        reason = failures.get(cell.key) or failures.get(cell.candidate)
        if reason is not None:
            for measurement in _without_value(results, cell, reason):
                yield _record(results, cell, measurement, "", failed=True)


def _without_value(results: Results, cell: Cell, reason: str) -> Iterator[Measurement]:
    names = {
        "scores": results.metrics,
        "saliency": _of_saliency(results, cell.method),
        "fidelity": FLOAT32,
        "size": _SIZES,
        "latency": _LATENCIES,
    }[cell.evaluator]
    for name in names:
        known = described(name)
        unit, better = (known.unit, known.better.value) if known else ("", "none")
        yield Measurement(name, None, unit, better, reason=reason)


def _of_saliency(results: Results, method: str) -> tuple[str, ...]:
    """Return the names of the metrics of a method."""
    spec = results.spec.measure.saliency
    first = "" if spec is None else spec.methods_with_settings()[0][0]
    names = AGREEMENT if results.spec.task == "classification" else (*AGREEMENT, UNMATCHED)
    return tuple(spelled_for(name, "" if method == first else method) for name in names)


def derived_records(results: Results) -> Iterator[Record]:
    """Yield what was computed from several cells."""
    for row in results.summary.rows:
        condition = Condition(row.condition, row.severity) if row.severity else CLEAN
        cell = Cell("", row.candidate, "summary", row.form, row.split, condition)  # type: ignore[arg-type]
        yield _record(results, cell, row.measurement, "", condition=row.condition)


def _record(
    results: Results,
    cell: Cell,
    measurement: Measurement,
    environment: str,
    *,
    failed: bool = False,
    condition: str | None = None,
) -> Record:
    candidate = results.by_key[cell.candidate]
    control = results.by_key.get(candidate.control)
    dirty = _dirty(results, candidate.model, cell.split, measurement.metric)
    status = "failed" if failed else "undefined" if measurement.value is None else "ok"
    told = [measurement.reason, *_origins(results, cell, condition)]
    if dirty and status == "ok":
        status = "contaminated"
        told.insert(0, dirty)
    reason = "; ".join(text for text in told if text)
    name = cell.condition.corruption if cell.split else ""
    is_imitation = cell.form == "twin" and candidate.is_imitated
    return Record(
        study=results.spec.full_name,
        cell=cell.key,
        model=candidate.model,
        recipe=candidate.recipe,
        repeat=candidate.repeat,
        role=candidate.role,
        control="" if control is None else control.label,
        evaluator=cell.evaluator,
        form=cell.form,
        split=cell.split,
        slice=measurement.slice,
        condition=name if condition is None else condition,
        severity=cell.condition.severity,
        metric=measurement.metric,
        value=measurement.value,
        unit=measurement.unit,
        better=measurement.better,
        low=measurement.low,
        high=measurement.high,
        interval=measurement.interval,
        count=measurement.count,
        basis="simulated" if is_imitation else measurement.basis,
        status=status,
        reason=reason,
        environment=environment,
    )


def _dirty(results: Results, model: str, split: str, metric: str) -> str:
    """Return why a number cannot be trusted: images of its split, or of its temperature."""
    splits = results.data["contamination"].get(model, {})
    found = [splits.get(split, "")]
    if (SCALED in metric or SCALED_BY_BASELINE in metric) and splits.get("select"):
        found.append(f"its temperature was fitted on the select split: {splits['select']}")
    return "; ".join(filter(None, found))


def _origins(results: Results, cell: Cell, condition: str | None) -> Iterator[str]:
    """Yield what a record says about where its corrupted images come from."""
    told = results.data.get("origins", {}).get(cell.split, {})
    place = condition or cell.condition.corruption
    if not cell.condition.is_clean:
        found = [told.get(str(cell.condition), "")]
    elif place in (CORRUPTED, POOLED):
        found = list(told.values())
    else:
        members = GROUPS.get(place, (place,))
        found = [text for at, text in told.items() if Condition.parse(at).corruption in members]
    yield from filter(None, dict.fromkeys(found))
