"""From the results of a run to the plain values of its page."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from shrinkproof import __version__
from shrinkproof.records import Candidate, Change, Json
from shrinkproof.report.page import Page
from shrinkproof.results.deciding import with_trades
from shrinkproof.results.diagrams import diagrams
from shrinkproof.results.hits import images_hit_hardest
from shrinkproof.results.scenes import scene_pictures

if TYPE_CHECKING:
    from shrinkproof.results.reading import Results


def make_page(results: Results) -> Page:
    """Return the page of a run."""
    return Page(
        study=results.spec.full_name,
        generated=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        version=__version__,
        records=results.frame(),
        candidates=results.candidates,
        decision=results.decision and with_trades(results, results.decision),
        decision_objectives=tuple(str(o.selector) for o in results.objectives),
        reliability=dict(diagrams(results)),
        exhibits=_exhibits(results),
        margins=dict(results.spec.measure.margins),
        changes={c.label: _changes(results, c) for c in results.candidates},
        failures=[
            {"what": f["label"], "error": f["type"], "message": f["message"]}
            for f in results.failures
        ],
        caveats=results.caveats,
        provenance=dict(_provenance(results)),
        quality=results.spec.quality,
        printing=results.printing,
        deciding=results.deciding,
        form=results.form,
        certificate=results.certificate,
        uncertainty=None if results.uncertainty is None else results.uncertainty.as_json(),
        fronts=[front.as_json() for front in results.fronts],
        rules=[rule.as_json() for rule in results.rules_on_report],
        images=images_hit_hardest(results),
        pictures=scene_pictures(results),
    )


def _exhibits(results: Results) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for item in results.summary.exhibits:
        found.setdefault(item.kind, []).append(item.value)
    return found


def _changes(results: Results, candidate: Candidate) -> list[Change]:
    found = results.store.read_json(f"candidates/{candidate.key}/changes.json")
    return [Change.from_json(value) for value in found or []]


def _provenance(results: Results) -> Iterator[tuple[str, str]]:
    store = results.store
    yield "study file", (store.path / "study.yaml").read_text("utf-8")
    inputs: Mapping[str, Any] = store.read_json("inputs.json") or {}
    limit = f" --limit {inputs['limit']}" if inputs.get("limit") else ""
    roots = "".join(f" --root {name}=..." for name in sorted(inputs.get("roots", {})))
    yield (
        "commands",
        f"shrinkproof run study.yaml --out DIR{limit}{roots}\nshrinkproof report DIR",
    )
    environments = store.environments()
    for key, environment in environments.items():
        yield f"environment {key}", json.dumps(environment, indent=1, sort_keys=True)
    yield (
        "data",
        "\n".join(
            f"{name}: {split['count']} images of {split['source']}, {split['fingerprint']}"
            for name, split in results.data["splits"].items()
        ),
    )
    yield "candidates", "\n".join(f"{c.key}  {c.label}" for c in results.candidates)
